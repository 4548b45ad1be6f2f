//! What holds for every text and every rule.

use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};

use super::text;
use crate::{Action, Address, IcmpType, IcmpTypes, PortEntry, Ports, Protocol, Side, Spec, Subnet, Target};

fn targets(family: Option<bool>) -> impl Strategy<Value = Side> {
    let v4 = any::<[u8; 4]>().prop_map(|o| format!("{}.{}.{}.{}", o[0] / 2 + 1, o[1], o[2], o[3]));
    let v6 = any::<u16>().prop_map(|n| format!("fd00::{n:x}"));
    let address = match family {
        Some(true) => v4.boxed(),
        Some(false) => v6.boxed(),
        None => prop_oneof![v4, v6].boxed(),
    };
    let name = || prop_oneof![".{0,6}", "[a-z]{1,3}"];
    let target = prop_oneof![
        address.clone().prop_map(|text| Target::Ip(Address::parse(&text).unwrap())),
        (address, 0u8..=32).prop_map(|(text, length)| Target::Subnet(Subnet::parse(&text, &format!("/{length}"), false).unwrap())),
        (name(), proptest::option::of(name())).prop_map(|(key, value)| Target::Tag { key, value }),
        any::<u128>().prop_map(|n| Target::Vm(n_uuid(n))),
    ];
    prop_oneof![Just(Side::new(vec![Target::Any])), Just(Side::new(vec![Target::AllVms])), vec(target, 1..24).prop_map(Side::new)]
}

fn n_uuid(n: u128) -> triton_types::InstanceUuid {
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).parse().unwrap()
}

fn ports() -> impl Strategy<Value = Ports> {
    let entry = prop_oneof![(1u16..).prop_map(PortEntry::One), (1u16.., 1u16..).prop_map(|(a, b)| PortEntry::Range(a.min(b), a.max(b))),];
    prop_oneof![Just(Ports::All), vec(entry, 1..24).prop_map(Ports::of)]
}

fn types() -> impl Strategy<Value = IcmpTypes> {
    let entry = any::<(u8, Option<u8>)>().prop_map(|(number, code)| IcmpType { number, code });
    prop_oneof![Just(IcmpTypes::All), vec(entry, 1..24).prop_map(IcmpTypes::of)]
}

fn specs() -> impl Strategy<Value = Spec> {
    let protocol = prop_oneof![
        ports().prop_map(Protocol::Tcp),
        ports().prop_map(Protocol::Udp),
        types().prop_map(Protocol::Icmp),
        types().prop_map(Protocol::Icmp6),
        Just(Protocol::Ah),
        Just(Protocol::Esp),
    ];
    let rule = protocol.prop_flat_map(|protocol| {
        let family = match protocol {
            Protocol::Icmp(_) => Some(true),
            Protocol::Icmp6(_) => Some(false),
            _ => None,
        };
        (targets(family), targets(family), Just(protocol))
    });
    (rule, any::<bool>(), 0u8..=100).prop_map(|((from, to, protocol), allow, priority)| {
        let action = if allow { Action::Allow } else { Action::Block };
        Spec { from, to, action, protocol, priority }
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same_rule(spec in specs()) {
        prop_assume!(spec.from.names_instances() || spec.to.names_instances());
        let printed = spec.to_string();
        prop_assert_eq!(text(&printed).map_err(|error| error.message), Ok(spec));
    }

    #[test]
    fn no_text_makes_the_parser_panic(input in "(FROM|TO|any|all|vms|tag|\"|\\\\|[(),=/-]|ip|1|\\.|:|f|PORTS?|tcp|AND|OR| |\n|\\PC){0,40}") {
        let _ = text(&input);
        let _ = text(&format!("FROM any TO {input}"));
        let _ = text(&format!("FROM any TO all vms ALLOW tcp {input}"));
    }
}

/// firewaller: rules of a megabyte
#[test]
fn a_megabyte_of_anything_is_judged_at_once() {
    let long = |unit: &str| unit.repeat((1 << 20) / unit.len());
    for (name, input) in [
        ("words", long("word ")),
        ("one word", long("a")),
        ("one number", format!("FROM any TO all vms ALLOW tcp PORT {}", long("9"))),
        ("one address", format!("FROM ip {}", long("1:"))),
        ("no string", format!("FROM tag \"{}", long("\\\\"))),
        ("one string", format!("FROM tag \"{}\" TO any BLOCK ah", long("☃"))),
        ("spaces", long("\n ")),
        ("targets", format!("FROM (tag a{}", long(" OR tag \"☃\""))),
        ("ports", format!("FROM any TO all vms ALLOW tcp PORTS 1{}", long(", 2-3"))),
        ("parentheses", format!("FROM {}", long("("))),
        ("uuid", format!("FROM vm {} TO", long("0-"))),
    ] {
        let begin = Instant::now();
        if let Err(error) = text(&input) {
            assert!(error.message.len() < 5000, "{name}: {} bytes of message", error.message.len());
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "{name} took {:?}", begin.elapsed());
    }
}
