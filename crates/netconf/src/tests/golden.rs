//! Whole outputs, reviewed by hand once and compared ever since.

use std::fmt::Write;

use super::{made_with, settings};
use crate::Facts;

/// `node.config` as the headnode writes it.
const NODE_CONFIG: &str = "datacenter_name='us-test-1'\ndns_domain='example.com'\ndns_resolvers='8.8.8.8,8.8.4.4'\nntp_hosts='10.88.0.2'\n\
    root_shadow='$5$x'\nspares=2\n";

fn shown(text: &str, facts: &Facts) -> String {
    let (_, files, problems) = made_with(text, facts);
    let mut shown = String::new();
    for file in files {
        let _ = write!(shown, "=== {}\n{}", file.path, file.text);
    }
    for problem in problems {
        let _ = writeln!(shown, "!!! {problem}");
    }
    shown
}

fn check(name: &str, fixture: &str) {
    insta::assert_snapshot!(name, shown(fixture, &settings(NODE_CONFIG)));
}

macro_rules! golden {
    ($($test:ident $fixture:literal)*) => {$(
        #[test]
        fn $test() {
            check($fixture, include_str!(concat!("fixtures/", $fixture, ".json")));
        }
    )*};
}

golden! {
    a_node_that_was_never_seen_has_its_admin_nic "new_node"
    a_node_with_two_nics_and_many_tags "two_nics"
    a_node_on_an_aggregation "aggregation"
    a_node_with_vlans_and_further_nics "vlans"
    a_node_with_ipv6 "ipv6"
    a_document_that_lacks_most_keys "missing_keys"
    a_document_with_broken_entries "broken"
    a_node_configured_by_hand_asks_for_addresses "standalone"
}

#[test]
fn a_node_without_a_document_has_a_name_and_its_time_servers() {
    let facts = Facts { boot_mac: Some("90:b8:d0:4e:11:7a".parse().unwrap()), ..settings(NODE_CONFIG) };
    insta::assert_snapshot!("no_document", shown("", &facts));
}
