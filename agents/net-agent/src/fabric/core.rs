//! What is known of overlay networks, and what is asked for. Pure: questions, answers and time go in, and what is to be done comes out.
//!
//! A network's kernel devices carry frames to the addresses that were learned; everything else ends here as a question. An answer is known
//! until the log takes it back: while portolan is away, all that is known goes on. Nothing grows without bound: questions wait for a while
//! and in a limited number for each network, so that no network's guests can take the others' turn.

mod log;
mod part;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use triton_svp::{Body, LogId, Message, Status, Underlay, Vnet};
use triton_types::Mac;

use super::frame::{Asker, Question, answer, embedded_mac, is_group};
use part::{Key, Part, Placed};

/// Requests under way at a time.
const WINDOW: usize = 64;
/// Before the log is looked at for more.
const MORE: Duration = Duration::from_millis(100);
/// Bytes of the log that are taken at once.
const LOG_BYTES: u32 = 16 << 10;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Between two looks at an empty log.
    pub log_every: Duration,
    /// How long an address counts as nobody's.
    pub nobody_for: Duration,
    /// How long an address that portolan has on this node is not asked for again.
    pub here_for: Duration,
    /// How long a question waits for an answer.
    pub patience: Duration,
    /// An answer that takes longer is none, and the connection of no use.
    pub deadline: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { log_every: seconds(5), nobody_for: seconds(10), here_for: seconds(2), patience: seconds(5), deadline: seconds(10) }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Send this to portolan.
    Ask(Message),
    /// Frames for the address go to that node.
    Learn { vnet: Vnet, mac: Mac, vlan: u16, at: Underlay },
    /// Frames for the address go nowhere.
    Forget { vnet: Vnet, mac: Mac, vlans: Vec<u16> },
    /// Send this to guests.
    Say { vnet: Vnet, frame: Vec<u8> },
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Key(Vnet, Key),
    Log,
    Remove,
}

/// What is known.
#[derive(Debug)]
pub(crate) struct Core {
    own: IpAddr,
    times: Times,
    parts: BTreeMap<Vnet, Part>,
    connected: bool,
    next_id: u32,
    asked: HashMap<u32, (Asked, Instant)>,
    /// The network whose turn was last.
    last: Option<Vnet>,
    log_due: Option<Instant>,
    out: Vec<Do>,
}

impl Core {
    /// Nothing is known, for the node with this underlay address.
    pub(crate) fn new(own: IpAddr, times: Times) -> Self {
        let (parts, asked, out) = (BTreeMap::new(), HashMap::new(), Vec::new());
        Self { own, times, parts, connected: false, next_id: 1, asked, last: None, log_due: None, out }
    }

    /// What is to be done now.
    pub(crate) fn take(&mut self) -> Vec<Do> {
        std::mem::take(&mut self.out)
    }

    /// Addresses that are known.
    pub(crate) fn known(&self) -> usize {
        self.parts.values().map(Part::places).sum()
    }

    /// The network is on this node now, and its device knows these addresses by now: they count until portolan says otherwise.
    pub(crate) fn add(&mut self, vnet: Vnet, known: Vec<(Mac, Underlay, Vec<u16>)>, now: Instant) {
        let part = self.parts.entry(vnet).or_default();
        for (mac, at, vlans) in known {
            part.adopt(mac, at, vlans, now);
        }
        self.pump(now);
    }

    /// The network is not on this node any more.
    pub(crate) fn remove(&mut self, vnet: Vnet) {
        self.parts.remove(&vnet);
    }

    /// A frame of the network's asks something. True if only portolan can say.
    pub(crate) fn hear(&mut self, vnet: Vnet, question: Question, now: Instant) -> bool {
        let Some(part) = self.parts.get_mut(&vnet) else { return false };
        let (key, asker, vlan) = match question {
            Question::Where { mac, vlan } => (Key::Mac(mac), None, vlan),
            // Nobody but its own node knows it, and that by its MAC address.
            Question::Whose { ip, asker } => (embedded_mac(ip).map_or(Key::Ip(ip), Key::Mac), Some((ip, asker)), asker.vlan),
        };
        let (owner, place) = part.find(key, now);
        if let (Some(mac), Some((at, is_told))) = (owner, place) {
            if part.use_vlan(mac, vlan) || !is_told {
                self.out.push(Do::Learn { vnet, mac, vlan, at });
            }
            if let Some((ip, asker)) = asker {
                part.remember(ip, asker);
                say(&mut self.out, vnet, &asker, ip, mac);
            }
            return false;
        }
        if part.is_nobody_s(key, now) {
            return false;
        }
        part.wait(key, asker, &[vlan], now);
        self.pump(now);
        true
    }

    /// Portolan can be asked.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.asked.clear();
        // First what was changed meanwhile.
        self.log_due = Some(now);
        self.tick(now);
    }

    /// Portolan cannot be asked: what was not answered is asked again when it can.
    pub(crate) fn lost(&mut self) {
        self.connected = false;
        self.log_due = None;
        for (asked, _) in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Key(vnet, key) = asked
                && let Some(part) = self.parts.get_mut(&vnet)
            {
                part.again(key);
            }
        }
    }

    /// Time went by. False if an answer is overdue: the connection is of no use.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        for part in self.parts.values_mut() {
            part.expire(now, self.times.patience);
        }
        if self.log_due.is_some_and(|due| due <= now) {
            self.log_due = None;
            self.ask(Asked::Log, Body::LogRequest { most: LOG_BYTES, ip: self.own }, now);
        }
        self.pump(now);
        self.asked.values().all(|(_, since)| now.duration_since(*since) < self.times.deadline)
    }

    /// Portolan says this.
    ///
    /// # Errors
    /// Why it is not to be believed: the connection is of no use any more.
    pub(crate) fn answered(&mut self, message: Message, now: Instant) -> Result<(), String> {
        let Message { id, body } = message;
        let (asked, since) = self.asked.remove(&id).ok_or_else(|| format!("an answer to request {id}, which nobody made"))?;
        let result = self.believe(asked, body, now);
        match result {
            Ok(()) => {
                self.tick(now);
            }
            // Still without an answer: the next connection is asked.
            Err(_) => {
                self.asked.insert(id, (asked, since));
            }
        }
        result
    }

    fn believe(&mut self, asked: Asked, body: Body, now: Instant) -> Result<(), String> {
        match (asked, body) {
            (Asked::Key(vnet, key @ Key::Mac(mac)), Body::Vl2Ack { status, at }) => {
                let found = self.found(status, at)?.map(|at| (mac, at));
                self.settle(vnet, key, found, now);
            }
            (Asked::Key(vnet, key @ Key::Ip(_)), Body::Vl3Ack { status, mac, at }) => {
                let found = self.found(status, at)?.map(|at| (mac, at)).filter(|(mac, _)| !is_group(*mac) && mac.0 != [0; 6]);
                self.settle(vnet, key, found, now);
            }
            (Asked::Log, Body::LogAck { status, entries }) => {
                fatal(status)?;
                self.follow(&entries, now);
            }
            (Asked::Remove, Body::LogRemoveAck { status }) => {
                fatal(status)?;
                // There may be more than came at once; but what stays in the log is not read without a pause.
                self.log_due = Some(now + if status == Status::Ok { MORE } else { self.times.log_every });
            }
            (asked, body) => return Err(format!("an answer of operation {} to {asked:?}", body.operation())),
        }
        Ok(())
    }

    /// Where an address is, if it is anybody's.
    fn found(&self, status: Status, at: Underlay) -> Result<Option<Underlay>, String> {
        fatal(status)?;
        let can_be = !(at.ip.is_unspecified() || at.ip.is_multicast() || at.ip.is_loopback()) && at.port != 0;
        Ok((status == Status::Ok && can_be).then_some(at))
    }

    /// What portolan says about `key` is known now.
    fn settle(&mut self, vnet: Vnet, key: Key, found: Option<(Mac, Underlay)>, now: Instant) {
        let Some(part) = self.parts.get_mut(&vnet) else { return };
        // Something that it says was changed while it was asked for.
        let Some(wait) = part.settled(key, now) else { return };
        let out = &mut self.out;
        let here = found.is_some_and(|(_, at)| at.ip == self.own);
        let Some((mac, at)) = found.filter(|_| !here) else {
            let time = if here { self.times.here_for } else { self.times.nobody_for };
            part.nobody_s(key, now, now + time);
            if let Key::Mac(mac) = key
                && let Some(vlans) = part.forget(mac)
            {
                out.push(Do::Forget { vnet, mac, vlans });
            }
            return;
        };
        let Placed { learn, evicted } = part.place(mac, at, &wait.vlans, now);
        out.extend(evicted.map(|(mac, vlans)| Do::Forget { vnet, mac, vlans }));
        out.extend(learn.into_iter().map(|vlan| Do::Learn { vnet, mac, vlan, at }));
        if let Key::Ip(ip) = key {
            part.own(ip, mac, now);
        }
        for (ip, asker) in wait.askers {
            part.remember(ip, asker);
            say(out, vnet, &asker, ip, mac);
        }
    }

    /// Makes as many requests as may be under way; each network in its turn.
    fn pump(&mut self, now: Instant) {
        while self.connected && self.asked.len() < WINDOW {
            let after = |last: Vnet| (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            let mut turns: Vec<Vnet> =
                self.last.map(|last| self.parts.range(after(last)).map(|(vnet, _)| *vnet).collect()).unwrap_or_default();
            turns.extend(self.parts.keys().filter(|vnet| self.last.is_none_or(|last| **vnet <= last)));
            let next = turns.into_iter().find_map(|vnet| Some((vnet, self.parts.get_mut(&vnet)?.next(now)?)));
            let Some((vnet, key)) = next else { return };
            self.last = Some(vnet);
            let body = match key {
                Key::Mac(mac) => Body::Vl2Request { vnet, mac },
                Key::Ip(ip) => Body::Vl3Request { vnet, ip },
            };
            self.ask(Asked::Key(vnet, key), body, now);
        }
    }

    fn ask(&mut self, asked: Asked, body: Body, now: Instant) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.asked.insert(id, (asked, now));
        self.out.push(Do::Ask(Message { id, body }));
    }

    fn removal(&mut self, ids: Vec<LogId>, now: Instant) {
        self.ask(Asked::Remove, Body::LogRemove { ids }, now);
    }
}

/// Tells a guest, unless the address is its own.
fn say(out: &mut Vec<Do>, vnet: Vnet, asker: &Asker, ip: IpAddr, mac: Mac) {
    if asker.mac != mac {
        out.push(Do::Say { vnet, frame: answer(asker, ip, mac) });
    }
}

fn fatal(status: Status) -> Result<(), String> {
    if status == Status::Fatal { Err("it says that the connection is of no use any more".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
