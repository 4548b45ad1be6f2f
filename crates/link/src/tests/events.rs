//! Events.

use std::os::fd::AsFd;

use super::*;
use crate::{LinkEvent, LinkEvents, VethSpec};

fn spec<'a>(host: &'a str, guest: &'a NetNs) -> VethSpec<'a> {
    VethSpec { host, guest: host, guest_mac: None, mtu: None, guest_netns: guest.as_fd(), bridge: Some("br0"), alias: None }
}

#[tokio::test]
async fn a_link_that_comes_changes_and_goes_is_told() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    let mut events = LinkEvents::open(links.netns()).unwrap();
    links.create_veth(&spec("vt0", &guest)).await.unwrap();
    links.set_bridge("vt0", None).await.unwrap();
    links.set_alias("vt0", "told").await.unwrap();
    links.delete("vt0").await.unwrap();
    let mut told = false;
    loop {
        match events.next().await.unwrap() {
            LinkEvent::Changed(link) if link.name == "vt0" => told |= link.alias.as_deref() == Some("told"),
            LinkEvent::Removed(link) if link.name == "vt0" => {
                assert!(told, "leaving the bridge is not a removal, and the change came before the end");
                return;
            }
            LinkEvent::Overrun => panic!("the buffer holds some thousand events"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_that_events_were_lost_and_goes_on() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    let mut events = LinkEvents::open_with_buffer(links.netns(), 4096).unwrap();
    for number in 0..20 {
        links.create_veth(&spec(&format!("vt{number}"), &guest)).await.unwrap();
    }
    while events.next().await.unwrap() != LinkEvent::Overrun {}
    let known = links.list().await.unwrap();
    assert_eq!(known.iter().filter(|link| link.name.starts_with("vt")).count(), 20);
    for number in 0..200 {
        links.set_alias("vt19", &format!("after {number}")).await.unwrap();
        match events.next().await.unwrap() {
            LinkEvent::Changed(link) if link.alias.as_deref().is_some_and(|alias| alias.starts_with("after")) => return,
            _ => {}
        }
    }
    panic!("no event after the loss");
}

#[tokio::test]
async fn events_of_another_namespace_are_not_told() {
    let (here, there) = (host_with_bridge().await, host_with_bridge().await);
    let mut events = LinkEvents::open(here.netns()).unwrap();
    there.set_alias("br0", "there").await.unwrap();
    here.set_alias("br0", "here").await.unwrap();
    match events.next().await.unwrap() {
        LinkEvent::Changed(link) => assert_eq!(link.alias.as_deref(), Some("here")),
        event => panic!("{event:?}"),
    }
}
