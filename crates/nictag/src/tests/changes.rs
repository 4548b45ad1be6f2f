//! Changes of the file.

use super::*;
use crate::{Provider, Tag, TagUpdate};

fn new(name: &str, mac: Option<&str>) -> Tag {
    let provider = mac.map_or(Provider::Nothing, |mac| Provider::parse(mac).unwrap());
    Tag { name: tag(name), etherstub: mac.is_none(), provider, uuid: None, mtu: None }
}

#[test]
fn unknown_keys_and_their_order_survive_every_change() {
    let node = Node::new();
    node.write(&format!(
        r#"{{"hostname":"cn1","nictags":[{{"name":"admin","zz":[1,{{"x":null}}],"mac":"{NIC0}"}}],"dns_resolvers":["8.8.8.8"],"vlans":{{}}}}"#
    ));
    let mut tags = node.tags();
    tags.add(&Tag { mtu: Some(9000), ..new("external", Some(NIC1)) }).unwrap();
    tags.update(&tag("admin"), &TagUpdate { provider: None, mtu: Some(1500) }).unwrap();
    tags.add(&new("gone0", None)).unwrap();
    tags.delete(&tag("gone0")).unwrap();
    let text: String = node.read().split_whitespace().collect();
    let admin = format!(r#"{{"name":"admin","zz":[1,{{"x":null}}],"mac":"{NIC0}","mtu":1500}}"#);
    let external = format!(r#"{{"name":"external","mac":"{NIC1}","mtu":9000}}"#);
    assert_eq!(text, format!(r#"{{"hostname":"cn1","nictags":[{admin},{external}],"dns_resolvers":["8.8.8.8"],"vlans":{{}}}}"#));
    assert_eq!(node.tags().tags, tags.tags, "what is held is what was written");
    assert_eq!(fs::read_dir(node.layout.config()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_tag_can_be_added_to_a_node_without_a_file() {
    let node = Node::new();
    let mut tags = node.tags();
    tags.add(&new("internal0", None)).unwrap();
    assert!(tags.has_file() && node.tags().contains(&tag("internal0")));
    assert!(node.read().contains(r#""mac": "-""#));
}

#[test]
fn additions_that_cannot_be_are_refused_and_change_nothing() {
    let node = Node::new();
    node.write(r#"{"nictags":[{"name":"admin"}]}"#);
    let before = node.read();
    let mut tags = node.tags();
    let long = "a".repeat(31);
    assert!(matches!(tags.add(&new("admin", Some(NIC0))), Err(NicTagError::Exists(_))));
    assert!(matches!(tags.add(&new("overlay/7", None)), Err(NicTagError::Name(_))));
    assert!(matches!(tags.add(&new(&long, None)), Err(NicTagError::Name(_))));
    assert!(matches!(tags.add(&new("a", Some("02:00:00:00:00:99"))), Err(NicTagError::NoSuchNic(_))));
    for mtu in [0, 1499, 9001] {
        assert!(matches!(tags.add(&Tag { mtu: Some(mtu), ..new("a", Some(NIC0)) }), Err(NicTagError::Mtu(_))));
    }
    for name in ["stub", &format!("{long}1")] {
        let wide = tag_or(name).map(|name| tags.add(&Tag { name, ..new("x0", None) }));
        assert!(wide.is_none_or(|refused| matches!(refused, Err(NicTagError::Name(_)))), "{name}");
    }
    assert!(matches!(tags.add(&new("a", Some("aggr0"))), Err(NicTagError::NoSuchAggregation(_))));
    assert_eq!(node.read(), before);
}

fn tag_or(name: &str) -> Option<NicTag> {
    name.parse().ok()
}

#[test]
fn a_name_in_the_list_of_networks_within_the_node_can_be_deleted() {
    let node = Node::new();
    node.write(r#"{"etherstubs":["a0","b0"],"nictags":null}"#);
    let mut tags = node.tags();
    tags.delete(&tag("a0")).unwrap();
    assert!(!node.tags().contains(&tag("a0")) && node.tags().contains(&tag("b0")));
}

#[test]
fn updates_and_deletions_that_cannot_be_are_refused() {
    let node = Node::new();
    node.write(&format!(r#"{{"nictags":[{{"name":"admin","mac":"{NIC0}"}},{{"name":"stub","mac":"-"}}]}}"#));
    let before = node.read();
    let mut tags = node.tags();
    let mtu = TagUpdate { provider: None, mtu: Some(2000) };
    assert!(matches!(tags.update(&tag("admin"), &TagUpdate::default()), Err(NicTagError::Nothing)));
    assert!(matches!(tags.update(&tag("none"), &mtu), Err(NicTagError::NotFound(_))));
    assert!(matches!(tags.update(&tag("stub"), &mtu), Err(NicTagError::NoUplink(_))));
    assert!(matches!(tags.delete(&tag("none")), Err(NicTagError::NotFound(_))));
    assert!(matches!(tags.delete(&tag("admin")), Err(NicTagError::Admin(_))));
    assert_eq!(node.read(), before);
}

#[test]
fn changes_of_two_holders_do_not_undo_each_other() {
    let node = Node::new();
    let (mut one, mut two) = (node.tags(), node.tags());
    one.add(&new("one1", None)).unwrap();
    two.add(&new("two2", None)).unwrap();
    assert!(two.contains(&tag("one1")) && matches!(one.add(&new("two2", None)), Err(NicTagError::Exists(_))));
}
