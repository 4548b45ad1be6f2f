//! What is known of one network, and what waits for an answer.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use triton_svp::Underlay;
use triton_types::Mac;

use crate::fabric::frame::Asker;

/// Addresses whose node is known. When there are more, those that were not asked for the longest time are forgotten.
const PLACES: usize = 4096;
/// Addresses whose owner is known.
const OWNERS: usize = 8192;
/// Addresses that are nobody's.
const NOBODIES: usize = 4096;
/// Addresses that are waited for.
const WAITING: usize = 256;
/// Guests that wait for, or were told, one address.
const ASKERS: usize = 32;
/// VLANs in which one address is used.
const VLANS: usize = 16;
/// What the kernel was told is not told again for so long, whatever frames come.
const TOLD: Duration = Duration::from_secs(1);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Where is it?
    Mac(Mac),
    /// Whose is it?
    Ip(IpAddr),
}

#[derive(Debug)]
struct Place {
    at: Underlay,
    vlans: Vec<u16>,
    used: Instant,
    told: Instant,
}

#[derive(Debug)]
struct Owner {
    mac: Mac,
    askers: Vec<Asker>,
    used: Instant,
}

/// Those who wait for one answer.
#[derive(Debug)]
pub(super) struct Wait {
    /// Guests, and what they asked for.
    pub(super) askers: Vec<(IpAddr, Asker)>,
    /// VLANs in which it is used.
    pub(super) vlans: Vec<u16>,
    since: Instant,
    under_way: bool,
    /// It was changed since it was asked for.
    stale: bool,
}

/// What became of a place.
pub(super) struct Placed {
    /// The VLANs in which the kernel has to be told of it.
    pub(super) learn: Vec<u16>,
    /// What had to go for it.
    pub(super) evicted: Option<(Mac, Vec<u16>)>,
}

/// One network.
#[derive(Debug, Default)]
pub(super) struct Part {
    places: HashMap<Mac, Place>,
    owners: HashMap<IpAddr, Owner>,
    nobody: HashMap<Key, Instant>,
    waiting: HashMap<Key, Wait>,
    line: VecDeque<Key>,
    /// Addresses that an earlier agent learned, to be asked for when there is time.
    unsure: VecDeque<Mac>,
}

fn add<T: PartialEq>(list: &mut Vec<T>, element: T, most: usize) -> bool {
    let new = !list.contains(&element) && list.len() < most;
    if new {
        list.push(element);
    }
    new
}

impl Part {
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Whose `key` is, and where that is with whether the kernel was told of late.
    pub(super) fn find(&mut self, key: Key, now: Instant) -> (Option<Mac>, Option<(Underlay, bool)>) {
        let owner = match key {
            Key::Mac(mac) => Some(mac),
            Key::Ip(ip) => self.owners.get_mut(&ip).map(|owner| {
                owner.used = now;
                owner.mac
            }),
        };
        let place = owner.and_then(|mac| self.places.get_mut(&mac)).map(|place| {
            place.used = now;
            let told = now.duration_since(place.told) < TOLD;
            if !told {
                place.told = now;
            }
            (place.at, told)
        });
        (owner, place)
    }

    /// The address is used in the VLAN; true if that is new.
    pub(super) fn use_vlan(&mut self, mac: Mac, vlan: u16) -> bool {
        self.places.get_mut(&mac).is_some_and(|place| add(&mut place.vlans, vlan, VLANS))
    }

    /// The guest was told of the address.
    pub(super) fn remember(&mut self, ip: IpAddr, asker: Asker) {
        if let Some(owner) = self.owners.get_mut(&ip)
            && asker.ip.is_some()
        {
            owner.askers.retain(|known| (known.mac, known.vlan) != (asker.mac, asker.vlan));
            if owner.askers.len() == ASKERS {
                owner.askers.remove(0);
            }
            owner.askers.push(asker);
        }
    }

    pub(super) fn is_nobody_s(&self, key: Key, now: Instant) -> bool {
        self.nobody.get(&key).is_some_and(|until| *until > now)
    }

    pub(super) fn nobody_s(&mut self, key: Key, now: Instant, until: Instant) {
        if self.nobody.len() >= NOBODIES {
            self.nobody.retain(|_, until| *until > now);
        }
        if self.nobody.len() >= NOBODIES {
            // Whoever asks for so many makes portolan be asked again.
            self.nobody.clear();
        }
        if let Key::Ip(ip) = key {
            self.owners.remove(&ip);
        }
        self.nobody.insert(key, until);
    }

    /// It waits for an answer, if there is room.
    pub(super) fn wait(&mut self, key: Key, asker: Option<(IpAddr, Asker)>, vlans: &[u16], now: Instant) {
        if !self.waiting.contains_key(&key) {
            if self.waiting.len() >= WAITING {
                return;
            }
            self.waiting.insert(key, Wait { askers: Vec::new(), vlans: Vec::new(), since: now, under_way: false, stale: false });
            self.line.push_back(key);
        }
        if let Some(wait) = self.waiting.get_mut(&key) {
            for vlan in vlans {
                add(&mut wait.vlans, *vlan, VLANS);
            }
            if let Some(asker) = asker {
                add(&mut wait.askers, asker, ASKERS);
            }
        }
    }

    /// What is to be asked for next. It is under way then.
    pub(super) fn next(&mut self, now: Instant) -> Option<Key> {
        while let Some(key) = self.line.pop_front() {
            if let Some(wait) = self.waiting.get_mut(&key).filter(|wait| !wait.under_way) {
                wait.under_way = true;
                wait.stale = false;
                return Some(key);
            }
        }
        let mac = self.unsure.pop_front()?;
        let vlans = self.places.get(&mac).map(|place| place.vlans.clone()).unwrap_or_default();
        self.wait(Key::Mac(mac), None, &vlans, now);
        let key = self.line.pop_front()?;
        self.waiting.get_mut(&key)?.under_way = true;
        Some(key)
    }

    /// It was not answered.
    pub(super) fn again(&mut self, key: Key) {
        if let Some(wait) = self.waiting.get_mut(&key) {
            wait.under_way = false;
            self.line.push_back(key);
        }
    }

    /// It was answered: those who waited for it. None if it has to be asked for again.
    pub(super) fn settled(&mut self, key: Key, now: Instant) -> Option<Wait> {
        let wait = self.waiting.get_mut(&key)?;
        if wait.stale {
            wait.since = now;
            self.again(key);
            return None;
        }
        self.waiting.remove(&key)
    }

    /// What portolan knew of it has changed; an answer that is under way may be from before.
    pub(super) fn doubt(&mut self, key: Key) {
        self.nobody.remove(&key);
        if let Some(wait) = self.waiting.get_mut(&key) {
            wait.stale = wait.under_way;
        }
        if let Key::Mac(_) = key {
            // The answer to a question for an IP address says where its MAC address is, too.
            let of_ips = self.waiting.iter_mut().filter(|(key, wait)| matches!(key, Key::Ip(_)) && wait.under_way);
            of_ips.for_each(|(_, wait)| wait.stale = true);
        }
    }

    pub(super) fn forget(&mut self, mac: Mac) -> Option<Vec<u16>> {
        self.places.remove(&mac).map(|place| place.vlans)
    }

    /// The guests that were told whose the address is.
    pub(super) fn disown(&mut self, ip: IpAddr) -> Option<Vec<Asker>> {
        self.owners.remove(&ip).map(|owner| owner.askers)
    }

    pub(super) fn own(&mut self, ip: IpAddr, mac: Mac, now: Instant) {
        if self.owners.len() >= OWNERS
            && let Some(oldest) = self.owners.iter().min_by_key(|(_, owner)| owner.used).map(|(ip, _)| *ip)
        {
            self.owners.remove(&oldest);
        }
        self.nobody.remove(&Key::Ip(ip));
        let askers = self.owners.remove(&ip).filter(|before| before.mac == mac).map(|before| before.askers).unwrap_or_default();
        self.owners.insert(ip, Owner { mac, askers, used: now });
    }

    /// The address is at that node, and used in these VLANs.
    pub(super) fn place(&mut self, mac: Mac, at: Underlay, vlans: &[u16], now: Instant) -> Placed {
        self.nobody.remove(&Key::Mac(mac));
        let mut evicted = None;
        if self.places.len() >= PLACES
            && !self.places.contains_key(&mac)
            && let Some(oldest) = self.places.iter().min_by_key(|(_, place)| place.used).map(|(mac, _)| *mac)
        {
            evicted = self.forget(oldest).map(|vlans| (oldest, vlans));
        }
        let place = self.places.entry(mac).or_insert_with(|| Place { at, vlans: Vec::new(), used: now, told: now });
        let moved = place.at != at;
        let new: Vec<u16> = vlans.iter().copied().filter(|vlan| add(&mut place.vlans, *vlan, VLANS)).collect();
        (place.at, place.used, place.told) = (at, now, now);
        Placed { learn: if moved { place.vlans.clone() } else { new }, evicted }
    }

    /// The kernel knows it from an earlier agent.
    pub(super) fn adopt(&mut self, mac: Mac, at: Underlay, vlans: Vec<u16>, now: Instant) {
        if self.places.len() < PLACES && self.places.insert(mac, Place { at, vlans, used: now, told: now }).is_none() {
            self.unsure.push_back(mac);
        }
    }

    /// Drops what waited too long; guests ask again.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) {
        self.waiting.retain(|_, wait| wait.under_way || now.duration_since(wait.since) < patience);
        self.line.retain(|key| self.waiting.contains_key(key));
        if self.nobody.len() > NOBODIES / 2 {
            self.nobody.retain(|_, until| *until > now);
        }
    }
}
