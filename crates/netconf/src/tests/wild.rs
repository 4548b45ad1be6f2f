//! Documents that nobody would write.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::made_with;
use crate::{Device, Facts, File, HostNicKind, NodeSettings, Plan};

/// Values that are right, nearly right, or of another kind.
fn value() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "admin",
        "external",
        "rack1",
        "rack",
        "vt",
        "eth",
        "aggr0",
        "aggr",
        "tb",
        "-",
        "",
        "dhcp",
        "addrconf",
        "10.0.0.5",
        "10.0.0.5/24",
        "fd00::5",
        "fd00::5/64",
        "255.255.255.0",
        "255.0.255.0",
        "64",
        "10.0.0.1",
        "fe80::1",
        "00:50:56:00:00:01",
        "0:50:56:0:0:2",
        "02:00:00:00:00:03",
        "macs[00:50:56:00:00:01]",
        "active",
        "passive",
        "off",
        "0",
        "128",
        "4095",
        "a_tag_with_a_rather_long_name_1",
        "new\nline",
        "a\0b",
        "[Match]",
        "\u{202e}x",
        "0.0.0.0",
        "0.0.0.0/0",
        "10.0.0.0/8",
    ])
    .prop_map(|word| json!(word));
    let leaf = prop_oneof![6 => words, 2 => any::<i64>().prop_map(|n| json!(n)), 2 => (0u32..10000).prop_map(|n| json!(n)),
        1 => any::<bool>().prop_map(|b| json!(b)), 1 => Just(Value::Null), 1 => any::<String>().prop_map(|s| json!(s)),
        1 => any::<f64>().prop_map(|f| json!(f))];
    leaf.prop_recursive(
        3,
        24,
        6,
        |inner| prop_oneof![3 => prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array), 1 => object(inner)],
    )
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "name",
        "mac",
        "mtu",
        "uuid",
        "nic_tag",
        "ip",
        "netmask",
        "ips",
        "vlan_id",
        "gateway",
        "gateways",
        "primary",
        "resolvers",
        "routes",
        "macs",
        "lacp_mode",
        "10.1.0.0/16",
        "fd01::/64",
        "x",
    ]);
    prop::collection::vec((keys, inner), 0..8).prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn document() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "nictags",
        "vnics",
        "aggregations",
        "admin_tag",
        "resolvers",
        "routes",
        "hostname",
        "datacenter_name",
        "dns_domain",
        "nictag_rules",
        "etherstubs",
        "else",
    ]);
    let objects = prop::collection::vec(object(value()), 0..6).prop_map(Value::Array);
    prop::collection::vec((keys, prop_oneof![3 => objects, 2 => value(), 1 => object(value())]), 0..9)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn links(plan: &Plan) -> Vec<&str> {
    let mut names = Vec::new();
    for uplink in &plan.uplinks {
        names.push(uplink.bridge.as_str());
        if let Device::Bond { link, .. } = &uplink.device {
            names.push(link);
        }
    }
    for nic in &plan.nics {
        names.push(&nic.name);
        if let HostNicKind::Veth { port } = &nic.kind {
            names.push(port);
        }
    }
    names
}

/// As systemd-networkd and the kernel see it.
fn is_link_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !name.bytes().all(|b| b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !name.starts_with("vt")
}

fn check(plan: &Plan, files: &[File]) {
    let names = links(plan);
    assert!(names.iter().all(|name| is_link_name(name)), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert_eq!(files.iter().map(|file| &file.path).collect::<BTreeSet<_>>().len(), files.len());
    for file in files {
        let (directory, name) = file.path.rsplit_once('/').unwrap();
        let owned = crate::OWNED.iter().any(|(owned, start)| *owned == directory && name.starts_with(start));
        assert!(owned || file.path == "etc/hostname", "{}", file.path);
        assert!(file.text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{file:?}");
        let unit = file.path.contains("/systemd/");
        for line in file.text.lines().filter(|line| unit && !line.is_empty() && !line.starts_with('#')) {
            let section = line.starts_with('[') && line.ends_with(']') && line.bytes().filter(|b| *b == b'[').count() == 1;
            assert!(section || line.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty()), "{line}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_is_read_names_and_files_are_legal_and_unique(document in document(), settings in any::<String>(), known in any::<bool>()) {
        let nics = known.then(|| vec!["00:50:56:00:00:01".parse().unwrap()]);
        let facts = Facts { settings: NodeSettings::parse(&format!("ntp_hosts='{settings}'\ndns_domain={settings}")), boot_mac: None, nics };
        let (plan, files, problems) = made_with(&document.to_string(), &facts);
        check(&plan, &files);
        for problem in problems {
            prop_assert!(problem.to_string().chars().all(|c| !c.is_control()), "{problem:?}");
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::Networking::parse(&bytes);
        let _ = crate::check_hash(&bytes, Some(&String::from_utf8_lossy(&bytes)));
        let _ = crate::boot_mac(&String::from_utf8_lossy(&bytes));
    }
}
