//! Scenarios in which the machine itself ends, and those that need two of them: driven from outside of it.
//!
//! Each begins on a fresh node (see [`super::testing`]) and may leave it in any state.

mod absent;
mod cut;
mod guarded;
mod many;
mod migrate;
mod netboot;
mod overlay;
mod pair;
mod pool;
mod reboot;
mod standalone;
mod verdicts;
mod vm;
mod wire;

use anyhow::Result;

use super::{args::TestArgs, bed::Bed};

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What has to be so.
    pub name: &'static str,
    /// On every landing.
    quick: bool,
    /// Only together with the other matrices.
    matrix: bool,
    /// Does it; an error is a failure.
    pub run: fn(&mut Bed) -> Result<()>,
}

const ALL: &[Scenario] = &[
    Scenario { name: "power_cut_during_every_verb_and_at_rest", quick: true, matrix: false, run: cut::once },
    Scenario { name: "reboot_starts_what_ran_and_nothing_else", quick: false, matrix: false, run: reboot::orderly },
    Scenario { name: "power_cut_at_several_steps", quick: false, matrix: false, run: cut::some },
    Scenario { name: "power_cut_at_every_step", quick: false, matrix: true, run: cut::all },
    Scenario { name: "without_its_pool_nothing_is_reported_as_destroyed", quick: false, matrix: false, run: absent::no_pool },
    Scenario { name: "standalone_node_is_set_up_from_the_disk_image", quick: false, matrix: false, run: standalone::set_up },
    Scenario { name: "netboot_node_takes_what_booter_gives_and_names_what_is_wrong", quick: false, matrix: false, run: netboot::modules },
    Scenario { name: "guarded_node_admits_its_admin_network_and_confines_guests", quick: false, matrix: false, run: guarded::node },
    Scenario { name: "pool_with_the_marker_and_no_other", quick: false, matrix: false, run: pool::marker_and_reset },
    Scenario { name: "pool_is_reset_by_its_property", quick: false, matrix: false, run: pool::reset_by_property },
    Scenario { name: "many_instances_at_once_leave_nothing", quick: false, matrix: false, run: many::at_once },
    Scenario { name: "pair_moves_an_instance_with_its_data_and_migrates_one", quick: false, matrix: false, run: pair::transfer },
    Scenario { name: "pair_lets_pass_between_nodes_what_the_rules_say", quick: false, matrix: false, run: verdicts::across },
    Scenario { name: "pair_carries_overlay_networks_between_nodes", quick: false, matrix: false, run: overlay::between },
];

/// Those that `args` ask for.
pub fn chosen(args: &TestArgs) -> Vec<Scenario> {
    let wanted = |scenario: &&Scenario| {
        (!args.quick || scenario.quick)
            && (args.matrix || !scenario.matrix)
            && (args.filters.is_empty() || args.filters.iter().any(|filter| scenario.name.contains(filter)))
    };
    ALL.iter().filter(wanted).copied().collect()
}
