//! The rules, one by one.

use super::{file, made_of, made_with};
use crate::{Facts, HostNicKind, Problem, dhcp_all_nics};

const M: &str = "00:50:56:00:00:01";

fn node(vnics: &str, more: &str) -> String {
    let tags = format!(r#"[{{"name":"admin","mac":"{M}"}},{{"name":"external","mac":"00:50:56:00:00:02"}}]"#);
    format!(r#"{{"nictags":{tags},"vnics":[{{"mac":"{M}","ip":"10.0.0.5","netmask":"255.255.0.0","nic_tag":"admin"}}{vnics}]{more}}}"#)
}

/// platform case 8
#[test]
fn one_admin_nic_has_its_address_and_no_default_route() {
    let (plan, files, problems) = made_of(&node("", r#","hostname":"cn1""#));
    let network = file(&files, &format!("{}.network", plan.uplinks[0].bridge));
    assert!(network.contains("Address=10.0.0.5/16\n") && network.contains("MTUBytes=1500\n") && !network.contains("Gateway"), "{network}");
    assert_eq!((file(&files, "etc/hostname"), problems.as_slice()), ("cn1\n", [].as_slice()));
    let netdev = file(&files, &format!("{}.netdev", plan.uplinks[0].bridge));
    assert!(netdev.contains(&format!("MACAddress={M}\n")) && netdev.contains("VLANFiltering=yes\n"), "{netdev}");
}

/// platform case 9
#[test]
fn a_nic_without_resolvers_keeps_no_other_from_being_configured() {
    let (plan, _, problems) = made_of(&node(
        r#",{"mac":"00:50:56:00:00:02","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"external","resolvers":["10.9.0.1"]}"#,
        "",
    ));
    assert!(problems.is_empty() && plan.uplinks.iter().all(|uplink| uplink.addressing.addresses.len() == 1));
    assert_eq!(plan.resolvers, ["10.9.0.1".parse::<std::net::IpAddr>().unwrap()]);
}

/// platform case 10
#[test]
fn an_address_on_a_vlan_is_tagged_and_leaves_the_untagged_link_without() {
    let (plan, files, problems) =
        made_of(&node(r#",{"mac":"00:50:56:00:00:02","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"external","vlan_id":128}"#, ""));
    assert!(problems.is_empty(), "{problems:?}");
    assert!(plan.uplinks[1].addressing.is_empty());
    assert_eq!((plan.nics[0].name.as_str(), plan.nics[0].vlan_id, &plan.nics[0].kind), ("external0", 128, &HostNicKind::Vlan));
    assert!(file(&files, "external0.netdev").contains("Kind=vlan\n\n[VLAN]\nId=128\n"));
    assert!(file(&files, "external0.network").contains("Address=10.9.0.5/16\n"));
    let bridge = file(&files, &format!("{}.network", plan.uplinks[1].bridge));
    assert!(
        bridge.contains("VLAN=external0\n") && bridge.contains("[BridgeVLAN]\nVLAN=128\n") && !bridge.contains("[Address]"),
        "{bridge}"
    );
    assert!(file(&files, "nic-005056000002.network").contains("[BridgeVLAN]\nVLAN=128\n"), "the way out is tagged too");
}

/// platform case 11, net-agent case 58
#[test]
fn a_tag_on_an_aggregation_is_bound_to_a_bond_of_its_nics() {
    let (plan, files, problems) = made_of(
        r#"{"nictags":[{"name":"external","mac":"aggr0"},{"name":"admin","mac":"00:50:56:00:00:03"}],
        "aggregations":[{"name":"aggr0","macs":["00:50:56:00:00:03","00:50:56:00:00:04"],"lacp_mode":"active"}],
        "vnics":[{"mac":"00:50:56:00:00:03","ip":"10.0.0.5","netmask":"255.255.0.0","nic_tag":"admin"}]}"#,
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.uplinks.len(), 1, "a nic within a bond is no uplink of its own");
    assert!(file(&files, "aggr0.netdev").contains("Kind=bond") && file(&files, "aggr0.netdev").contains("Mode=802.3ad"));
    for nic in ["nic-005056000003.network", "nic-005056000004.network"] {
        assert!(file(&files, nic).contains("Bond=aggr0\n"));
    }
    assert!(file(&files, "aggr0.network").contains(&format!("Bridge={}\n", plan.uplinks[0].bridge)));
}

#[test]
fn lacp_modes_are_active_passive_and_static() {
    for (mode, wanted, rules) in [("active", "802.3ad", false), ("passive", "802.3ad", true), ("off", "balance-xor", false)] {
        let document = format!(
            r#"{{"nictags":[{{"name":"a","mac":"aggr0"}}],"aggregations":[{{"name":"aggr0","macs":["{M}"],"lacp_mode":"{mode}"}}]}}"#
        );
        let (_, files, _) = made_of(&document);
        assert!(file(&files, "aggr0.netdev").contains(&format!("Mode={wanted}\n")));
        assert_eq!(files.iter().any(|file| file.path == "etc/udev/rules.d/70-triton-aggr0.rules"), rules, "{mode}");
    }
}

/// platform case 12
#[test]
fn routes_lead_through_a_router_or_are_on_a_nic_s_link() {
    let (plan, files, problems) = made_of(&node("", &format!(r#","routes":{{"10.1.0.0/16":"10.0.0.1","10.2.0.0/16":"macs[{M}]"}}"#)));
    assert!(problems.is_empty(), "{problems:?}");
    let network = file(&files, &format!("{}.network", plan.uplinks[0].bridge));
    assert!(network.contains("[Route]\nDestination=10.1.0.0/16\nGateway=10.0.0.1\n"), "{network}");
    assert!(network.contains("[Route]\nDestination=10.2.0.0/16\nScope=link\n"), "{network}");
}

/// platform case 13
#[test]
fn without_a_document_there_is_no_file_about_links() {
    for text in ["", "[]", "{"] {
        let (plan, files, problems) = made_of(text);
        assert!(!plan.configured && files.is_empty(), "{files:?}");
        assert!(matches!(problems.as_slice(), [Problem::Unreadable(_)]));
    }
    let fallback = dhcp_all_nics();
    for line in ["KernelCommandLine=triton.dhcp-all-nics", "Kind=!*", "Type=ether", "VendorClassIdentifier=PXEClient.Linux.x86_64"] {
        assert!(fallback.text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn a_configuration_masks_dhcp_on_other_nics() {
    let (_, files, _) = made_of(&node("", ""));
    assert_eq!(file(&files, "etc/systemd/network/99-dhcp-all-nics.network"), "");
}

/// platform case 14
#[test]
fn netmasks_become_prefix_lengths() {
    for (mask, length) in [("255.255.255.0", 24), ("255.255.252.0", 22), ("255.255.255.255", 32), ("0.0.0.0", 0)] {
        let text = node("", "").replace("255.255.0.0", mask);
        let (plan, _, problems) = made_of(&text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(plan.uplinks[0].addressing.addresses[0].net.prefix_len(), length);
    }
}

/// platform case 30, the part that is decided here
#[test]
fn without_a_name_the_node_is_called_after_its_admin_nic() {
    let (plan, ..) = made_of(&node("", ""));
    assert_eq!(plan.hostname.as_deref(), Some("00-50-56-00-00-01"));
    let facts = Facts { boot_mac: Some("90:b8:d0:4e:11:7a".parse().unwrap()), ..Facts::default() };
    let (plan, ..) = made_with("{}", &facts);
    assert_eq!(plan.hostname.as_deref(), Some("90-b8-d0-4e-11-7a"));
}

#[test]
fn where_the_admin_network_has_its_own_tag_the_word_admin_is_nobody_s() {
    let (plan, _, problems) = made_of(&node("", r#","admin_tag":"external""#));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.uplinks.len(), 1);
    assert!(plan.uplinks[0].admin && plan.uplinks[0].tags[0].as_str() == "external");
}

#[test]
fn a_network_of_smaller_frames_than_its_link_says_so_in_its_routes() {
    let text = node("", r#","routes":{"10.1.0.0/16":"10.0.0.1"}"#)
        .replace(r#"{"name":"external","mac":"00:50:56:00:00:02"}"#, &format!(r#"{{"name":"storage","mac":"{M}","mtu":9000}}"#));
    let (plan, files, problems) = made_of(&text);
    assert!(problems.is_empty(), "{problems:?}");
    let network = file(&files, &format!("{}.network", plan.uplinks[0].bridge));
    assert!(network.contains("[Link]\nMTUBytes=9000\n"), "{network}");
    assert!(
        network.contains("AddPrefixRoute=no\n\n[Route]\nDestination=10.0.0.0/16\nScope=link\nPreferredSource=10.0.0.5\nMTUBytes=1500\n")
    );
    assert!(network.contains("Gateway=10.0.0.1\nMTUBytes=1500\n"), "{network}");
}

#[test]
fn the_primary_nic_s_router_comes_first() {
    let more =
        r#",{"mac":"02:00:00:00:00:01","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"external","gateway":"10.9.0.1","primary":true}"#;
    let text = node(more, "").replace(r#""nic_tag":"admin""#, r#""nic_tag":"admin","gateway":"10.0.0.1""#);
    let (plan, ..) = made_of(&text);
    assert_eq!((plan.uplinks[0].addressing.routes[0].metric, plan.nics[0].addressing.routes[0].metric), (Some(110), Some(100)));
}

#[test]
fn nics_that_the_machine_lacks_are_named_and_prepared_nevertheless() {
    let facts = Facts { nics: Some(vec![M.parse().unwrap()]), ..Facts::default() };
    let (plan, _, problems) = made_with(&node("", ""), &facts);
    assert_eq!(plan.uplinks.len(), 2);
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(matches!(problems.as_slice(), [Problem::NoSuchNic { .. }]), "{problems:?}");
    assert!(text[0].contains("00:50:56:00:00:02") && text[0].contains("external"), "{text:?}");
}

#[test]
fn a_physical_nic_on_an_unknown_tag_is_configured_and_another_is_not() {
    let facts = Facts { nics: Some(vec![M.parse().unwrap()]), ..Facts::default() };
    let text = format!(
        r#"{{"vnics":[{{"mac":"{M}","ip":"10.0.0.5","netmask":"255.255.0.0","nic_tag":"admin"}},
        {{"mac":"02:00:00:00:00:01","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"other"}}]}}"#
    );
    let (plan, _, problems) = made_with(&text, &facts);
    assert_eq!((plan.uplinks.len(), plan.nics.len()), (1, 0));
    assert!(plan.uplinks[0].admin && plan.uplinks[0].addressing.addresses.len() == 1);
    let configured: Vec<bool> = problems.iter().map(|p| matches!(p, Problem::UnknownTag { configured: true, .. })).collect();
    assert_eq!(configured, [true, false], "{problems:?}");
}

#[test]
fn nics_of_colliding_names_get_names_of_their_own() {
    let nics: String = (0..11)
        .map(|n| format!(r#",{{"mac":"02:00:00:00:00:{n:02x}","ip":"10.8.{n}.5","netmask":"255.255.255.0","nic_tag":"rack"}}"#))
        .collect();
    let other = r#",{"mac":"02:00:00:00:01:00","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"rack1"}"#;
    let text = node(&format!("{nics}{other}"), "")
        .replace(r#"{"name":"external""#, &format!(r#"{{"name":"rack","mac":"{M}"}},{{"name":"rack1","mac":"{M}"}},{{"name":"external""#));
    let (plan, files, problems) = made_of(&text);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((plan.nics[10].name.as_str(), plan.nics.len()), ("rack10", 12));
    assert!(plan.nics[11].name.starts_with("rack1-"), "{}", plan.nics[11].name);
    let paths: std::collections::BTreeSet<_> = files.iter().map(|file| &file.path).collect();
    assert_eq!(paths.len(), files.len());
}

#[test]
fn settings_that_are_no_names_or_addresses_are_named() {
    let (plan, _, problems) = made_with(&node("", ""), &super::settings("ntp_hosts='good.example.com,b;d'\ndns_resolvers='x,8.8.8.8'"));
    assert_eq!((plan.ntp.as_slice(), plan.resolvers.len(), problems.len()), (["good.example.com".to_owned()].as_slice(), 1, 2));
}

/// net-agent section 17
#[test]
fn frames_of_overlay_networks_come_by_the_link_with_the_underlay_address() {
    let vnic = r#",{"mac":"02:00:00:00:00:07","ip":"10.9.0.5","netmask":"255.255.0.0","nic_tag":"external","underlay":true,
        "overlay_nic_tags_provided":["sdc_overlay"]}"#;
    let rule = "-e vxlan -s svp -p svp/host=portolan.example.com -p svp/underlay_ip=10.9.0.5 -p vxlan/listen_ip=10.9.0.5 -p mtu=1400";
    let (plan, files, problems) = made_of(&node(vnic, &format!(r#","nictag_rules":{{"sdc_overlay":"{rule}"}}"#)));
    assert!(problems.is_empty(), "{problems:?}");
    let name = &plan.nics[0].name;
    assert!(file(&files, "etc/triton/admin-networks").ends_with(&format!("\nunderlay {name} 10.9.0.5 4789\n")));
    let elsewhere = rule.replace("10.9.0.5", "10.9.0.6");
    let (_, files, problems) = made_of(&node(vnic, &format!(r#","nictag_rules":{{"sdc_overlay":"{elsewhere}","other1":5}}"#)));
    assert!(!file(&files, "etc/triton/admin-networks").contains("underlay"));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("other1"), "{problems:?}");
}
