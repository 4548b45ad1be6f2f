//! The part of the table that is the same on every node: hooks, exemptions, dispatch (sections 12.2 to 12.5, docs/nftables.md).

use triton_nft::{
    Batch, ChainHook, Compare, DataType, Expression, Family, Hook, Key, Lookup, Payload, Register, Rule, SetSpec, Tracked, Verdict,
};

use crate::{
    line::{ICMP6, IPV4, IPV6, UDP, family},
    names,
};

/// The table's name.
pub const TABLE: &str = "triton_fw";
/// Where connections are tracked by the bridges' own code, the table for the other way (ruling 20).
pub(crate) const MARKS: &str = "triton_fw_marks";
/// Its chain.
pub(crate) const MARKS_CHAIN: &str = "known";
/// The mark of packets of known connections, where bridges do not track.
const MARK: u32 = 0x0001_0000;
/// Rules come after what guests may send at all has been judged (-350), and after connections are known. Not 0: where packets of bridges
/// pass the hooks of IP too, the kernel goes on after them with the hooks behind its own (`NF_BR_PRI_BRNF`, 0) and leaves out all others.
const PRIORITY: i32 = 10;
/// Zones come after the guard (-350), and before connections are tracked (-200). Later than this the chain loads, and does nothing (ruling 21).
const ZONES: i32 = -300;
/// So many tables are each behind the one before them ([`behind`]).
const TURNS: i32 = 90;

/// How connections are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel tracks connections on bridges, in a zone for each network.
    Native,
    /// It tracks them where packets of bridges pass through the hooks of IP, and marks those that are known. Networks share their
    /// connections: for machines on which the whole is tried out, not for nodes.
    Marks,
}

impl Backend {
    /// The chain by which the table of this version and backend is known.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Native => "version_5_native",
            Self::Marks => "version_4_marks",
        }
    }
}

fn rule() -> Rule {
    Rule::new()
}

fn verdict(load: Expression, map: &str) -> Rule {
    rule().with(load).with(Expression::Set(Register::FIRST, Lookup::Verdict, map.to_owned()))
}

fn known(backend: Backend) -> Rule {
    match backend {
        Backend::Native => rule().tracked(Tracked::ESTABLISHED.or(Tracked::RELATED)),
        Backend::Marks => rule()
            .with(Expression::Mark(Register::FIRST))
            .with(Expression::Mask(Register::FIRST, Key::raw(&MARK.to_ne_bytes())))
            .with(Expression::If(Register::FIRST, Compare::NotEqual, Key::raw(&[0; 4]))),
    }
}

/// Answers that no connection is known for: a client asks all, and one server answers.
fn answers(ipv6: bool, from: u16, to: u16, set: &str) -> Rule {
    let port = |rule: Rule, at: u32, number: u16| rule.bytes(Payload::Transport(at, 2), Compare::Equal, &number.to_be_bytes());
    port(port(family(rule(), ipv6).protocol(UDP), 0, from), 2, to).output(Lookup::In, set).accept()
}

/// Neighbour discovery and the group membership that it needs: never filtered.
fn exempt() -> Vec<Rule> {
    [130, 131, 132, 133, 134, 135, 136, 137, 143]
        .map(|kind: u8| rule().protocol(ICMP6).bytes(Payload::Transport(0, 1), Compare::Equal, &[kind]).accept())
        .into()
}

/// What is of no family, ARP above all, is the guard's matter.
fn neither_family() -> Rule {
    let other = |rule: Rule, kind: &[u8]| rule.with(Expression::If(Register::FIRST, Compare::NotEqual, Key::raw(kind)));
    other(other(rule().with(Expression::NetworkProtocol(Register::FIRST)), &IPV4), &IPV6)
}

/// Each network (a bridge and a VLAN) tracks by itself: two tenants may use the same addresses.
fn zones() -> Vec<Rule> {
    const AFTER: Register = Register::FIRST.after(triton_nft::NAME);
    let zone = |rule: Rule, map: &str| {
        rule.with(Expression::Value(Register::FIRST, map.to_owned(), Register::FIRST)).with(Expression::Zone(Register::FIRST))
    };
    let tagged = rule()
        .bytes(Payload::Link(12, 2), Compare::Equal, &[0x81, 0])
        .with(Expression::BridgeName(Register::FIRST))
        .with(Expression::Load(Payload::Link(14, 2), AFTER))
        .with(Expression::Mask(AFTER, Key::raw(&[0x0f, 0xff])));
    let untagged = rule()
        .bytes(Payload::Link(12, 2), Compare::NotEqual, &[0x81, 0])
        .with(Expression::BridgeName(Register::FIRST))
        .with(Expression::PortVlan(AFTER));
    vec![zone(tagged, names::ZONE_TAGGED), zone(untagged, names::ZONE_PORT)]
}

/// A chain that is the same on every node.
pub(crate) struct Fixed {
    pub(crate) name: &'static str,
    hook: Option<ChainHook>,
    pub(crate) rules: Vec<Rule>,
}

fn chain(name: &'static str, rules: Vec<Rule>) -> Fixed {
    Fixed { name, hook: None, rules }
}

/// How much later than the first table's the chains of one are called that takes the place of a table whose `forward` chain has this priority.
///
/// While a table takes the place of another, a packet on its way may see the old chains without their lines, or their maps without elements.
/// The new ones, which come later on its way, have theirs by then. The other way round it would pass by both.
pub(crate) fn behind(priority: Option<i32>) -> i32 {
    priority.map_or(0, |priority| (priority - PRIORITY + 1).rem_euclid(TURNS))
}

/// All of them, each after those that it calls; `turn` is how much later those of hooks are called ([`behind`]).
pub(crate) fn fixed(backend: Backend, turn: i32) -> Vec<Fixed> {
    let egress = || verdict(Expression::InputName(Register::FIRST), names::EGRESS);
    let ingress = || verdict(Expression::OutputName(Register::FIRST), names::INGRESS);
    let mut chains = vec![
        chain(backend.version(), Vec::new()),
        chain("exempt", exempt()),
        chain("answers", vec![answers(false, 67, 68, names::DHCP), answers(true, 547, 546, names::ADDRCONF)]),
        chain("flow_forward", vec![known(backend).accept(), egress(), rule().jump("answers"), ingress()]),
        chain("flow_input", vec![known(backend).accept(), egress()]),
        chain("flow_output", vec![known(backend).accept(), rule().jump("answers"), ingress()]),
    ];
    for (name, hook, flow) in
        [("forward", Hook::Forward, "flow_forward"), ("input", Hook::Input, "flow_input"), ("output", Hook::Output, "flow_output")]
    {
        // The kernel follows every jump of every change: one for both families costs half of two.
        let rules = vec![family(rule(), true).jump("exempt"), neither_family().accept(), rule().jump(flow)];
        chains.push(Fixed { name, hook: Some(ChainHook { hook, priority: PRIORITY + turn, accept: true }), rules });
    }
    if backend == Backend::Native {
        chains.push(zone_chain(zones(), turn));
    }
    chains
}

fn zone_chain(rules: Vec<Rule>, turn: i32) -> Fixed {
    Fixed { name: "zones", hook: Some(ChainHook { hook: Hook::Prerouting, priority: ZONES + turn, accept: true }), rules }
}

/// Nothing is between a chain and its rules: their numbers follow each other.
fn with(batch: Batch, chain: &Fixed) -> Batch {
    let batch = match chain.hook {
        Some(hook) => batch.base_chain(chain.name, hook),
        None => batch.chain(chain.name),
    };
    chain.rules.iter().fold(batch, |batch, rule| batch.rule(chain.name, rule))
}

/// The table without instances, instead of whatever there is.
pub(crate) fn build(backend: Backend, turn: i32) -> Batch {
    use DataType::Interface;
    let mut batch = Batch::new(Family::Bridge, TABLE).without_table().table_is_there();
    for map in [names::EGRESS, names::INGRESS] {
        batch = batch.set(&SetSpec::new(map, &[Interface]).verdicts());
    }
    for set in [names::DHCP, names::ADDRCONF] {
        batch = batch.set(&SetSpec::new(set, &[Interface]));
    }
    if backend == Backend::Native {
        batch = zone_maps(batch);
    }
    fixed(backend, turn).iter().fold(batch, with)
}

fn zone_maps(batch: Batch) -> Batch {
    use DataType::{Interface, PortVlan, Short, Vlan};
    let maps = [(names::ZONE_TAGGED, Vlan), (names::ZONE_PORT, PortVlan)];
    maps.iter().fold(batch, |batch, (map, vlan)| batch.set(&SetSpec::new(map, &[Interface, *vlan]).values(Short)))
}

/// A table that comes and goes in one transaction: the kernel takes it if its bridges track connections.
pub(crate) fn probe() -> Batch {
    let batch = zone_maps(Batch::new(Family::Bridge, "triton_fw_probe").table_is_there());
    with(batch, &zone_chain([zones(), vec![known(Backend::Native).accept()]].concat(), 0)).without_table()
}

/// The table that marks packets of known connections, where bridges do not track.
pub(crate) fn marks() -> Batch {
    let set = rule()
        .tracked(Tracked::ESTABLISHED.or(Tracked::RELATED))
        .with(Expression::Mark(Register::FIRST))
        .with(Expression::Blend(Register::FIRST, Key::raw(&(!MARK).to_ne_bytes()), Key::raw(&MARK.to_ne_bytes())))
        .with(Expression::SetMark(Register::FIRST));
    Batch::new(Family::Inet, MARKS)
        .without_table()
        .table_is_there()
        .base_chain(MARKS_CHAIN, ChainHook { hook: Hook::Prerouting, priority: -150, accept: true })
        .rule(MARKS_CHAIN, &set)
}

/// The verdict by which a link's packets are judged by what an entry leads to.
pub(crate) fn judged_by(entry: &str) -> Verdict {
    Verdict::Jump(entry.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_the_place_of_another_is_called_later_and_stays_before_tracking() {
        assert_eq!(behind(None), 0);
        assert_eq!((behind(Some(PRIORITY)), behind(Some(PRIORITY + 1))), (1, 2));
        assert_eq!(behind(Some(0)), TURNS - 9, "one of a version before these");
        for priority in -400..400 {
            let turn = behind(Some(priority));
            assert!((0..TURNS).contains(&turn) && (-350..-200).contains(&(ZONES + turn)), "{priority}: {turn}");
        }
    }
}
