//! One NIC of the host, and the routes of a document.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use triton_types::{Mac, NicTag};

use crate::{
    Problem,
    document::via,
    fields::{Object, Problems, shown_value},
    problem::shown,
};

/// A NIC of the host, physical or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnic {
    /// Its MAC address.
    pub mac: Mac,
    /// The network that it is on.
    pub tag: NicTag,
    /// Its VLAN; 0: untagged.
    pub vlan_id: u16,
    /// Bytes, 576 to 9000; absent: the tag's.
    pub mtu: Option<u32>,
    /// Its addresses, with the host's part.
    pub addresses: Vec<IpNet>,
    /// It asks for an IPv4 address.
    pub dhcp: bool,
    /// It takes IPv6 addresses from router advertisements.
    pub autoconf: bool,
    /// Its routers.
    pub gateways: Vec<IpAddr>,
    /// Its router comes before others'.
    pub primary: bool,
    /// The overlays whose encapsulated frames go through it (`overlay_nic_tags_provided`).
    pub overlay_tags: Vec<NicTag>,
}

/// What a static route leads through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A router.
    Router(IpAddr),
    /// The destination is on this NIC's link.
    Nic(Mac),
}

impl Vnic {
    /// Reads an entry. None if it cannot be configured, with the reason among `problems`.
    pub(crate) fn read(entry: &Object<'_>, problems: &mut Problems) -> Option<Self> {
        let before = problems.0.len();
        let mac = entry.parsed("mac", "a MAC address", problems);
        let tag = entry.parsed("nic_tag", "a nic tag", problems);
        let (Some(mac), Some(tag)) = (mac, tag) else {
            if problems.0.len() == before {
                problems.value(entry.place.trim_end_matches('.'), "a nic needs mac and nic_tag: it is left out");
            }
            return None;
        };
        let vlan_id = vlan(entry, problems)?;
        let mut vnic = Self {
            mac,
            tag,
            vlan_id,
            mtu: entry.mtu(576, problems),
            addresses: Vec::new(),
            dhcp: false,
            autoconf: false,
            gateways: Vec::new(),
            primary: entry.get("primary").is_some_and(|value| value == true || value == "true"),
            overlay_tags: entry.list("overlay_nic_tags_provided", "a nic tag", problems),
        };
        vnic.read_addresses(entry, problems);
        if vnic.addresses.is_empty() && !vnic.dhcp && !vnic.autoconf {
            problems.value(entry.place.trim_end_matches('.'), format!("nic {mac} has no usable address: it is left out"));
            return None;
        }
        let gateway = entry.parsed("gateway", "an IP address", problems);
        for gateway in gateway.into_iter().chain(entry.list("gateways", "an IP address", problems)) {
            if !vnic.gateways.contains(&gateway) {
                vnic.gateways.push(gateway);
            }
        }
        Some(vnic)
    }

    /// `ip` with `netmask`, and the elements of `ips`, which carry their prefix length.
    fn read_addresses(&mut self, entry: &Object<'_>, problems: &mut Problems) {
        if let Some(ip) = entry.text("ip", problems) {
            match address(ip, entry, problems) {
                Ok(address) => self.add(address),
                Err(reason) => problems.value(entry.place("ip"), reason),
            }
        }
        for (index, element) in entry.array("ips", problems).iter().enumerate() {
            match element.as_str().and_then(with_prefix) {
                Some(address) => self.add(address),
                None => {
                    let reason = format!("{} is no address with a prefix length", shown_value(element));
                    problems.value(format!("{}[{index}]", entry.place("ips")), reason);
                }
            }
        }
    }

    fn add(&mut self, address: Wanted) {
        match address {
            Wanted::Dhcp => self.dhcp = true,
            Wanted::Autoconf => self.autoconf = true,
            Wanted::Static(net) if self.addresses.contains(&net) => {}
            Wanted::Static(net) => self.addresses.push(net),
        }
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Dhcp,
    Autoconf,
    Static(IpNet),
}

fn with_prefix(text: &str) -> Option<Wanted> {
    match text {
        "dhcp" => Some(Wanted::Dhcp),
        "addrconf" => Some(Wanted::Autoconf),
        _ => text.parse().ok().filter(usable).map(Wanted::Static),
    }
}

fn address(ip: &str, entry: &Object<'_>, problems: &mut Problems) -> Result<Wanted, String> {
    if let Some(address) = with_prefix(ip) {
        return Ok(address);
    }
    let ip: IpAddr = ip.parse().map_err(|_| format!("{} is no IP address", shown(ip)))?;
    let Some(mask) = entry.get("netmask") else { return Err(format!("{ip} has no netmask")) };
    let text = mask.as_str().map_or_else(|| mask.to_string(), str::to_owned);
    let net = match (ip, text.parse::<Ipv4Addr>(), text.parse::<u8>()) {
        (IpAddr::V4(ip), Ok(mask), _) => Ipv4Net::with_netmask(ip, mask).ok().map(IpNet::V4),
        (IpAddr::V4(ip), _, Ok(length)) => Ipv4Net::new(ip, length).ok().map(IpNet::V4),
        (IpAddr::V6(ip), _, Ok(length)) => Ipv6Net::new(ip, length).ok().map(IpNet::V6),
        _ => None,
    };
    match net {
        Some(net) if usable(&net) => Ok(Wanted::Static(net)),
        Some(net) => Err(format!("{net} cannot be a host's address")),
        None => {
            problems.value(entry.place("netmask"), format!("{} is no netmask", shown_value(mask)));
            Err(format!("{ip} has no netmask that can be used"))
        }
    }
}

/// An address that a link of the host can have.
fn usable(net: &IpNet) -> bool {
    let ip = net.addr();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !broadcast
}

/// The VLAN, 0 if none is given. An address must never be untagged because its VLAN was not understood.
fn vlan(entry: &Object<'_>, problems: &mut Problems) -> Option<u16> {
    let Some(given) = entry.number("vlan_id") else { return Some(0) };
    let vlan = given.and_then(|vlan| u16::try_from(vlan).ok()).filter(|vlan| *vlan == 0 || (2..=4094).contains(vlan));
    if vlan.is_none() {
        let value = entry.get("vlan_id").map(shown_value).unwrap_or_default();
        problems.0.push(Problem::BadVlan { place: entry.place("vlan_id"), value });
    }
    vlan
}

/// The `routes` of a document or of a NIC.
pub(crate) fn routes(object: &Object<'_>, problems: &mut Problems) -> Vec<(IpNet, Via)> {
    let mut routes: Vec<(IpNet, Via)> = Vec::new();
    for (destination, value) in object.entries("routes", problems) {
        let net = destination.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| destination.parse::<IpAddr>().map(IpNet::from));
        match (net, via(value)) {
            (Ok(net), Ok(via)) => routes.push((net, via)),
            (Err(_), _) => {
                problems.0.push(Problem::Route { destination: shown(destination), reason: "neither a network nor an address".to_owned() });
            }
            (Ok(net), Err(reason)) => problems.0.push(Problem::Route { destination: net.to_string(), reason }),
        }
    }
    routes
}
