//! Instances, networks, the feed and the sweep, as far as no NAPI is needed to judge them.

use serde_json::{Value, json};

use super::*;
use crate::{
    local::Pace,
    nic::{Remote, Version},
};

/// Of [`Pace`].
const CERTAIN_AFTER: Duration = Duration::from_secs(10);

fn map(value: Value) -> JsonMap {
    let Value::Object(map) = value else { panic!("no object: {value}") };
    map
}

const NETWORK: &str = "11111111-1111-4111-8111-111111111111";

/// The core, the time, and one instance's object.
struct Lab {
    core: Core,
    now: Instant,
}

fn mac(n: u16) -> Mac {
    let [a, b] = n.to_be_bytes();
    Mac([0x90, 0xb8, 0xd0, 0, a, b])
}

fn nic(n: u16) -> Value {
    json!({"interface": "net0", "mac": mac(n).to_string(), "nic_tag": "external", "vlan_id": 0, "ip": "10.0.0.5", "netmask": "255.255.255.0",
        "ips": ["10.0.0.5/24"], "network_uuid": NETWORK})
}

fn vm(uuid: InstanceUuid, nics: &[u16]) -> JsonMap {
    let nics: Vec<Value> = nics.iter().map(|n| nic(*n)).collect();
    map(json!({"uuid": uuid, "owner_uuid": "o", "state": "running", "boot_timestamp": "t0", "resolvers": [], "routes": {}, "nics": nics}))
}

impl Lab {
    fn new() -> Self {
        let me = Me { server: "44454c4c-0000-1000-8000-000000000001".parse().unwrap(), admin: None, pace: Pace::default() };
        Self { core: Core::new(me, Kept::default()), now: Instant::now() }
    }

    fn see(&mut self, uuid: InstanceUuid, object: JsonMap) {
        self.core.see(uuid, Loaded::Object(object), self.now);
    }

    /// What NAPI has of a NIC that is in step with `uuid`.
    fn remote(&self, uuid: InstanceUuid, n: u16, extra: Value) -> JsonMap {
        let mut object = map(nic(n));
        object.extend(map(
            json!({"belongs_to_type": "zone", "belongs_to_uuid": uuid, "owner_uuid": "o", "state": "running", "primary": false,
            "cn_uuid": self.core.me.server}),
        ));
        object.extend(map(extra));
        object
    }

    fn ask(&mut self, n: u16) -> Option<Call> {
        match self.core.turn(Key::Nic(mac(n)), self.now) {
            Some(Request::Nic(_, call)) => Some(call),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, n: u16, answer: Answer) {
        self.core.reply(Reply::Nic(mac(n), answer), self.now);
    }

    fn is(&mut self, n: u16, object: &JsonMap) {
        assert_eq!(self.ask(n), Some(Call::Get));
        self.answer(n, Answer::Is(Remote::new(object, Version::Tag("v".to_owned()))));
    }

    fn disown(&mut self, n: u16) {
        self.core.nic(mac(n), Event::Refresh, self.now);
        for _ in 0..2 {
            assert_eq!(self.ask(n), Some(Call::Get));
            self.answer(n, Answer::NotFound);
            self.now += CERTAIN_AFTER;
        }
    }

    /// Instances with a NIC each, in step.
    fn with(count: u16) -> (Self, Vec<InstanceUuid>) {
        let mut lab = Self::new();
        let uuids: Vec<InstanceUuid> = (0..count).map(|_| InstanceUuid::random()).collect();
        for (n, uuid) in (0..).zip(&uuids) {
            lab.see(*uuid, vm(*uuid, &[n]));
            let object = lab.remote(*uuid, n, json!({}));
            lab.is(n, &object);
        }
        (lab, uuids)
    }

    fn touched(&mut self) -> BTreeSet<Work> {
        self.core.take_touched(self.now)
    }
}

/// net-agent case 13, 14
#[test]
fn an_instance_is_changed_once_all_of_its_nics_are_known_and_once_only() {
    let mut lab = Lab::new();
    let uuid = InstanceUuid::random();
    lab.see(uuid, vm(uuid, &[1, 2]));
    let first = lab.remote(uuid, 1, json!({"resolvers": ["10.0.0.2", "10.0.0.3"], "allow_ip_spoofing": true}));
    lab.is(1, &first);
    let spoofing = json!({"mac": mac(1).to_string(), "allow_ip_spoofing": true});
    assert_eq!(lab.core.change_of(uuid, lab.now).unwrap().payload, map(json!({"update_nics": [spoofing]})), "no resolvers yet");
    let second = lab.remote(uuid, 2, json!({"resolvers": ["10.0.0.3", "10.0.0.4"]}));
    lab.is(2, &second);
    let change = lab.core.change_of(uuid, lab.now).unwrap();
    let expected = map(json!({"resolvers": ["10.0.0.2", "10.0.0.3", "10.0.0.4"], "update_nics": [spoofing]}));
    assert_eq!((&change.payload, change.reboot), (&expected, false));
    lab.core.given(uuid, &change, false, lab.now);
    // The instance did not take it: that is not said again until something changes,
    lab.see(uuid, vm(uuid, &[1, 2]));
    assert_eq!(lab.core.change_of(uuid, lab.now), None);
    // or rarely: somebody may have undone it before it was looked at.
    for pause in [TRY_AGAIN, TRY_AGAIN * 2, TRY_AGAIN * 4] {
        lab.now += pause - Duration::from_secs(1);
        lab.see(uuid, vm(uuid, &[1, 2]));
        assert_eq!(lab.core.change_of(uuid, lab.now), None);
        lab.now += Duration::from_secs(1);
        assert!(lab.touched().contains(&Work::Instance(uuid)));
        lab.see(uuid, vm(uuid, &[1, 2]));
        assert_eq!(lab.core.change_of(uuid, lab.now).unwrap().payload, expected);
        lab.core.given(uuid, &change, false, lab.now);
    }
    let mut stopped = vm(uuid, &[1, 2]);
    stopped.insert("state".to_owned(), json!("stopped"));
    lab.see(uuid, stopped);
    assert_eq!(lab.core.change_of(uuid, lab.now).unwrap().payload, expected);
}

/// net-agent case 24, 25, ruling 6
#[test]
fn a_disowned_nic_is_taken_and_a_guest_that_runs_is_rebooted_also_by_the_agents_next_life() {
    let (mut lab, uuids) = Lab::with(2);
    lab.disown(0);
    let change = lab.core.change_of(uuids[0], lab.now).unwrap();
    assert_eq!((&change.payload, change.reboot), (&map(json!({"remove_nics": [mac(0).to_string()]})), true));
    let kept = lab.core.take_unsaved().unwrap();
    assert_eq!(kept.reboots, [(uuids[0], "t0".to_owned())].into());
    assert_eq!(lab.core.take_unsaved(), None);
    // The agent dies after the change. The next one finds the guest in the same boot.
    let mut next = Lab { core: Core::new(lab.core.me.clone(), kept.clone()), now: lab.now };
    next.see(uuids[0], vm(uuids[0], &[]));
    assert_eq!(next.core.change_of(uuids[0], next.now), Some(Change { payload: JsonMap::new(), reboot: true }));
    next.core.given(uuids[0], &Change { payload: JsonMap::new(), reboot: true }, true, next.now);
    assert!(next.core.take_unsaved().unwrap().reboots.is_empty());
    // Or in another boot.
    let mut next = Lab { core: Core::new(lab.core.me.clone(), kept), now: lab.now };
    let mut rebooted = vm(uuids[0], &[]);
    rebooted.insert("boot_timestamp".to_owned(), json!("t1"));
    next.see(uuids[0], rebooted);
    assert_eq!(next.core.change_of(uuids[0], next.now), None);
    assert!(next.core.take_unsaved().unwrap().reboots.is_empty());
    // A stopped one is not rebooted.
    let mut stopped = vm(uuids[1], &[1]);
    stopped.insert("state".to_owned(), json!("stopped"));
    lab.see(uuids[1], stopped);
    lab.disown(1);
    assert!(!lab.core.change_of(uuids[1], lab.now).unwrap().reboot);
}

/// Ruling 6
#[test]
fn five_nics_are_taken_in_a_minute_and_none_while_most_are_doubted() {
    let (mut lab, uuids) = Lab::with(20);
    for n in 0..7 {
        lab.core.nic(mac(n), Event::Refresh, lab.now);
        assert_eq!(lab.ask(n), Some(Call::Get));
        lab.answer(n, Answer::NotFound);
    }
    lab.now += CERTAIN_AFTER;
    for n in 0..7 {
        assert_eq!(lab.ask(n), Some(Call::Get));
        lab.answer(n, Answer::NotFound);
    }
    let taken = |lab: &mut Lab| uuids.iter().filter(|uuid| lab.core.change_of(**uuid, lab.now).is_some()).count();
    let first = lab.now;
    assert_eq!(taken(&mut lab), 5);
    lab.now = first + Duration::from_secs(59);
    lab.touched();
    // Those that were taken are gone.
    for uuid in &uuids[..5] {
        lab.see(*uuid, vm(*uuid, &[]));
    }
    assert_eq!(uuids[5..].iter().filter(|uuid| lab.core.change_of(**uuid, lab.now).is_some()).count(), 0);
    lab.now = first + Duration::from_secs(60);
    let touched = lab.touched();
    assert!(uuids[5..7].iter().all(|uuid| touched.contains(&Work::Instance(*uuid))), "{touched:?}");
    assert_eq!(uuids[5..].iter().filter(|uuid| lab.core.change_of(**uuid, lab.now).is_some()).count(), 2);
    // NAPI was restored from nothing.
    let (mut lab, uuids) = Lab::with(20);
    for n in 0..20 {
        lab.disown(n);
    }
    assert!(lab.core.standing(lab.now).held);
    assert!(uuids.iter().all(|uuid| lab.core.change_of(*uuid, lab.now).is_none()));
    for n in 0..15 {
        lab.core.nic(mac(n), Event::Refresh, lab.now);
        let object = lab.remote(uuids[usize::from(n)], n, json!({}));
        lab.is(n, &object);
    }
    assert_eq!(uuids.iter().filter(|uuid| lab.core.change_of(**uuid, lab.now).is_some()).count(), 5);
}

/// net-agent case 23, 30, 31, ruling 1
#[test]
fn what_is_gone_is_released_what_is_hidden_or_cannot_be_read_is_not() {
    let (mut lab, uuids) = Lab::with(3);
    lab.touched();
    lab.core.see(uuids[0], Loaded::Absent, lab.now);
    assert!(matches!(lab.ask(0), Some(Call::Delete { .. })));
    lab.core.see(uuids[1], Loaded::Unreadable("garbage".to_owned()), lab.now);
    assert_eq!(lab.ask(1), None);
    assert_eq!(lab.core.standing(lab.now).unreadable, 1);
    let mut hidden = vm(uuids[2], &[2]);
    hidden.insert("do_not_inventory".to_owned(), json!(true));
    lab.see(uuids[2], hidden);
    assert_eq!(lab.core.take_unsaved().unwrap().hidden, [uuids[2]].into());
    assert_eq!(lab.ask(2), None);
    lab.core.see(uuids[2], Loaded::Absent, lab.now);
    assert_eq!(lab.ask(2), None);
    // Hidden and gone: a list that has its NIC is no reason to delete it, nor is the next one, nor one of the agent's next life.
    let list = vec![lab.remote(uuids[2], 2, json!({})), lab.remote(InstanceUuid::random(), 9, json!({}))];
    for _ in 0..4 {
        lab.now += Duration::from_secs(600);
        lab.core.reply(Reply::List(Some(list.clone()), lab.now), lab.now);
    }
    assert_eq!(lab.ask(2), None);
    // The other one is a leftover.
    assert_eq!(lab.ask(9), Some(Call::Get));
    assert!(lab.core.kept.hidden.contains(&uuids[2]));
    lab.core.reply(Reply::List(Some(Vec::new()), lab.now), lab.now);
    assert!(lab.core.kept.hidden.is_empty(), "no NIC, no instance: nothing to remember");
    // Shown again: tracked again, from the beginning.
    lab.see(uuids[2], vm(uuids[2], &[2]));
    assert_eq!(lab.ask(2), Some(Call::Get));
}

/// Ruling 6
#[test]
fn the_sweep_leaves_what_an_instance_here_has_or_may_have() {
    let (mut lab, uuids) = Lab::with(3);
    lab.core.see(uuids[1], Loaded::Unreadable("garbage".to_owned()), lab.now);
    let mut provisioning = vm(uuids[2], &[2]);
    provisioning.insert("state".to_owned(), json!("provisioning"));
    lab.see(uuids[2], provisioning);
    // NICs that were removed from an instance while nobody watched: one that can be read, one that cannot, one that is being made.
    let list: Vec<JsonMap> = uuids.iter().zip(10..).map(|(uuid, n)| lab.remote(*uuid, n, json!({}))).collect();
    for _ in 0..2 {
        lab.core.reply(Reply::List(Some(list.clone()), lab.now), lab.now);
        lab.now += Duration::from_secs(200);
    }
    assert_eq!([10, 11, 12].map(|n| lab.ask(n).is_some()), [true, false, false]);
}

/// net-agent case 43, 44
#[test]
fn the_feed_concerns_what_is_known_or_comes_here() {
    let (mut lab, _) = Lab::with(1);
    lab.touched();
    let server = lab.core.me.server.to_string();
    let change = |n: u16, cn: &str, deleted: bool| {
        FeedEvent::Changed(FeedChange {
            resource: "nic".to_owned(),
            id: mac(n).to_string(),
            deleted,
            cn_uuid: Some(cn.to_owned()),
            ..FeedChange::default()
        })
    };
    for (n, cn, deleted) in [(7, server.as_str(), true), (8, "other", false), (9, "other", true)] {
        lab.core.feed(change(n, cn, deleted), lab.now);
    }
    assert!(lab.touched().is_empty());
    for _ in 0..3 {
        lab.core.feed(change(0, &server, false), lab.now);
    }
    lab.core.feed(change(6, &server, false), lab.now);
    assert_eq!(lab.touched(), [0, 6].map(|n| Work::Napi(Key::Nic(mac(n)))).into());
    assert_eq!(lab.ask(0), Some(Call::Get));
    lab.answer(0, Answer::Failed);
    for n in 100..5000 {
        lab.core.feed(change(n, &server, false), lab.now);
    }
    assert!(lab.core.nics.len() <= 1 + AWAITED, "bounded");
    for id in ["", "x", "90:b8:d0"] {
        let odd = FeedChange { resource: "nic".to_owned(), id: id.to_owned(), cn_uuid: Some(server.clone()), ..FeedChange::default() };
        lab.core.feed(FeedEvent::Changed(odd), lab.now);
    }
}

/// net-agent case 13, 42, 46
#[test]
fn a_network_is_watched_while_a_nic_is_on_it_and_its_nics_follow() {
    let (mut lab, uuids) = Lab::with(2);
    let network = || Work::Napi(Key::Network(NETWORK.parse().unwrap()));
    assert!(lab.touched().contains(&network()));
    let uuid: NetworkUuid = NETWORK.parse().unwrap();
    assert_eq!(lab.core.turn(Key::Network(uuid), lab.now), Some(Request::Network(uuid)));
    let object = map(json!({"uuid": NETWORK, "netmask": "255.255.255.0", "nic_tag": "external", "vlan_id": 0, "resolvers": []}));
    lab.core.reply(Reply::Network(uuid, Some(object.clone())), lab.now);
    assert!(lab.touched().is_empty(), "its NICs have it so");
    let mut changed = object.clone();
    changed.insert("gateway".to_owned(), json!("10.0.0.1"));
    lab.core.reply(Reply::Network(uuid, Some(changed)), lab.now);
    assert_eq!(lab.touched().len(), 2);
    let object = lab.remote(uuids[0], 0, json!({"gateway": "10.0.0.1"}));
    lab.is(0, &object);
    assert_eq!(lab.core.change_of(uuids[0], lab.now).unwrap().payload["update_nics"][0]["gateway"], "10.0.0.1");
    lab.touched();
    lab.now += NETWORK_EVERY;
    assert!(lab.touched().contains(&network()));
    let began = FeedEvent::Began(["network".to_owned(), "nic".to_owned()].into());
    lab.core.feed(began, lab.now);
    assert_eq!(lab.touched(), [network(), Work::Napi(Key::List)].into());
    for (uuid, n) in uuids.iter().zip(0..) {
        lab.core.see(*uuid, Loaded::Absent, lab.now);
        // The first was asked again because of its network.
        if let Some(Call::Get) = lab.ask(n) {
            lab.answer(n, Answer::NotFound);
        } else {
            lab.answer(n, Answer::Deleted);
        }
    }
    assert_eq!(lab.core.turn(Key::Network(uuid), lab.now), None);
    assert!(lab.core.networks.is_empty() && lab.core.nics.is_empty());
}

#[test]
fn an_address_that_two_instances_have_is_that_of_the_first_until_it_goes() {
    let (mut lab, uuids) = Lab::with(1);
    let second = InstanceUuid::random();
    lab.see(second, vm(second, &[0]));
    assert_eq!(lab.core.nics[&mac(0)].owner(), Some(&Owner::Instance(uuids[0])));
    assert_eq!(lab.core.change_of(second, lab.now), None);
}

/// Issue 5
#[test]
fn an_hour_without_napi_costs_one_attempt_at_a_time_and_then_one_request_for_each_nic_that_changed() {
    let (mut lab, uuids) = Lab::with(500);
    let pauses = triton_agent::Backoff::new(Duration::from_millis(5250), 1.5, Duration::from_secs(63), 0.05);
    let mut queue: triton_agent::Queue<Key> = triton_agent::Queue::new(10, pauses);
    lab.touched();
    let begin = lab.now;
    let (mut attempts, mut told) = (0, BTreeMap::<Mac, usize>::new());
    let mut states = vec!["running"; uuids.len()];
    let mut serve = |lab: &mut Lab, queue: &mut triton_agent::Queue<Key>, until: Instant, up: bool| {
        loop {
            for work in lab.core.take_touched(lab.now) {
                if let Work::Napi(key @ Key::Nic(_)) = work {
                    queue.touch(key);
                }
            }
            let Some(wake) = queue.next_wake(lab.now).filter(|wake| *wake < until) else { break };
            lab.now = wake.max(lab.now);
            while let Some(key) = queue.take(lab.now) {
                let Some(Request::Nic(mac, call)) = lab.core.turn(key.clone(), lab.now) else {
                    queue.needless(&key);
                    continue;
                };
                attempts += usize::from(!up);
                let answer = match call {
                    Call::Update(body) if up => {
                        *told.entry(mac).or_default() += 1;
                        let n = u16::from_be_bytes([mac.0[4], mac.0[5]]);
                        let mut object = lab.remote(uuids[usize::from(n)], n, json!({}));
                        object.extend(body);
                        Answer::Is(Remote::new(&object, Version::Unknown))
                    }
                    Call::Update(_) => Answer::Failed,
                    other => panic!("{other:?}"),
                };
                lab.core.reply(Reply::Nic(mac, answer), lab.now);
                queue.finished(key, if up { triton_agent::Outcome::Done } else { triton_agent::Outcome::Unavailable }, lab.now);
            }
            assert!(queue.len() <= uuids.len() && lab.core.nics.len() == uuids.len(), "what is kept does not grow");
        }
        lab.now = lab.now.max(until.min(begin + Duration::from_secs(7200)));
    };
    for change in 0..5000usize {
        let n = change * 7919 % uuids.len();
        states[n] = if states[n] == "running" { "stopped" } else { "running" };
        let mut vm = vm(uuids[n], &[u16::try_from(n).unwrap()]);
        vm.insert("state".to_owned(), json!(states[n]));
        lab.see(uuids[n], vm);
        serve(&mut lab, &mut queue, begin + Duration::from_millis(720 * (change as u64 + 1)), false);
    }
    serve(&mut lab, &mut queue, begin + Duration::from_secs(7200), true);
    assert!((30..200).contains(&attempts), "{attempts} attempts in an hour");
    let wrong: Vec<usize> = (0..uuids.len()).filter(|n| states[*n] != "running").collect();
    assert!(told.values().all(|count| *count == 1) && told.len() == wrong.len(), "{} told, {} changed", told.len(), wrong.len());
    assert_eq!(lab.core.standing(lab.now).in_step, uuids.len());
}
