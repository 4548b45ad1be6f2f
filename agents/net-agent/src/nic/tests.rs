//! The machine of a NIC, step by step.

use super::*;
use crate::local::Pace;

/// Of [`Pace`].
const CERTAIN_AFTER: Duration = Duration::from_secs(10);

fn map(value: Value) -> JsonMap {
    let Value::Object(map) = value else { panic!("no object: {value}") };
    map
}

const VM: &str = "5b9a3a3e-1c0e-4a38-8b35-3d1c2c6a0001";
const OTHER: &str = "5b9a3a3e-1c0e-4a38-8b35-3d1c2c6a0002";
const CN: &str = "44454c4c-0000-1000-8000-000000000001";
const ADMIN: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

fn mac() -> Mac {
    "90:b8:d0:00:00:01".parse().unwrap()
}

fn me() -> Me {
    Me { server: CN.parse().unwrap(), admin: Some(ADMIN.to_owned()), pace: Pace::default() }
}

fn local(extra: Value) -> Local {
    let nic = map(json!({"mac": "90:b8:d0:00:00:01", "nic_tag": "external", "vlan_id": 0, "ip": "10.0.0.5", "netmask": "255.255.255.0",
        "ips": ["10.0.0.5/24"]}));
    let mut local = Local::of_instance(&me(), VM.parse().unwrap(), Some(&json!("o")), true, &nic);
    let mut body = local.body.unpack();
    body.extend(map(extra));
    local.body = Packed::from(&body);
    local
}

fn remote(extra: Value) -> Remote {
    let mut object = map(
        json!({"mac": "90:b8:d0:00:00:01", "belongs_to_type": "zone", "belongs_to_uuid": VM, "owner_uuid": "o", "primary": false,
        "state": "running", "cn_uuid": CN, "nic_tag": "external", "vlan_id": 0, "ip": "10.0.0.5", "netmask": "255.255.255.0", "network_uuid": "n"}),
    );
    object.extend(map(extra));
    Remote::new(&object, Version::Tag("v1".to_owned()))
}

/// A NIC and the time.
struct Lab {
    nic: Nic,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        let now = Instant::now();
        let mut lab = Self { nic: Nic::awaited(mac(), now), now };
        lab.see(Event::Local(local(json!({}))));
        lab
    }

    fn see(&mut self, event: Event) -> Next {
        self.nic.observe(event, &me(), self.now)
    }

    fn call(&mut self) -> Call {
        match self.see(Event::Turn) {
            Next::Call(call) => call,
            next => panic!("no request but {next:?}"),
        }
    }

    /// The answer to the request that is made now.
    fn answers(&mut self, expected: &Call, answer: Answer) -> Next {
        assert_eq!(self.call(), *expected);
        self.see(Event::Answer(answer))
    }

    fn known(remote: Remote) -> Self {
        let mut lab = Self::new();
        lab.answers(&Call::Get, Answer::Is(remote));
        lab
    }

    fn release(&mut self) -> Next {
        self.see(Event::Gone { owner: Owner::Instance(VM.parse().unwrap()), release: true })
    }

    fn refresh(&mut self, answer: Answer) -> Next {
        assert_eq!(self.see(Event::Refresh), Next::Look);
        self.answers(&Call::Get, answer)
    }
}

fn update(fields: Value) -> Call {
    let mut fields = map(fields);
    fields.insert("check_owner".to_owned(), json!(false));
    Call::Update(fields)
}

/// net-agent case 1, 3
#[test]
fn a_nic_that_napi_does_not_have_is_created_and_asked_for_again_when_that_fails() {
    let mut lab = Lab::new();
    assert_eq!(lab.answers(&Call::Get, Answer::NotFound), Next::Look);
    let create = Call::Create(local(json!({})).to_create(mac()));
    assert_eq!(lab.answers(&create, Answer::Failed), Next::Look);
    assert_eq!(lab.answers(&Call::Get, Answer::NotFound), Next::Look);
    assert_eq!(lab.answers(&create, Answer::Is(remote(json!({"mtu": 1500, "gateway": "10.0.0.1"})))), Next::Rest);
    // net-agent case 2
    assert_eq!(lab.nic.wanted_here(), map(json!({"mtu": 1500, "gateway": "10.0.0.1", "network_uuid": "n"})));
}

/// net-agent case 4, 5, 6, 7, 8
#[test]
fn napi_is_told_what_differs_and_nothing_when_nothing_does() {
    let mut lab = Lab::known(remote(json!({})));
    assert_eq!(lab.see(Event::Turn), Next::Rest);
    assert_eq!(lab.see(Event::Local(local(json!({"state": "stopped"})))), Next::Look);
    assert_eq!(lab.answers(&update(json!({"state": "stopped"})), Answer::Is(remote(json!({"state": "stopped"})))), Next::Rest);
    lab.see(Event::Local(local(json!({"owner_uuid": "p"}))));
    let told = update(json!({"owner_uuid": "p", "state": "running"}));
    assert_eq!(lab.answers(&told, Answer::Failed), Next::Look, "it is tried again");
    assert_eq!(lab.answers(&told, Answer::Is(remote(json!({"owner_uuid": "p"})))), Next::Rest);
    let mut lab = Lab::known(remote(json!({"state": "provisioning", "cn_uuid": OTHER})));
    lab.answers(&update(json!({"cn_uuid": CN, "state": "running"})), Answer::Is(remote(json!({}))));
    assert!(lab.nic.is_in_step(&me(), lab.now));
}

#[test]
fn what_napi_does_not_take_is_not_said_for_ever() {
    let mut lab = Lab::known(remote(json!({"state": "provisioning"})));
    assert_eq!(lab.answers(&update(json!({"state": "running"})), Answer::Is(remote(json!({"state": "provisioning"})))), Next::Rest);
    assert_eq!(lab.see(Event::Local(local(json!({"state": "stopped"})))), Next::Look);
}

/// net-agent case 18, 19, 20
#[test]
fn a_release_deletes_the_version_that_was_judged() {
    let mut lab = Lab::known(remote(json!({})));
    assert_eq!(lab.release(), Next::Look);
    let delete = |etag: &str| Call::Delete { etag: etag.to_owned() };
    assert_eq!(lab.answers(&delete("v1"), Answer::Failed), Next::Look);
    assert_eq!(lab.answers(&delete("v1"), Answer::OtherVersion), Next::Look);
    let newer = Remote { version: Version::Tag("v2".to_owned()), ..remote(json!({"state": "stopped"})) };
    assert_eq!(lab.answers(&Call::Get, Answer::Is(newer)), Next::Look);
    assert_eq!(lab.answers(&delete("v2"), Answer::NotFound), Next::Over);
}

/// net-agent case 21, 22
#[test]
fn what_is_not_ours_or_not_settled_or_has_no_version_is_not_deleted() {
    let unversioned = Remote { version: Version::Unknown, ..remote(json!({})) };
    for there in [remote(json!({"belongs_to_uuid": OTHER})), remote(json!({"state": "provisioning"})), unversioned] {
        // Before it was ever asked for: it is asked for first.
        let mut lab = Lab::new();
        assert_eq!(lab.release(), Next::Look);
        assert_eq!(lab.answers(&Call::Get, Answer::Is(there.clone())), Next::Over);
        // Known, and changed since.
        let mut lab = Lab::known(remote(json!({})));
        lab.release();
        lab.see(Event::Refresh);
        assert_eq!(lab.answers(&Call::Get, Answer::Is(there)), Next::Over);
    }
    let mut lab = Lab::new();
    lab.release();
    assert_eq!(lab.answers(&Call::Get, Answer::NotFound), Next::Over);
}

/// net-agent case 24, 25, 28, ruling 6
#[test]
fn a_nic_is_given_up_after_two_answers_ten_seconds_apart_and_not_before() {
    for (answer, why) in [(Answer::NotFound, Doubt::Missing), (Answer::Is(remote(json!({"belongs_to_uuid": OTHER}))), Doubt::Foreign)] {
        let mut lab = Lab::known(remote(json!({})));
        let begin = lab.now;
        assert_eq!(lab.refresh(answer.clone()), Next::At(begin + CERTAIN_AFTER));
        // However often it is said in between.
        lab.now = begin + Duration::from_secs(9);
        lab.refresh(answer.clone());
        assert_eq!((lab.nic.disowned(), lab.nic.is_doubted()), (None, true));
        assert_eq!(lab.nic.wanted_here(), map(json!({})));
        lab.now = begin + Duration::from_secs(19);
        assert_eq!(lab.answers(&Call::Get, answer.clone()), Next::Rest);
        assert_eq!(lab.nic.disowned(), Some(why));
        // It came back before it was removed.
        lab.refresh(Answer::Is(remote(json!({}))));
        assert_eq!(lab.nic.disowned(), None);
    }
    // Taken back in between.
    let mut lab = Lab::known(remote(json!({})));
    lab.refresh(Answer::NotFound);
    lab.now += CERTAIN_AFTER;
    assert_eq!(lab.answers(&Call::Get, Answer::Is(remote(json!({})))), Next::Rest);
    lab.now += CERTAIN_AFTER;
    assert_eq!(lab.refresh(Answer::NotFound), Next::At(lab.now + CERTAIN_AFTER), "the doubt begins anew");
    assert_eq!(lab.nic.disowned(), None);
}

/// net-agent case 28
#[test]
fn a_nic_that_vanished_while_napi_was_told_is_doubted_and_not_created() {
    let mut lab = Lab::known(remote(json!({"state": "stopped"})));
    assert_eq!(lab.answers(&update(json!({"state": "running"})), Answer::NotFound), Next::At(lab.now + CERTAIN_AFTER));
    assert!(lab.nic.is_doubted());
}

/// net-agent case 30, 31
#[test]
fn a_nic_of_a_hidden_instance_is_forgotten_whatever_was_under_way() {
    let hide = || Event::Gone { owner: Owner::Instance(VM.parse().unwrap()), release: false };
    let mut lab = Lab::known(remote(json!({})));
    assert_eq!(lab.see(hide()), Next::Over);
    let mut lab = Lab::new();
    assert_eq!(lab.call(), Call::Get);
    assert_eq!(lab.see(hide()), Next::Rest);
    assert_eq!(lab.see(Event::Answer(Answer::NotFound)), Next::Over);
    let mut lab = Lab::known(remote(json!({})));
    lab.release();
    assert_eq!(lab.see(hide()), Next::Over);
}

#[test]
fn a_release_during_the_creation_and_a_return_during_the_release_are_heeded_after_the_answer() {
    let mut lab = Lab::new();
    lab.answers(&Call::Get, Answer::NotFound);
    assert!(matches!(lab.call(), Call::Create(_)));
    assert_eq!(lab.release(), Next::Rest);
    assert_eq!(lab.see(Event::Answer(Answer::Is(remote(json!({}))))), Next::Look);
    assert!(matches!(lab.call(), Call::Delete { .. }));
    assert_eq!(lab.see(Event::Local(local(json!({})))), Next::Rest);
    assert_eq!(lab.see(Event::Answer(Answer::Deleted)), Next::Look);
    assert_eq!(lab.call(), Call::Get);
    lab.see(Event::Answer(Answer::NotFound));
    assert!(matches!(lab.call(), Call::Create(_)));
}

fn server(extra: Value) -> Local {
    let mut body = map(
        json!({"belongs_to_type": "server", "belongs_to_uuid": CN, "owner_uuid": ADMIN, "state": "running", "nic_tags_provided": ["admin"]}),
    );
    body.extend(map(extra));
    Local { owner: Owner::Server(CN.parse().unwrap()), body: Packed::from(&body), ips: Vec::new() }
}

/// net-agent case 26
#[test]
fn a_nic_that_the_boot_server_made_is_claimed_and_another_ones_is_left_alone() {
    let made = json!({"belongs_to_type": "other", "belongs_to_uuid": ADMIN, "owner_uuid": ADMIN, "state": "stopped", "cn_uuid": null});
    let mut lab = Lab { nic: Nic::awaited(mac(), Instant::now()), now: Instant::now() };
    lab.see(Event::Local(server(json!({}))));
    lab.answers(&Call::Get, Answer::Is(remote(made)));
    assert_eq!(lab.call(), update(json!({"belongs_to_type": "server", "belongs_to_uuid": CN, "state": "running"})));
    for foreign in [
        json!({"belongs_to_uuid": OTHER, "belongs_to_type": "server"}),
        json!({"belongs_to_type": "other", "owner_uuid": "x", "belongs_to_uuid": OTHER}),
    ] {
        let mut lab = Lab { nic: Nic::awaited(mac(), Instant::now()), now: Instant::now() };
        lab.see(Event::Local(server(json!({}))));
        assert_eq!(lab.answers(&Call::Get, Answer::Is(remote(foreign))), Next::Rest);
    }
}

/// net-agent case 39
#[test]
fn a_nic_of_the_machine_is_never_changed_and_its_tags_are_told_when_they_change_here() {
    let mut lab = Lab { nic: Nic::awaited(mac(), Instant::now()), now: Instant::now() };
    lab.see(Event::Local(server(json!({}))));
    let there = |tags: Value| {
        remote(
            json!({"belongs_to_type": "server", "belongs_to_uuid": CN, "owner_uuid": ADMIN, "nic_tags_provided": tags, "allow_ip_spoofing": true}),
        )
    };
    assert_eq!(
        lab.answers(&Call::Get, Answer::Is(there(json!(["admin", "external"])))),
        Next::Rest,
        "what NAPI was told by somebody else stays"
    );
    assert_eq!(lab.see(Event::Local(server(json!({"nic_tags_provided": ["admin", "internal"]})))), Next::Look);
    let told = update(json!({"nic_tags_provided": ["admin", "internal"]}));
    assert_eq!(lab.answers(&told, Answer::Is(there(json!(["admin", "internal"])))), Next::Rest);
    assert_eq!(lab.refresh(Answer::Is(there(json!(["admin"])))), Next::Rest, "told once");
    assert_eq!(lab.refresh(Answer::NotFound), Next::Rest, "it is not made again");
}

/// Ruling 4
#[test]
fn a_list_says_what_a_question_would_but_for_the_version() {
    let mut lab = Lab::new();
    let asked = lab.now;
    assert_eq!(lab.see(Event::Listed { object: Some(remote(json!({})).object.unpack()), asked }), Next::Rest);
    assert!(lab.nic.is_in_step(&me(), lab.now));
    assert_eq!(lab.release(), Next::Look);
    assert_eq!(lab.answers(&Call::Get, Answer::Is(remote(json!({})))), Next::Look);
    assert_eq!(lab.call(), Call::Delete { etag: "v1".to_owned() });
    // Half an entry, a strange one, none, and one that is older than what is known.
    for object in [Some(map(json!({"mac": "90:b8:d0:00:00:01", "ip": "10.0.0.5"}))), Some(map(json!({"mac": 5}))), None] {
        let mut lab = Lab::new();
        assert_eq!(lab.see(Event::Listed { object, asked: lab.now }), Next::Look);
        assert_eq!(lab.call(), Call::Get);
    }
    let mut lab = Lab::known(remote(json!({})));
    let old = Event::Listed {
        object: Some(remote(json!({"belongs_to_uuid": OTHER})).object.unpack()),
        asked: lab.now.checked_sub(Duration::from_secs(1)).unwrap(),
    };
    assert_eq!(lab.see(old), Next::Rest);
    // What says that it is not ours is asked for by itself.
    lab.now += Duration::from_secs(60);
    lab.see(Event::Listed { object: Some(remote(json!({"belongs_to_uuid": OTHER})).object.unpack()), asked: lab.now });
    assert!(lab.nic.is_doubted());
}

#[test]
fn an_answer_that_is_no_nic_is_named() {
    let of = |object: Value| Remote::of(Some(mac()), &map(object), Version::Unknown);
    assert!(of(json!({"mac": "90:B8:d0:0:0:1", "belongs_to_uuid": VM, "belongs_to_type": "zone", "state": "running"})).is_ok());
    for (object, field) in [
        (json!({}), "mac"),
        (json!({"mac": "90:b8:d0:00:00:02", "belongs_to_uuid": VM, "belongs_to_type": "zone", "state": "running"}), "mac"),
        (json!({"mac": "90:b8:d0:00:00:01", "belongs_to_uuid": 5, "belongs_to_type": "zone", "state": "running"}), "belongs_to_uuid"),
        (json!({"mac": "90:b8:d0:00:00:01", "belongs_to_uuid": VM, "belongs_to_type": "zone"}), "state"),
    ] {
        assert!(of(object).unwrap_err().starts_with(field));
    }
}
