use triton_svp::{LogEntry, LogId};

use super::*;
use crate::fabric::frame;

const GUEST: Mac = Mac([0x90, 0xb8, 0xd0, 0, 0, 1]);
const OTHER: Mac = Mac([0x90, 0xb8, 0xd0, 0, 0, 2]);
const ID: LogId = [7; 16];

fn vnet(number: u32) -> Vnet {
    Vnet::new(number).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> Underlay {
    Underlay { ip: ip(text), port: 4789 }
}

fn whose(text: &str, vlan: u16) -> Question {
    Question::Whose { ip: ip(text), asker: asker(vlan) }
}

fn asker(vlan: u16) -> Asker {
    Asker { mac: GUEST, ip: Some(ip("10.0.0.1")), vlan }
}

struct Lab {
    core: Core,
    now: Instant,
}

impl Lab {
    /// Network 5 is here, portolan can be asked, and its log is empty.
    fn new() -> Self {
        let (core, now) = (Core::new(ip("10.9.0.1"), Times::default()), Instant::now());
        let mut lab = Self { core, now };
        lab.core.add(vnet(5), Vec::new(), now);
        lab.core.connected(now);
        let id = lab.request(&Body::LogRequest { most: LOG_BYTES, ip: ip("10.9.0.1") });
        lab.answer(id, Body::LogAck { status: Status::Ok, entries: Vec::new() });
        lab.nothing();
        lab
    }

    fn hear(&mut self, question: Question) {
        self.core.hear(vnet(5), question, self.now);
    }

    /// The one thing that is to be done is this request.
    fn request(&mut self, wanted: &Body) -> u32 {
        match &self.core.take()[..] {
            [Do::Ask(message)] if message.body == *wanted => message.id,
            other => panic!("{wanted:?} was not asked but {other:?}"),
        }
    }

    fn answer(&mut self, id: u32, body: Body) {
        self.core.answered(Message { id, body }, self.now).unwrap();
    }

    fn nothing(&mut self) {
        assert_eq!(self.core.take(), []);
    }

    fn later(&mut self, seconds: u64) -> bool {
        self.now += Duration::from_secs(seconds);
        self.core.tick(self.now)
    }

    /// 10.0.0.2 is known to be at OTHER, at the second node.
    fn learn(&mut self, vlan: u16) {
        self.hear(whose("10.0.0.2", vlan));
        let id = self.request(&vl3("10.0.0.2"));
        self.answer(id, found("10.9.0.2"));
        assert_eq!(self.core.take(), [learned(vlan, "10.9.0.2"), said(vlan)]);
    }
}

fn vl3(text: &str) -> Body {
    Body::Vl3Request { vnet: vnet(5), ip: ip(text) }
}

fn vl2() -> Body {
    Body::Vl2Request { vnet: vnet(5), mac: OTHER }
}

fn found(node: &str) -> Body {
    Body::Vl3Ack { status: Status::Ok, mac: OTHER, at: at(node) }
}

fn nowhere() -> Body {
    Body::Vl2Ack { status: Status::NotFound, at: at("::") }
}

fn learned(vlan: u16, node: &str) -> Do {
    Do::Learn { vnet: vnet(5), mac: OTHER, vlan, at: at(node) }
}

fn said(vlan: u16) -> Do {
    Do::Say { vnet: vnet(5), frame: frame::answer(&asker(vlan), ip("10.0.0.2"), OTHER) }
}

/// net-agent section 17
#[test]
fn the_kernel_learns_before_the_guest_is_told_and_the_next_guest_is_told_at_once() {
    let mut lab = Lab::new();
    lab.learn(0);
    lab.hear(whose("10.0.0.2", 0));
    assert_eq!(lab.core.take(), [said(0)]);
    lab.hear(whose("10.0.0.2", 20));
    assert_eq!(lab.core.take(), [learned(20, "10.9.0.2"), said(20)], "another VLAN of the bridge");
    lab.now += Duration::from_millis(700);
    lab.hear(whose("10.0.0.2", 0));
    assert_eq!(lab.core.take(), [said(0)]);
    lab.now += Duration::from_millis(700);
    lab.hear(whose("10.0.0.2", 0));
    assert_eq!(lab.core.take(), [learned(0, "10.9.0.2"), said(0)], "the kernel may have lost it: told again, once a second");
    assert_eq!(lab.core.known(), 1);
}

#[test]
fn many_guests_wait_for_one_answer() {
    let mut lab = Lab::new();
    lab.hear(whose("10.0.0.2", 0));
    let id = lab.request(&vl3("10.0.0.2"));
    let second = Asker { mac: Mac([2, 0, 0, 0, 0, 9]), ip: Some(ip("10.0.0.9")), vlan: 0 };
    lab.hear(Question::Whose { ip: ip("10.0.0.2"), asker: second });
    lab.hear(whose("10.0.0.2", 0));
    lab.nothing();
    lab.answer(id, found("10.9.0.2"));
    let other = Do::Say { vnet: vnet(5), frame: frame::answer(&second, ip("10.0.0.2"), OTHER) };
    assert_eq!(lab.core.take(), [learned(0, "10.9.0.2"), said(0), other]);
}

#[test]
fn an_address_that_is_nobody_s_is_not_asked_for_again_for_a_while() {
    let mut lab = Lab::new();
    lab.hear(whose("10.0.0.2", 0));
    let id = lab.request(&vl3("10.0.0.2"));
    lab.answer(id, Body::Vl3Ack { status: Status::NotFound, mac: OTHER, at: at("10.9.0.2") });
    lab.hear(whose("10.0.0.2", 0));
    lab.nothing();
    lab.now += Duration::from_secs(11);
    lab.hear(whose("10.0.0.2", 0));
    lab.request(&vl3("10.0.0.2"));
}

#[test]
fn what_portolan_has_on_this_node_is_left_to_its_bridge() {
    let mut lab = Lab::new();
    lab.hear(whose("10.0.0.2", 0));
    let id = lab.request(&vl3("10.0.0.2"));
    lab.answer(id, found("10.9.0.1"));
    lab.nothing();
    assert_eq!(lab.core.known(), 0);
}

#[test]
fn a_link_local_address_is_asked_for_by_its_mac_address() {
    let mut lab = Lab::new();
    let (target, asker) = (ip("fe80::92b8:d0ff:fe00:2"), Asker { ip: Some(ip("fe80::92b8:d0ff:fe00:1")), ..asker(0) });
    lab.hear(Question::Whose { ip: target, asker });
    let id = lab.request(&vl2());
    lab.answer(id, Body::Vl2Ack { status: Status::Ok, at: at("10.9.0.2") });
    assert_eq!(lab.core.take(), [learned(0, "10.9.0.2"), Do::Say { vnet: vnet(5), frame: frame::answer(&asker, target, OTHER) }]);
}

/// net-agent section 17: a moved instance
#[test]
fn a_logged_change_is_forgotten_asked_for_anew_and_then_removed_from_the_log() {
    let mut lab = Lab::new();
    lab.learn(20);
    assert!(lab.later(5));
    let id = lab.request(&Body::LogRequest { most: LOG_BYTES, ip: ip("10.9.0.1") });
    let entries = vec![LogEntry::Vl2 { id: ID, vnet: vnet(5), mac: OTHER }, LogEntry::Vl2 { id: ID, vnet: vnet(6), mac: OTHER }];
    lab.answer(id, Body::LogAck { status: Status::Ok, entries });
    let done = lab.core.take();
    let [forget, Do::Ask(removal), Do::Ask(again)] = &done[..] else { panic!("{done:?}") };
    assert_eq!(*forget, Do::Forget { vnet: vnet(5), mac: OTHER, vlans: vec![20] });
    assert_eq!((&removal.body, &again.body), (&Body::LogRemove { ids: vec![ID, ID] }, &vl2()));
    lab.answer(again.id, Body::Vl2Ack { status: Status::Ok, at: at("10.9.0.3") });
    assert_eq!(lab.core.take(), [learned(20, "10.9.0.3")]);
    lab.answer(removal.id, Body::LogRemoveAck { status: Status::Ok });
    lab.nothing();
    lab.later(1);
    lab.request(&Body::LogRequest { most: LOG_BYTES, ip: ip("10.9.0.1") });
}

#[test]
fn guests_are_told_again_when_an_address_gets_another_owner() {
    let mut lab = Lab::new();
    lab.learn(0);
    lab.later(5);
    let id = lab.request(&Body::LogRequest { most: LOG_BYTES, ip: ip("10.9.0.1") });
    let entries = vec![LogEntry::Vl3 { id: ID, vnet: vnet(5), vlan: 0, ip: ip("10.0.0.2") }];
    lab.answer(id, Body::LogAck { status: Status::Ok, entries });
    let done = lab.core.take();
    let [Do::Ask(_), Do::Ask(again)] = &done[..] else { panic!("{done:?}") };
    let third = Mac([0x90, 0xb8, 0xd0, 0, 0, 3]);
    lab.answer(again.id, Body::Vl3Ack { status: Status::Ok, mac: third, at: at("10.9.0.3") });
    let told = Do::Say { vnet: vnet(5), frame: frame::answer(&asker(0), ip("10.0.0.2"), third) };
    assert_eq!(lab.core.take(), [Do::Learn { vnet: vnet(5), mac: third, vlan: 0, at: at("10.9.0.3") }, told]);
}

#[test]
fn an_answer_from_before_a_change_is_not_believed() {
    let mut lab = Lab::new();
    lab.learn(0);
    lab.hear(Question::Where { mac: Mac([0x90, 0xb8, 0xd0, 0, 0, 3]), vlan: 0 });
    let Do::Ask(early) = lab.core.take().remove(0) else { panic!("not asked") };
    lab.later(5);
    let id = lab.request(&Body::LogRequest { most: LOG_BYTES, ip: ip("10.9.0.1") });
    let entries = vec![LogEntry::Vl2 { id: ID, vnet: vnet(5), mac: Mac([0x90, 0xb8, 0xd0, 0, 0, 3]) }];
    lab.answer(id, Body::LogAck { status: Status::Ok, entries });
    assert!(matches!(&lab.core.take()[..], [Do::Ask(Message { body: Body::LogRemove { .. }, .. })]));
    lab.answer(early.id, Body::Vl2Ack { status: Status::Ok, at: at("10.9.0.2") });
    assert!(matches!(&lab.core.take()[..], [Do::Ask(Message { body: Body::Vl2Request { .. }, .. })]), "asked again instead");
}

#[test]
fn while_portolan_is_away_what_is_known_stays_and_questions_wait_for_a_while() {
    let mut lab = Lab::new();
    lab.learn(0);
    lab.hear(whose("10.0.0.3", 0));
    lab.request(&vl3("10.0.0.3"));
    lab.core.lost();
    lab.hear(whose("10.0.0.4", 0));
    lab.hear(whose("10.0.0.2", 0));
    assert_eq!(lab.core.take(), [said(0)]);
    lab.now += Duration::from_secs(1);
    lab.core.connected(lab.now);
    let bodies: Vec<Body> =
        lab.core.take().into_iter().map(|done| if let Do::Ask(message) = done { message.body } else { panic!() }).collect();
    assert!(matches!(bodies[0], Body::LogRequest { .. }), "what was changed comes first");
    assert!(bodies.len() == 3 && bodies.contains(&vl3("10.0.0.3")) && bodies.contains(&vl3("10.0.0.4")), "{bodies:?}");
    lab.core.lost();
    lab.hear(whose("10.0.0.5", 0));
    lab.later(6);
    lab.core.connected(lab.now);
    let asked = lab.core.take();
    assert!(asked.len() == 1 && lab.core.known() == 1, "nobody waits any more: {asked:?}");
}

#[test]
fn an_answer_that_is_none_ends_the_connection() {
    let mut lab = Lab::new();
    let now = lab.now;
    let mut refused = |id, body| lab.core.answered(Message { id, body }, now).unwrap_err();
    assert!(refused(999, nowhere()).contains("999"));
    let mut lab = Lab::new();
    lab.hear(Question::Where { mac: OTHER, vlan: 0 });
    let id = lab.request(&vl2());
    assert!(lab.core.answered(Message { id, body: found("10.9.0.2") }, lab.now).unwrap_err().contains("operation 6"));
    lab.core.lost();
    lab.core.connected(lab.now);
    assert!(!lab.later(11), "the log was not answered");
    lab.hear(whose("10.0.0.2", 0));
    let Some(Do::Ask(message)) = lab.core.take().pop() else { panic!("not asked") };
    let fatal = Body::Vl3Ack { status: Status::Fatal, mac: OTHER, at: at("10.9.0.2") };
    assert!(lab.core.answered(Message { id: message.id, body: fatal }, lab.now).is_err());
    lab.core.lost();
    lab.core.connected(lab.now);
    let asked = lab.core.take();
    assert!(asked.iter().any(|done| matches!(done, Do::Ask(again) if again.body == message.body)), "asked anew: {asked:?}");
}

#[test]
fn an_answer_with_an_address_that_cannot_be_is_nobody_s() {
    for (mac, node) in
        [(Mac([0; 6]), "10.9.0.2"), (Mac([1, 0, 0, 0, 0, 1]), "10.9.0.2"), (OTHER, "0.0.0.0"), (OTHER, "239.1.1.1"), (OTHER, "127.0.0.1")]
    {
        let mut lab = Lab::new();
        lab.hear(whose("10.0.0.2", 0));
        let id = lab.request(&vl3("10.0.0.2"));
        lab.answer(id, Body::Vl3Ack { status: Status::Ok, mac, at: at(node) });
        lab.nothing();
    }
}

#[test]
fn no_network_takes_the_turns_of_another_and_nothing_grows_without_bound() {
    let mut lab = Lab::new();
    lab.core.add(vnet(6), Vec::new(), lab.now);
    for number in 0..10_000u32 {
        lab.hear(Question::Whose { ip: IpAddr::from(number.to_be_bytes()), asker: asker(0) });
    }
    let asked = lab.core.take();
    assert_eq!(asked.len(), WINDOW);
    lab.core.hear(vnet(6), whose("10.0.0.2", 0), lab.now);
    lab.nothing();
    let Do::Ask(first) = &asked[0] else { panic!() };
    lab.answer(first.id, Body::Vl3Ack { status: Status::NotFound, mac: OTHER, at: at("::") });
    lab.request(&Body::Vl3Request { vnet: vnet(6), ip: ip("10.0.0.2") });
    // The rest of the window ends, and so many wait as may: not ten thousand.
    let mut count = 0;
    let mut open: Vec<u32> = asked[1..].iter().map(|done| if let Do::Ask(message) = done { message.id } else { panic!() }).collect();
    while let Some(id) = open.pop() {
        lab.answer(id, Body::Vl3Ack { status: Status::NotFound, mac: OTHER, at: at("::") });
        open.extend(lab.core.take().iter().filter_map(|done| if let Do::Ask(message) = done { Some(message.id) } else { None }));
        count += 1;
    }
    assert!(count < 300, "{count}");
}

/// A restarted agent
#[test]
fn what_the_kernel_knows_from_before_counts_until_portolan_says_otherwise() {
    let mut lab = Lab::new();
    lab.core.add(vnet(7), vec![(OTHER, at("10.9.0.2"), vec![0, 20]), (GUEST, at("10.9.0.2"), vec![0])], lab.now);
    let ids: Vec<u32> =
        lab.core.take().iter().map(|done| if let Do::Ask(message) = done { message.id } else { panic!("{done:?}") }).collect();
    lab.answer(ids[0], Body::Vl2Ack { status: Status::Ok, at: at("10.9.0.3") });
    let moved = |vlan| Do::Learn { vnet: vnet(7), mac: OTHER, vlan, at: at("10.9.0.3") };
    assert_eq!(lab.core.take(), [moved(0), moved(20)]);
    lab.answer(ids[1], nowhere());
    assert_eq!(lab.core.take(), [Do::Forget { vnet: vnet(7), mac: GUEST, vlans: vec![0] }]);
    lab.core.remove(vnet(7));
    assert_eq!(lab.core.known(), 0);
}

#[test]
fn addresses_that_nobody_asks_for_make_room() {
    let mut lab = Lab::new();
    let known = (0..4096u32).map(|number| (Mac([2, 0, 0, 0, (number >> 8) as u8, number as u8]), at("10.9.0.2"), vec![0]));
    lab.core.add(vnet(8), known.collect(), lab.now);
    lab.core.take();
    lab.now += Duration::from_secs(1);
    // The window is full of questions for what was adopted.
    lab.core.lost();
    lab.core.connected(lab.now);
    lab.core.take();
    assert_eq!(lab.core.known(), 4096);
    let part = lab.core.parts.get_mut(&vnet(8)).unwrap();
    let placed = part.place(OTHER, at("10.9.0.2"), &[0], lab.now);
    assert!(placed.evicted.is_some() && placed.learn == [0]);
    assert_eq!(lab.core.known(), 4096);
}
