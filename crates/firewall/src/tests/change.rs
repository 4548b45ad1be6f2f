//! Changes: only what differs, all of it or nothing, from whatever there is.

use triton_fwrule::{Direction, RemoteVm, Rule};
use triton_nft::{Family, Nft};

use super::{
    rig::{kernel, run},
    world::{self, Dice, rule},
};
use crate::{Applied, Desired, compile, names, plan::Present, table::TABLE};

/// What there is, as far as it must not depend on the way to it: zones are given in the order of need.
fn seen(desired: &Desired) -> Present {
    let mut present = Present::read(&mut Nft::open().unwrap(), desired, false).unwrap();
    present.zones = None;
    present
}

/// From any set of rules to any other: the table is as if it had been made for it.
#[test]
fn kernel_every_change_ends_where_a_new_table_would() {
    kernel(|rig| {
        let mut dice = Dice(7);
        for _ in 0..30 {
            let rules: Vec<Rule> = (0..dice.roll(8)).map(|_| dice.rule()).collect();
            let (mut locals, mut remotes) = (world::locals(), world::remotes());
            locals.truncate(1 + dice.roll(3));
            remotes.truncate(dice.roll(3));
            locals[0].ports[0].dhcp = dice.roll(2) == 0;
            let desired = compile(&rules, &locals, &remotes);
            rig.filter.apply(&desired).unwrap();
            let changed = seen(&desired);
            assert_eq!(rig.filter.apply(&desired).unwrap(), Applied { messages: 0, made: false }, "it rests");
            run("nft delete table bridge triton_fw");
            rig.filter.apply(&desired).unwrap();
            assert_eq!(seen(&desired), changed);
        }
        // Nobody's firewall is enabled: nothing is left.
        rig.filter.apply(&compile(&[], &[], &[])).unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

/// firewaller case E-ST10, section 8.5: an instance that loses a tag or an address is no longer admitted by it; nothing else is touched.
#[test]
fn kernel_a_peer_that_changes_changes_elements_alone() {
    kernel(|rig| {
        let rules = [rule(Some(world::OWNERS[0]), "FROM tag role = db TO all vms ALLOW tcp PORT 5432")];
        let (locals, remotes) = (world::locals(), world::remotes());
        rig.filter.apply(&compile(&rules, &locals, &remotes)).unwrap();
        let chains = |rig: &mut super::rig::Rig| rig.filter.hits(locals[0].facts.uuid).unwrap();
        let before = chains(rig);
        assert!(run("nft list table bridge triton_fw").contains("10.0.1.4"));
        let without: Vec<RemoteVm> = remotes[1..].to_vec();
        let applied = rig.filter.apply(&compile(&rules, &locals, &without)).unwrap();
        assert_eq!(applied, Applied { messages: 2, made: false }, "one address of each family");
        assert!(!run("nft list table bridge triton_fw").contains("10.0.1.4"));
        assert_eq!(chains(rig), before);
    });
}

/// firewaller section 12.6: what the kernel refuses changes nothing.
#[test]
fn kernel_a_refused_change_leaves_what_was_in_force() {
    kernel(|rig| {
        let locals = world::locals();
        let desired = compile(&[rule(None, "FROM any TO all vms ALLOW tcp PORT 22")], &locals, &[]);
        rig.filter.apply(&desired).unwrap();
        let before = run("nft list table bridge triton_fw");
        // A chain that somebody else made by the name of the next one.
        let mut next = compile(&[rule(None, "FROM any TO all vms ALLOW tcp PORT 23")], &locals, &[]);
        let vm = locals[0].facts.uuid;
        if let Some(chain) = next.chains.get_mut(&(vm, Direction::In)) {
            chain.name = "x".repeat(300);
        }
        let error = rig.filter.apply(&next).unwrap_err();
        assert!(with_causes(&error).contains("xxx"), "{error:?}");
        assert_eq!(run("nft list table bridge triton_fw"), before);
    });
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

/// Lines count, and say which rule they are of; the default is the last of the way in.
#[test]
fn kernel_lines_tell_their_rule_and_a_flush_is_repaired() {
    kernel(|rig| {
        let locals = world::locals();
        let allow = rule(None, "FROM any TO all vms ALLOW tcp (PORT 22 AND PORT 80 AND PORT 443)");
        let desired = compile(std::slice::from_ref(&allow), &locals, &[]);
        assert!(rig.filter.hits(locals[0].facts.uuid).unwrap().is_none());
        assert!(!rig.filter.covers(&["vt0".to_owned()]).unwrap());
        rig.filter.apply(&desired).unwrap();
        let hits = rig.filter.hits(locals[0].facts.uuid).unwrap().unwrap();
        let rules: Vec<_> = hits.iter().map(|hit| (hit.direction, hit.rule.clone())).collect();
        assert_eq!(rules, [(Direction::In, Some(allow.uuid.to_string())), (Direction::In, None)]);
        assert!(rig.filter.covers(&["vt0".to_owned(), "vt2".to_owned()]).unwrap());
        assert!(!rig.filter.covers(&["vt9".to_owned()]).unwrap());
        run("nft flush ruleset");
        assert!(!rig.filter.covers(&["vt0".to_owned()]).unwrap());
        rig.filter.apply(&desired).unwrap();
        assert!(rig.filter.covers(&["vt0".to_owned()]).unwrap());
    });
}

/// firewaller case E-ST12: ports that follow each other are one span; addresses inside a subnet of the same rule are not named twice; all of a family is no set.
#[test]
fn lists_that_overlap_become_spans() {
    let text =
        "FROM (ip 10.0.0.1 OR subnet 10.0.0.0/8 OR subnet 10.1.0.1/16 OR subnet 0.0.0.0/0) TO all vms ALLOW tcp PORTS 80, 80 - 90, 91";
    let desired = compile(&[rule(None, text)], &world::locals(), &[]);
    assert!(desired.fixed.is_empty(), "{:?}", desired.fixed);
    let text =
        "FROM (ip 10.0.0.1 OR subnet 10.0.0.0/8 OR subnet 10.1.0.1/16 OR ip 11.0.0.0) TO all vms ALLOW tcp PORTS 80, 100 - 110, 105 - 120";
    let desired = compile(&[rule(None, text)], &world::locals(), &[]);
    let sizes: Vec<usize> = desired.fixed.values().map(|(_, spans)| spans.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3, "one of addresses, two of ports: {:?}", desired.fixed);
}

/// What a node of the largest size compiles is loaded in one change.
#[test]
fn kernel_two_thousand_instances_are_loaded_in_one_change() {
    kernel(|rig| {
        let model = world::locals().remove(0);
        let locals: Vec<_> = (0..2000_u32)
            .map(|number| {
                let mut vm = model.clone();
                vm.facts.uuid = format!("10000000-0000-4000-8000-{number:012x}").parse().unwrap();
                vm.ports[0].link = format!("vt{number:x}");
                vm
            })
            .collect();
        let rules: Vec<Rule> =
            (1..=10).map(|port| rule(Some(world::OWNERS[0]), &format!("FROM tag role TO all vms ALLOW tcp PORT {port}"))).collect();
        let desired = compile(&rules, &locals, &[]);
        assert!(rig.filter.apply(&desired).unwrap().messages > 20_000);
        assert_eq!(rig.filter.apply(&desired).unwrap().messages, 0);
        assert_eq!(Nft::open().unwrap().elements(Family::Bridge, TABLE, names::INGRESS).unwrap().len(), 2000);
    });
}

/// firewaller case E-ST12: the kernel takes what overlaps in the text.
#[test]
fn kernel_e_st12_lists_that_overlap_are_taken() {
    kernel(|rig| {
        let text = "FROM (subnet 10.0.0.0/8 OR subnet 10.1.0.0/16 OR ip 10.1.2.3 OR subnet fd00::/8 OR ip fd00::1) TO all vms \
                    ALLOW tcp PORTS 80, 80 - 90, 443";
        let desired = compile(&[rule(None, text)], &world::locals(), &[]);
        rig.filter.apply(&desired).unwrap();
        assert_eq!(rig.filter.repair(&desired).unwrap(), Applied { messages: 0, made: false });
    });
}

/// firewaller case E-ST11: whose address nobody knows is no peer, and stops nothing.
#[test]
fn kernel_e_st11_an_instance_without_an_address_contributes_none() {
    kernel(|rig| {
        let mut locals = world::locals();
        let object = serde_json::json!({"uuid": world::VMS[1], "owner_uuid": world::OWNERS[0], "firewall_enabled": true,
            "state": "running", "tags": {"role": "db"}, "nics": [{"ip": "dhcp"}, {"ips": ["addrconf"]}]});
        locals[1].facts = triton_fwrule::VmFacts::from_object(object.as_object().unwrap()).unwrap();
        let rules = [rule(Some(world::OWNERS[0]), "FROM tag role = db TO all vms ALLOW tcp PORT 5432")];
        let desired = compile(&rules, &locals, &[]);
        assert!(desired.peers.values().all(std::collections::BTreeSet::is_empty), "{:?}", desired.peers);
        rig.filter.apply(&desired).unwrap();
        assert_eq!(rig.filter.apply(&desired).unwrap().messages, 0);
    });
}
