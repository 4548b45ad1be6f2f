//! Learning from copies of packets which addresses guests were given (net-agent.md section 15, rulings 23 and 25). Pure: copies and time are
//! given, and what is learned is returned.
//!
//! An answer counts only if the guest asked for it a moment ago, so that whoever sends answers to everybody gives nobody an address. Every
//! list is bounded; who asks more loses the oldest question.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::Protection;

mod dhcp;
mod ipv6;
mod packet;

/// Questions that wait for an answer, of all NICs together and of one.
const QUESTIONS: usize = 512;
const QUESTIONS_OF_ONE: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time for which an address is believed; it is renewed long before.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which way a copied packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From the guest.
    Asked,
    /// To the guest.
    Told,
}

/// What a packet taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The NIC was given this address for so long.
    Learn(IpAddr, Duration),
    /// It has it no longer.
    Unlearn(IpAddr),
}

/// A question: DHCP of IPv4 by its transaction's number, of IPv6 by its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    Four([u8; 4]),
    Six([u8; 3]),
}

#[derive(Debug)]
struct Question {
    link: String,
    transaction: Transaction,
    at: Instant,
}

/// What is listened for, and for whom.
#[derive(Debug, Default)]
pub struct Snoop {
    who: BTreeMap<String, Protection>,
    questions: VecDeque<Question>,
}

impl Snoop {
    /// The NICs that are given addresses on the wire; others are not listened to.
    pub fn watch(&mut self, all: Vec<Protection>) {
        self.who = all.into_iter().filter(|nic| nic.dhcp || nic.addrconf).map(|nic| (nic.link.clone(), nic)).collect();
        self.questions.retain(|question| self.who.contains_key(&question.link));
    }

    /// True if this NIC is listened to.
    pub fn knows(&self, link: &str) -> bool {
        self.who.contains_key(link)
    }

    /// Takes a copy of a packet, from its network header. What is not understood teaches nothing.
    pub fn hear(&mut self, link: &str, heard: Heard, packet: &[u8], now: Instant) -> Vec<Lesson> {
        while self.questions.front().is_some_and(|question| now >= question.at + PATIENCE) {
            self.questions.pop_front();
        }
        let Some(nic) = self.who.get(link).cloned() else { return Vec::new() };
        let lessons = match packet.first().map(|byte| byte >> 4) {
            Some(4) if nic.dhcp => dhcp::hear(self, &nic, heard, packet, now),
            Some(6) if nic.addrconf => ipv6::hear(self, &nic, heard, packet, now),
            _ => None,
        };
        let mut lessons = lessons.unwrap_or_default();
        lessons.truncate(crate::LEARNED_MOST);
        lessons
    }

    fn ask(&mut self, link: &str, transaction: Transaction, now: Instant) {
        self.questions.retain(|question| question.link != link || question.transaction != transaction);
        let own = self.questions.iter().filter(|question| question.link == link).count();
        if own >= QUESTIONS_OF_ONE
            && let Some(oldest) = self.questions.iter().position(|question| question.link == link)
        {
            self.questions.remove(oldest);
        }
        if self.questions.len() >= QUESTIONS {
            self.questions.pop_front();
        }
        self.questions.push_back(Question { link: link.to_owned(), transaction, at: now });
    }

    fn asked(&self, link: &str, transaction: Transaction) -> bool {
        self.questions.iter().any(|question| question.link == link && question.transaction == transaction)
    }
}

/// An address that a guest may be given: one of a machine, and not of this one alone.
fn usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0),
        IpAddr::V6(ip) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.to_ipv4_mapped().is_some()
                || ip.segments()[0] & 0xffc0 == 0xfe80)
        }
    }
}

/// What an address with this many seconds left teaches: the address, or its end.
fn lesson(address: IpAddr, seconds: u32) -> Option<Lesson> {
    match (usable(address), seconds) {
        (false, _) => None,
        (true, 0) => Some(Lesson::Unlearn(address)),
        (true, seconds) => Some(Lesson::Learn(address, Duration::from_secs(u64::from(seconds)).min(LONGEST))),
    }
}

#[cfg(test)]
mod tests;
