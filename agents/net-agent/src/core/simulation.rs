//! The agent between a NAPI and instances that both change at will, with answers that get lost: what must never happen does not, and when
//! it is quiet both sides know the same.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    compare::{to_guest, to_napi},
    local::Pace,
    nic::{Remote, Version},
};

/// Of [`Pace`].
const CERTAIN_AFTER: Duration = Duration::from_secs(10);

fn map(value: Value) -> JsonMap {
    let Value::Object(map) = value else { panic!("no object: {value}") };
    map
}

fn mac(n: u8) -> Mac {
    Mac([0x90, 0xb8, 0xd0, 0, 0, n])
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Work of the agent: which of what waits, and how it ends.
    Work(u8, Fate),
    /// Somebody changes an instance.
    Instance(u8, u8),
    /// Somebody changes a NIC at NAPI.
    Napi(u8, u8),
    /// The feed tells of a NIC, begins, or a list is asked for.
    Feed(u8),
    /// The answer to the list comes.
    List,
    /// Time goes by.
    Wait(u8),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Good,
    /// It does not arrive.
    Lost,
    /// It is done, and the answer is lost.
    Unheard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![6 => Just(Fate::Good), 1 => Just(Fate::Lost), 1 => Just(Fate::Unheard)];
    let step = prop_oneof![
        6 => (any::<u8>(), fate).prop_map(|(which, fate)| Step::Work(which, fate)),
        2 => (0..4u8, 0..9u8).prop_map(|(which, what)| Step::Instance(which, what)),
        2 => (0..8u8, 0..7u8).prop_map(|(which, what)| Step::Napi(which, what)),
        1 => (0..10u8).prop_map(Step::Feed),
        1 => Just(Step::List),
        1 => (0..30u8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..250)
}

#[derive(Clone, Debug)]
struct There {
    object: JsonMap,
    version: u64,
}

struct World {
    core: Core,
    now: Instant,
    waiting: BTreeSet<Work>,
    /// Two NICs each.
    uuids: Vec<InstanceUuid>,
    vms: BTreeMap<InstanceUuid, JsonMap>,
    unreadable: BTreeSet<InstanceUuid>,
    /// Those that were ever hidden.
    hidden: BTreeSet<InstanceUuid>,
    napi: BTreeMap<Mac, There>,
    versions: u64,
    /// Since when NAPI has said that a NIC is not ours, without saying otherwise.
    denied: BTreeMap<Mac, (Instant, u32)>,
    removals: Vec<Instant>,
    list: Option<(Vec<JsonMap>, Instant)>,
}

impl World {
    fn new() -> Self {
        let me = Me { server: "44454c4c-0000-1000-8000-000000000001".parse().unwrap(), admin: None, pace: Pace::default() };
        Self {
            core: Core::new(me, Kept::default()),
            now: Instant::now(),
            waiting: BTreeSet::new(),
            uuids: (1..=4u128).map(|n| uuid::Uuid::from_u128(n).into()).collect(),
            vms: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            hidden: BTreeSet::new(),
            napi: BTreeMap::new(),
            versions: 0,
            denied: BTreeMap::new(),
            removals: Vec::new(),
            list: None,
        }
    }

    fn local_nic(n: u8) -> JsonMap {
        map(json!({"mac": mac(n).to_string(), "nic_tag": "external", "vlan_id": 0, "ip": format!("10.0.0.{}", n + 5),
            "netmask": "255.255.255.0", "ips": [format!("10.0.0.{}/24", n + 5)]}))
    }

    fn change_instance(&mut self, which: u8, what: u8) {
        let uuid = self.uuids[usize::from(which)];
        self.waiting.insert(Work::Instance(uuid));
        let vm = self.vms.entry(uuid).or_insert_with(|| {
            map(json!({"owner_uuid": "o", "state": "stopped", "boot_timestamp": "t0", "resolvers": [], "routes": {}, "nics": [Self::local_nic(which * 2)]}))
        });
        let nics = vm["nics"].as_array_mut().unwrap();
        match what {
            0 => drop(vm.insert("state".to_owned(), json!("running"))),
            1 => drop(vm.insert("state".to_owned(), json!("stopped"))),
            2 => drop(vm.insert("state".to_owned(), json!("provisioning"))),
            3 => {
                let new = (0..2).map(|n| Self::local_nic(which * 2 + n)).find(|new| nics.iter().all(|nic| nic["mac"] != new["mac"]));
                nics.extend(new.map(Value::Object));
            }
            4 => drop(nics.pop()),
            5 => {
                vm.insert("do_not_inventory".to_owned(), json!(true));
                self.hidden.insert(uuid);
            }
            6 => drop(vm.remove("do_not_inventory")),
            7 if !self.unreadable.remove(&uuid) => drop(self.unreadable.insert(uuid)),
            8 => {
                self.vms.remove(&uuid);
                self.unreadable.remove(&uuid);
            }
            _ => drop(vm.insert("owner_uuid".to_owned(), json!("p"))),
        }
    }

    fn change_napi(&mut self, n: u8, what: u8) {
        let uuid = self.uuids[usize::from(n / 2)];
        let server = self.core.me.server;
        self.versions += 1;
        let version = self.versions;
        let made = || {
            let mut object = Self::local_nic(n);
            object.remove("ips");
            object.extend(map(json!({"belongs_to_type": "zone", "belongs_to_uuid": uuid, "owner_uuid": "o", "state": "provisioning",
                "primary": false, "cn_uuid": server, "network_uuid": "11111111-1111-4111-8111-111111111111"})));
            There { object, version }
        };
        let there = self.napi.entry(mac(n)).or_insert_with(made);
        there.version = version;
        let mut set = |key: &str, value: Value| drop(there.object.insert(key.to_owned(), value));
        match what {
            0 => drop(self.napi.remove(&mac(n))),
            1 => set("belongs_to_uuid", json!(uuid::Uuid::from_u128(99))),
            2 => set("belongs_to_uuid", json!(uuid)),
            3 => set("allow_ip_spoofing", json!(version.is_multiple_of(2))),
            4 => set("gateway", json!(format!("10.0.0.{}", version % 200 + 1))),
            5 => set("resolvers", json!([format!("10.9.0.{}", version % 200 + 1)])),
            _ => set("state", json!("running")),
        }
    }

    fn loaded(&self, uuid: InstanceUuid) -> Loaded {
        match self.vms.get(&uuid) {
            _ if self.unreadable.contains(&uuid) => Loaded::Unreadable("garbage".to_owned()),
            Some(vm) => Loaded::Object(vm.clone()),
            None => Loaded::Absent,
        }
    }

    fn work(&mut self, which: u8, fate: Fate) {
        self.waiting.extend(self.core.take_touched(self.now));
        let Some(work) = self.waiting.iter().nth(usize::from(which) % self.waiting.len().max(1)).cloned() else { return };
        self.waiting.remove(&work);
        match work {
            Work::Instance(uuid) => self.instance(uuid, fate),
            Work::Napi(key) => {
                let Some(request) = self.core.turn(key.clone(), self.now) else { return };
                let reply = match request {
                    Request::List => {
                        self.list = Some((self.napi.values().map(|there| there.object.clone()).collect(), self.now));
                        return;
                    }
                    Request::Nic(mac, call) => Reply::Nic(mac, self.nic(mac, call, fate)),
                    Request::Network(uuid) => Reply::Network(uuid, None),
                    Request::Aggregation(..) => panic!("there are none"),
                };
                self.now += Duration::from_millis(1);
                if self.core.reply(reply, self.now) {
                    self.waiting.insert(Work::Napi(key));
                }
            }
            Work::Server => panic!("nobody asked for it"),
        }
    }

    /// What was heard before the instance came, or in a list, is one word.
    fn note_doubts(&mut self) {
        for n in 0..8 {
            if self.core.nics.get(&mac(n)).is_some_and(|nic| nic.is_doubted()) {
                self.denied.entry(mac(n)).or_insert((self.now, 1));
            } else {
                self.denied.remove(&mac(n));
            }
        }
    }

    fn instance(&mut self, uuid: InstanceUuid, fate: Fate) {
        self.core.see(uuid, self.loaded(uuid), self.now);
        self.note_doubts();
        let Some(change) = self.core.change_of(uuid, self.now) else { return };
        assert!(self.vms.contains_key(&uuid) && !self.unreadable.contains(&uuid), "changed what is not there or cannot be read");
        let removed: Vec<Mac> = change
            .payload
            .get("remove_nics")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|mac| mac.as_str().unwrap().parse().unwrap())
            .collect();
        for mac in &removed {
            let (since, times) = self.denied[mac];
            assert!(times >= 2 && self.now >= since + CERTAIN_AFTER, "taken on one word");
            self.removals.push(self.now);
        }
        let recent = self.removals.iter().filter(|at| **at + Duration::from_secs(60) > self.now).count();
        assert!(recent <= 5, "{recent} NICs taken within a minute");
        let vm = self.vms.get_mut(&uuid).unwrap();
        assert!(!change.reboot || vm["state"] == "running", "rebooted one that does not run");
        assert!(!matches!(vm["state"].as_str(), Some("provisioning")) && !vm.contains_key("do_not_inventory"));
        if matches!(fate, Fate::Lost) {
            self.waiting.insert(Work::Instance(uuid));
            return;
        }
        let nics = vm["nics"].as_array_mut().unwrap();
        nics.retain(|nic| removed.iter().all(|mac| nic["mac"] != mac.to_string()));
        for update in change.payload.get("update_nics").and_then(Value::as_array).into_iter().flatten() {
            let nic = nics.iter_mut().find(|nic| nic["mac"] == update["mac"]).expect("a NIC of the instance");
            nic.as_object_mut().unwrap().extend(update.as_object().unwrap().clone());
        }
        for key in ["resolvers"] {
            if let Some(value) = change.payload.get(key) {
                vm.insert(key.to_owned(), value.clone());
            }
        }
        if matches!(fate, Fate::Unheard) {
            self.waiting.insert(Work::Instance(uuid));
            return;
        }
        if change.reboot {
            let boot = format!("{:?}", self.now);
            vm.insert("boot_timestamp".to_owned(), json!(boot));
        }
        self.core.given(uuid, &change, change.reboot, self.now);
    }

    fn hears(&mut self, mac: Mac, answer: Answer) -> Answer {
        let owner = match self.core.nics.get(&mac).and_then(Nic::owner) {
            Some(Owner::Instance(uuid)) => uuid.to_string(),
            _ => String::new(),
        };
        let ours = match &answer {
            Answer::Is(remote) => remote.object.unpack()["belongs_to_uuid"] == owner.as_str(),
            Answer::NotFound => false,
            _ => return answer,
        };
        if ours {
            self.denied.remove(&mac);
        } else {
            self.denied.entry(mac).or_insert((self.now, 0)).1 += 1;
        }
        answer
    }

    fn nic(&mut self, mac: Mac, call: Call, fate: Fate) -> Answer {
        let owner = self.uuids[usize::from(mac.0[5] / 2)];
        // The agent may not have seen yet what became of the instance, but it never acts against what it saw.
        let concerned = match &call {
            // Another version than the one that the agent saw may be anybody's by now: NAPI refuses it.
            Call::Delete { etag } => self
                .napi
                .get(&mac)
                .filter(|there| there.version.to_string() == *etag)
                .and_then(|there| there.object["belongs_to_uuid"].as_str()?.parse().ok()),
            Call::Create(_) | Call::Update(_) => Some(owner),
            Call::Get => None,
        };
        assert!(concerned.is_none_or(|uuid| !self.core.kept.hidden.contains(&uuid)), "NAPI was told of a hidden instance");
        if matches!(fate, Fate::Lost) {
            return Answer::Failed;
        }
        self.versions += 1;
        let version = self.versions;
        let is = |there: &There| Answer::Is(Remote::new(&there.object, Version::Tag(there.version.to_string())));
        let answer = match call {
            Call::Get => self.napi.get(&mac).map_or(Answer::NotFound, is),
            Call::Create(mut body) => {
                assert_eq!(body.remove("check_owner"), Some(json!(false)));
                assert!(body.get("primary").is_none_or(|primary| primary == true));
                body.extend(map(json!({"network_uuid": "11111111-1111-4111-8111-111111111111", "mtu": 1500})));
                match self.napi.get(&mac) {
                    Some(_) => Answer::Failed,
                    None => is(self.napi.entry(mac).or_insert(There { object: body, version })),
                }
            }
            Call::Update(mut body) => {
                assert_eq!(body.remove("check_owner"), Some(json!(false)));
                assert!(!body.is_empty() && body.get("primary").is_none_or(|primary| primary == true));
                match self.napi.get_mut(&mac) {
                    None => Answer::NotFound,
                    Some(there) => {
                        there.object.extend(body);
                        there.version = version;
                        is(there)
                    }
                }
            }
            Call::Delete { etag } => match self.napi.get(&mac) {
                None => Answer::NotFound,
                Some(there) if there.version.to_string() != etag => Answer::OtherVersion,
                Some(there) => {
                    // Beside its own, a NIC that NAPI says is here for an instance that was never here.
                    let theirs: InstanceUuid = there.object["belongs_to_uuid"].as_str().unwrap().parse().unwrap();
                    assert!(theirs == owner || !self.uuids.contains(&theirs), "somebody else's NIC was deleted");
                    assert_ne!(there.object["state"], "provisioning", "a NIC that a workflow owns was deleted");
                    self.napi.remove(&mac);
                    Answer::Deleted
                }
            },
        };
        if matches!(fate, Fate::Unheard) { Answer::Failed } else { self.hears(mac, answer) }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Work(which, fate) => self.work(which, fate),
            Step::Instance(which, what) => self.change_instance(which, what),
            Step::Napi(which, what) => self.change_napi(which, what),
            Step::Feed(n) => {
                let event = match n {
                    8.. => FeedEvent::Began(["nic".to_owned()].into()),
                    n => FeedEvent::Changed(FeedChange {
                        resource: "nic".to_owned(),
                        id: mac(n).to_string(),
                        cn_uuid: Some(self.core.me.server.to_string()),
                        ..FeedChange::default()
                    }),
                };
                self.core.feed(event, self.now);
            }
            Step::List => {
                if let Some((list, asked)) = self.list.take() {
                    let ours = list.into_iter().filter(|nic| nic.get("cn_uuid") == Some(&json!(self.core.me.server))).collect();
                    // What a list says counts as a word of NAPI's, too.
                    self.core.reply(Reply::List(Some(ours), asked), self.now);
                    self.note_doubts();
                }
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(u64::from(seconds)),
        }
    }

    /// Everything is looked at, everything works, and nobody changes anything any more.
    fn settle(&mut self) {
        self.unreadable.clear();
        for round in 0..60 {
            self.waiting.extend(self.uuids.iter().map(|uuid| Work::Instance(*uuid)));
            if round % 4 == 0 {
                self.step(Step::Feed(8));
            }
            for _ in 0..200 {
                self.waiting.extend(self.core.take_touched(self.now));
                if self.waiting.is_empty() {
                    break;
                }
                self.work(0, Fate::Good);
                self.step(Step::List);
            }
            assert!(self.waiting.is_empty(), "it does not come to rest: {:?}", self.waiting);
            self.now += Duration::from_secs(61);
        }
    }

    fn agree(&mut self) {
        for (uuid, vm) in &self.vms {
            let hidden = vm.get("do_not_inventory").is_some();
            let settled = matches!(vm["state"].as_str(), Some("running" | "stopped"));
            for (mac, local) in VmView::of(&self.core.me, *uuid, vm).nics {
                let there = self.napi.get(&mac).map(|there| &there.object);
                if hidden {
                    continue;
                }
                let ours = there.is_some_and(|there| there["belongs_to_uuid"] == uuid.to_string());
                // When most of them are doubted, NAPI is: then none is taken.
                assert!(ours || !settled || self.core.standing(self.now).held, "{mac} is here and not there: {there:?}");
                let Some(there) = there.filter(|_| ours) else { continue };
                assert_eq!(to_napi(&local.body.unpack(), there), JsonMap::new(), "NAPI does not know what is here");
                if settled {
                    assert_eq!(to_guest(&local.body.unpack(), &local.ips, there), JsonMap::new(), "the guest has not what NAPI says");
                }
            }
        }
        let here: BTreeSet<String> =
            self.vms.values().flat_map(|vm| vm["nics"].as_array().unwrap()).map(|nic| nic["mac"].as_str().unwrap().to_owned()).collect();
        for (mac, there) in &self.napi {
            let owner: InstanceUuid = there.object["belongs_to_uuid"].as_str().unwrap().parse().unwrap();
            let left = !here.contains(&mac.to_string()) && there.object["state"] != "provisioning" && self.uuids.contains(&owner);
            assert!(!left || self.hidden.contains(&owner) || self.may_remain(owner), "{mac} stayed behind: {:?}", there.object);
        }
    }

    /// A NIC of an instance that is being made is not swept.
    fn may_remain(&self, owner: InstanceUuid) -> bool {
        self.vms.get(&owner).is_some_and(|vm| vm["state"] == "provisioning")
    }
}

mod histories;
