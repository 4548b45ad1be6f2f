//! What is compiled at the cost of a change is what would be compiled from nothing, whatever the changes were.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use triton_fwrule::{RemoteVm, Rule, VmFacts};
use triton_nft::{Batch, Family};
use triton_types::{InstanceUuid, RuleUuid};

use super::world::{Dice, OWNERS, VMS};
use crate::{
    Compiler, LocalVm, News, Port, compile,
    plan::{Present, between},
    table::TABLE,
};

/// A node whose rules and instances change.
#[derive(Default)]
struct Node {
    rules: BTreeMap<RuleUuid, Rule>,
    remotes: BTreeMap<InstanceUuid, RemoteVm>,
    locals: BTreeMap<InstanceUuid, LocalVm>,
    news: News,
}

fn described(dice: &mut Dice) -> serde_json::Value {
    let ips: Vec<&str> = (0..dice.roll(3)).map(|_| dice.pick(&["10.0.0.1", "10.0.0.2", "10.0.1.3", "fd00::1", "fd00::2"])).collect();
    let mut object = json!({"uuid": dice.pick(&VMS), "nics": [{"ips": ips}], "state": dice.pick(&["running", "stopped"]),
        "firewall_enabled": dice.roll(4) > 0, "tags": {}});
    for (tag, values) in [("role", ["web", "db"]), ("blue", ["true", "false"]), ("n", ["1", "2"])] {
        if dice.roll(2) == 0 {
            object["tags"][tag] = dice.pick(&values).into();
        }
    }
    if dice.roll(5) > 0 {
        object["owner_uuid"] = dice.pick(&OWNERS).into();
    }
    object
}

impl Node {
    fn change(&mut self, dice: &mut Dice) {
        match dice.roll(6) {
            0 | 1 => {
                let mut rule = dice.rule();
                rule.uuid = format!("30000000-0000-4000-8000-{:012x}", dice.roll(8)).parse().unwrap();
                self.news.rules.insert(rule.uuid);
                self.rules.insert(rule.uuid, rule);
            }
            2 => {
                if let Some(uuid) = self.rules.keys().nth(dice.roll(8)).copied() {
                    self.news.rules.insert(uuid);
                    match self.rules.get_mut(&uuid) {
                        Some(rule) if dice.roll(2) == 0 => rule.enabled = !rule.enabled,
                        _ => drop(self.rules.remove(&uuid)),
                    }
                }
            }
            3 => {
                let vm = RemoteVm::parse(described(dice).as_object().unwrap()).unwrap();
                self.news.remote_vms.insert(vm.uuid);
                match dice.roll(4) {
                    0 => drop(self.remotes.remove(&vm.uuid)),
                    _ => drop(self.remotes.insert(vm.uuid, vm)),
                }
            }
            _ => {
                let facts = VmFacts::from_object(described(dice).as_object().unwrap()).unwrap();
                let port = |number: usize, dice: &mut Dice| Port {
                    link: format!("vt{number}{}", &facts.uuid.to_string()[35..]),
                    networks: vec![("br0".to_owned(), u16::try_from(1 + dice.roll(3)).unwrap())],
                    dhcp: dice.roll(3) == 0,
                    addrconf: dice.roll(3) == 0,
                };
                let ports = (0..dice.roll(3)).map(|number| port(number, dice)).collect();
                match dice.roll(5) {
                    0 => drop(self.locals.remove(&facts.uuid)),
                    _ => drop(self.locals.insert(facts.uuid, LocalVm { facts, ports })),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Of a random history: the same table, and byte for byte the same change of the kernel's.
    #[test]
    fn a_change_compiles_to_what_a_new_compiler_makes(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let (mut node, mut compiler) = (Node::default(), Compiler::default());
        let mut in_force = Present::fresh(true);
        for step in 0..40 {
            (0..=dice.roll(3)).for_each(|_| node.change(&mut dice));
            // What is said to be new and is not costs, and changes nothing.
            if dice.roll(5) == 0 {
                node.news.rules.extend(node.rules.keys().nth(dice.roll(4)));
                node.news.all = dice.roll(3) == 0;
            }
            let locals: Vec<LocalVm> = node.locals.values().cloned().collect();
            compiler.update(&node.rules, &node.remotes, &locals, &std::mem::take(&mut node.news));
            let rules: Vec<Rule> = node.rules.values().cloned().collect();
            let remotes: Vec<RemoteVm> = node.remotes.values().cloned().collect();
            let anew = compile(&rules, &locals, &remotes);
            prop_assert_eq!(compiler.desired(), &anew, "step {}", step);
            let batch = || Batch::new(Family::Bridge, TABLE);
            let (change, after) = between(in_force.clone(), compiler.desired(), Some(compiler.touched()), batch());
            let (whole, wanted) = between(in_force.clone(), &anew, None, batch());
            prop_assert_eq!(format!("{change:?}"), format!("{whole:?}"), "step {}", step);
            prop_assert_eq!(&after, &wanted, "step {}", step);
            // Now and then the kernel does not take it.
            if dice.roll(4) > 0 {
                in_force = after;
                compiler.settle();
            }
        }
    }
}

/// One rule of many is compiled when one changes, and nothing when nothing does.
#[test]
fn only_what_changed_is_compiled() {
    let (locals, remotes) = (super::scale::locals(200), super::scale::remotes(2000));
    let remotes: BTreeMap<InstanceUuid, RemoteVm> = remotes.into_iter().map(|vm| (vm.uuid, vm)).collect();
    let mut rules: BTreeMap<RuleUuid, Rule> =
        (0..500).map(|number| super::scale::rule(number, 1000 + number)).map(|r| (r.uuid, r)).collect();
    let mut compiler = Compiler::default();
    compiler.update(&rules, &remotes, &locals, &News::everything());
    let before = compiler.compiled();
    assert_eq!(before, 400, "each of them is about one direction, and a fifth about nobody here");
    compiler.settle();
    let changed = super::scale::rule(7, 40_000);
    rules.insert(changed.uuid, changed.clone());
    compiler.update(&rules, &remotes, &locals, &News { rules: [changed.uuid].into(), ..News::default() });
    assert_eq!(compiler.compiled(), before + 1);
    assert_eq!(compiler.touched().chains.len(), 1, "the only instance of its owner: {:?}", compiler.touched());
    compiler.settle();
    compiler.update(&rules, &remotes, &locals, &News::everything());
    assert_eq!(compiler.compiled(), before + 1);
    let touched = compiler.touched();
    assert!(touched.chains.is_empty() && touched.sets.is_empty() && !touched.links);
}
