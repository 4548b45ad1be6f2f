//! What portolan knows.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Asked, Mood,
    wire::{Request, What},
};

/// The port that every node takes frames at.
const FRAMES: u16 = 4789;

/// An entry of a log: its name, and its bytes.
type Entry = ([u8; 16], Vec<u8>);

#[derive(Default)]
pub(super) struct State {
    macs: BTreeMap<(u32, [u8; 6]), Ipv4Addr>,
    ips: BTreeMap<(u32, IpAddr), [u8; 6]>,
    logs: BTreeMap<IpAddr, VecDeque<Entry>>,
    pub(super) mood: Mood,
    pub(super) asked: Vec<Asked>,
    pub(super) violations: Vec<String>,
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

impl State {
    pub(super) fn node(&mut self, underlay: Ipv4Addr) {
        self.logs.entry(IpAddr::V4(underlay)).or_default();
    }

    pub(super) fn log(&self, underlay: Ipv4Addr) -> usize {
        self.logs.get(&IpAddr::V4(underlay)).map_or(0, VecDeque::len)
    }

    fn announce(&mut self, kind: u32, rest: &[u8]) {
        for log in self.logs.values_mut() {
            let id = *uuid::Uuid::new_v4().as_bytes();
            log.push_back((id, [&kind.to_be_bytes()[..], &id, rest].concat()));
        }
    }

    fn announce_mac(&mut self, vnet: u32, mac: [u8; 6]) {
        self.announce(1, &[&mac[..], &[0, 0], &vnet.to_be_bytes()].concat());
    }

    fn announce_ip(&mut self, vnet: u32, vlan: u16, ip: IpAddr) {
        self.announce(2, &[&sixteen(ip)[..], &[0, 0], &vlan.to_be_bytes(), &vnet.to_be_bytes()].concat());
    }

    pub(super) fn place(&mut self, vnet: u32, vlan: u16, mac: [u8; 6], ips: &[IpAddr], underlay: Ipv4Addr) {
        self.node(underlay);
        if self.macs.insert((vnet, mac), underlay).is_some_and(|before| before != underlay) {
            self.announce_mac(vnet, mac);
        }
        for ip in ips {
            if self.ips.insert((vnet, *ip), mac).is_some_and(|before| before != mac) {
                self.announce_ip(vnet, vlan, *ip);
            }
        }
    }

    pub(super) fn remove(&mut self, vnet: u32, vlan: u16, mac: [u8; 6]) {
        if self.macs.remove(&(vnet, mac)).is_some() {
            self.announce_mac(vnet, mac);
        }
        let gone: Vec<IpAddr> = self.ips.iter().filter(|((of, _), owner)| *of == vnet && **owner == mac).map(|((_, ip), _)| *ip).collect();
        for ip in gone {
            self.ips.remove(&(vnet, ip));
            self.announce_ip(vnet, vlan, ip);
        }
    }

    fn find(&self, vnet: u32, mac: [u8; 6]) -> Option<Ipv4Addr> {
        self.macs.get(&(vnet, mac)).copied()
    }

    /// The operation and body of the answer.
    pub(super) fn answer(&mut self, request: &Request, fatal: bool) -> Result<(u16, Vec<u8>), String> {
        let nowhere = [0; 16];
        let place = |at: Option<Ipv4Addr>| at.map_or((0, nowhere), |ip| (FRAMES, sixteen(IpAddr::V4(ip))));
        let status = |found: bool| match (fatal, found) {
            (true, _) => 1u32,
            (false, true) => 0,
            (false, false) => 2,
        };
        Ok(match &request.what {
            What::Ping => (2, Vec::new()),
            What::Mac { vnet, mac } => {
                let at = self.find(*vnet, *mac).filter(|_| !fatal);
                let (port, ip) = place(at);
                let status = u16::try_from(status(at.is_some())).unwrap_or(1);
                (4, [&status.to_be_bytes()[..], &port.to_be_bytes(), &ip].concat())
            }
            What::Ip { vnet, ip } => {
                let owner = self.ips.get(&(*vnet, *ip)).copied().filter(|_| !fatal);
                let at = owner.and_then(|mac| self.find(*vnet, mac));
                let ((port, underlay), mac) = (place(at), owner.filter(|_| at.is_some()).unwrap_or_default());
                (6, [&status(at.is_some()).to_be_bytes()[..], &mac, &port.to_be_bytes(), &underlay].concat())
            }
            What::Log { most, ip } => {
                let log = self.logs.get(ip).ok_or_else(|| format!("the log of {ip}, which is no node, was asked for"))?;
                let mut body = status(true).to_be_bytes().to_vec();
                let mut room = *most;
                for (_, entry) in log {
                    if entry.len() > room || fatal {
                        break;
                    }
                    room -= entry.len();
                    body.extend(entry);
                }
                (10, body)
            }
            What::Followed(ids) => {
                for id in ids {
                    let log = self.logs.values_mut().find(|log| log.iter().any(|(known, _)| known == id));
                    let log = log.ok_or_else(|| format!("entry {} was followed, which is in no log", Ipv6Addr::from(*id)))?;
                    log.retain(|(known, _)| known != id);
                }
                (12, status(true).to_be_bytes().to_vec())
            }
        })
    }
}
