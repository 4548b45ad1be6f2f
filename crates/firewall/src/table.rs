//! The part of the table that is the same on every node: hooks, exemptions, dispatch (sections 12.2 to 12.5, docs/nftables.md).

use triton_nft::{
    Batch, ChainHook, Compare, DataType, Expression, Family, Hook, Key, Lookup, Payload, Register, Rule, SetSpec, Tracked, Verdict,
};

use crate::{
    line::{ICMP6, UDP, family},
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
/// Rules come after what guests may send at all has been judged (-350), and after connections are known.
const PRIORITY: i32 = 0;

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
            Self::Native => "version_1_native",
            Self::Marks => "version_1_marks",
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

/// The table without instances, instead of whatever there is.
pub(crate) fn build(backend: Backend) -> Batch {
    use DataType::Interface;
    let mut batch = Batch::new(Family::Bridge, TABLE).without_table().table_is_there().chain(backend.version());
    for map in [names::EGRESS, names::INGRESS] {
        batch = batch.set(&SetSpec::new(map, &[Interface]).verdicts());
    }
    for set in [names::DHCP, names::ADDRCONF] {
        batch = batch.set(&SetSpec::new(set, &[Interface]));
    }
    let egress = || verdict(Expression::InputName(Register::FIRST), names::EGRESS);
    let ingress = || verdict(Expression::OutputName(Register::FIRST), names::INGRESS);
    let chains: [(&str, Vec<Rule>); 5] = [
        ("exempt", exempt()),
        ("answers", vec![answers(false, 67, 68, names::DHCP), answers(true, 547, 546, names::ADDRCONF)]),
        ("flow_forward", vec![known(backend).accept(), egress(), rule().jump("answers"), ingress()]),
        ("flow_input", vec![known(backend).accept(), egress()]),
        ("flow_output", vec![known(backend).accept(), rule().jump("answers"), ingress()]),
    ];
    for (chain, rules) in &chains {
        batch = batch.chain(chain);
        for rule in rules {
            batch = batch.rule(chain, rule);
        }
    }
    for (name, hook, flow) in
        [("forward", Hook::Forward, "flow_forward"), ("input", Hook::Input, "flow_input"), ("output", Hook::Output, "flow_output")]
    {
        batch = batch.base_chain(name, ChainHook { hook, priority: PRIORITY, accept: true });
        // What is neither, ARP above all, is the guard's matter.
        batch = batch.rule(name, &family(rule(), false).jump(flow));
        batch = batch.rule(name, &family(rule(), true).jump("exempt"));
        batch = batch.rule(name, &family(rule(), true).jump(flow));
    }
    if backend == Backend::Native {
        batch = with_zones(batch);
    }
    batch
}

fn with_zones(batch: Batch) -> Batch {
    use DataType::{Interface, Short};
    let maps = [names::ZONE_TAGGED, names::ZONE_PORT];
    let batch = maps.iter().fold(batch, |batch, map| batch.set(&SetSpec::new(map, &[Interface, Short]).values(Short)));
    // Later than this it loads, and does nothing (ruling 21).
    let batch = batch.base_chain("zones", ChainHook { hook: Hook::Prerouting, priority: -300, accept: true });
    zones().iter().fold(batch, |batch, rule| batch.rule("zones", rule))
}

/// A table that comes and goes in one transaction: the kernel takes it if its bridges track connections.
pub(crate) fn probe() -> Batch {
    let batch = with_zones(Batch::new(Family::Bridge, "triton_fw_probe").table_is_there());
    batch.rule("zones", &known(Backend::Native).accept()).without_table()
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

/// The verdict by which a link's packets are judged by a chain.
pub(crate) fn judged_by(chain: &str) -> Verdict {
    Verdict::Jump(chain.to_owned())
}
