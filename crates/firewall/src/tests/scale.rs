//! A node of the largest size.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::json;
use triton_fwrule::{Options, RemoteVm, Rule, VmFacts};
use triton_nft::{Batch, Family, Nft};

use super::rig::kernel;
use crate::{Applied, Compiler, Filter, LocalVm, News, Port, TABLE, compile};

const OWNERS: usize = 200;

fn uuid(kind: u8, number: usize) -> String {
    format!("{kind:02x}000000-0000-4000-8000-{number:012x}")
}

fn address(kind: u8, number: usize) -> IpAddr {
    let [.., b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
    IpAddr::from([kind, b, c, d])
}

pub fn locals(count: usize) -> Vec<LocalVm> {
    let vm = |number: usize| {
        let role = ["www", "db"][number % 2];
        let object = json!({
            "uuid": uuid(0xa0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "firewall_enabled": true, "state": "running",
            "nics": [{"ip": address(10, number)}], "tags": {"role": role, "number": number % 20},
        });
        let port = Port { link: format!("vt{number}"), networks: vec![("br0".to_owned(), 1)], dhcp: false, addrconf: false };
        LocalVm { facts: VmFacts::from_object(object.as_object().unwrap()).unwrap(), ports: vec![port] }
    };
    (0..count).map(vm).collect()
}

pub fn remotes(count: usize) -> Vec<RemoteVm> {
    let vm = |number: usize| {
        let object = json!({"uuid": uuid(0xc0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "ips": [address(11, number)],
            "tags": {"role": (["www", "db"][number % 2])}});
        RemoteVm::parse(object.as_object().unwrap()).unwrap()
    };
    (0..count).map(vm).collect()
}

pub fn rule(number: usize, port: usize) -> Rule {
    let text = match (number / OWNERS + number) % 5 {
        0 => format!("FROM any TO tag role = www ALLOW tcp PORT {port}"),
        1 => format!("FROM tag role = www TO tag role = db ALLOW tcp PORTS {port}, {} - {}", port + 10, port + 20),
        2 => format!("FROM subnet 172.16.{}.0/24 TO all vms ALLOW udp PORT {port}", number % 256),
        3 => format!("FROM tag number = {} TO any BLOCK tcp PORT {port}", number % 20),
        _ => format!("FROM (ip 192.0.2.{} OR tag role = www) TO tag number = {} ALLOW tcp PORT {port}", number % 250 + 1, number % 20),
    };
    let object = json!({"uuid": uuid(0xd0, number), "owner_uuid": uuid(0xb0, number % OWNERS), "enabled": true, "rule": text});
    Rule::from_json(&object, &Options::default()).unwrap()
}

/// What a rule that changes costs on a node with thousands of them: its own messages, and nothing is read of the table, as long as nobody
/// else changes it; after that everything is compared (firewaller section 12.7).
#[test]
fn kernel_a_changed_rule_costs_what_it_changes() {
    kernel(|rig| {
        let locals = locals(400);
        let remotes: BTreeMap<_, RemoteVm> = remotes(2000).into_iter().map(|vm| (vm.uuid, vm)).collect();
        let mut rules: BTreeMap<_, Rule> = (0..1000).map(|number| rule(number, 1000 + number)).map(|rule| (rule.uuid, rule)).collect();
        let mut compiler = Compiler::default();
        compiler.update(&rules, &remotes, &locals, &News::everything());
        let all = rig.filter.follow(&mut compiler, false).unwrap();
        assert!(all.made && all.messages > 5000, "{all:?}");
        let mut nft = Nft::open().unwrap();
        let of_others = || Batch::new(Family::Bridge, "other").table_is_there().chain("x").rule("x", &triton_nft::Rule::new().count());
        let mut change = |number: usize, port: usize, rig: &mut super::rig::Rig| {
            let changed = rule(number, port);
            rules.insert(changed.uuid, changed.clone());
            compiler.update(&rules, &remotes, &locals, &News { rules: [changed.uuid].into(), ..News::default() });
            let before = rig.filter.readings();
            let applied = rig.filter.follow(&mut compiler, false).unwrap();
            assert!(!applied.made);
            (applied.messages, rig.filter.readings() - before)
        };
        for round in 0..10 {
            let (messages, readings) = change(3 + 5 * round, 20_000 + round, rig);
            assert!((1..100).contains(&messages) && readings == 0, "{messages} messages, {readings} readings");
            nft.commit(of_others()).unwrap();
        }
        // Somebody adds a line: what this process remembers counts no more.
        nft.commit(Batch::new(Family::Bridge, TABLE).rule("answers", &triton_nft::Rule::new().count())).unwrap();
        let (messages, readings) = change(8, 30_000, rig);
        assert!((1..100).contains(&messages) && readings == 1, "{messages} messages, {readings} readings");
        let (messages, readings) = change(8, 30_001, rig);
        assert!((1..100).contains(&messages) && readings == 0, "{messages} messages, {readings} readings");
        // Another process changes the table to something else; this one brings it back.
        let others: Vec<Rule> = (0..10).map(|number| rule(number, 9)).collect();
        Filter::open(&rig.layout).unwrap().apply(&compile(&others, &locals, &[])).unwrap();
        let (messages, readings) = change(8, 30_001, rig);
        assert!(messages > 1000 && readings == 1, "{messages} messages, {readings} readings");
        assert_eq!(change(8, 30_001, rig), (0, 0));
        let rules: Vec<Rule> = rules.values().cloned().collect();
        let remotes: Vec<RemoteVm> = remotes.values().cloned().collect();
        let anew = compile(&rules, &locals, &remotes);
        assert_eq!(Filter::open(&rig.layout).unwrap().apply(&anew).unwrap(), Applied { messages: 0, made: false }, "as from nothing");
    });
}

/// What the kernel refuses, and what it never got, is in the next change.
#[test]
fn kernel_a_change_that_was_refused_is_made_by_the_next_one() {
    kernel(|rig| {
        let locals = locals(20);
        let mut rules: BTreeMap<_, Rule> = (0..40).map(|number| rule(number, 1000 + number)).map(|rule| (rule.uuid, rule)).collect();
        let mut compiler = Compiler::default();
        compiler.update(&rules, &BTreeMap::new(), &locals, &News::everything());
        rig.filter.follow(&mut compiler, false).unwrap();
        let before = super::rig::run("nft list table bridge triton_fw");
        let changed = rule(2, 40_000);
        rules.insert(changed.uuid, changed.clone());
        compiler.update(&rules, &BTreeMap::new(), &locals, &News { rules: [changed.uuid].into(), ..News::default() });
        // A chain of somebody else's leads to the one that goes: the kernel does not remove it.
        let old = compiler.touched().chains.first().copied().unwrap();
        let lead = crate::names::chains_of(old.1, old.0);
        let chain = before.split_whitespace().find(|word| word.starts_with(&lead)).unwrap().to_owned();
        super::rig::run("nft add chain bridge triton_fw mine");
        super::rig::run(&format!("nft add rule bridge triton_fw mine jump {chain}"));
        let refused = rig.filter.follow(&mut compiler, false).unwrap_err();
        assert!(matches!(refused, crate::FirewallError::Rules(triton_nft::NftError::Refused { .. })), "{refused:?}");
        assert!(super::rig::run("nft list table bridge triton_fw").contains(&chain), "what was in force still is");
        super::rig::run("nft delete chain bridge triton_fw mine");
        let again = rules.values().next().unwrap().uuid;
        compiler.update(&rules, &BTreeMap::new(), &locals, &News { rules: [again].into(), ..News::default() });
        rig.filter.follow(&mut compiler, false).unwrap();
        let rules: Vec<Rule> = rules.into_values().collect();
        let anew = compile(&rules, &locals, &[]);
        assert_eq!(Filter::open(&rig.layout).unwrap().repair(&anew).unwrap(), Applied { messages: 0, made: false });
        assert!(!super::rig::run("nft list table bridge triton_fw").contains(&chain));
    });
}
