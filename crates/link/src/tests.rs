//! On the real kernel, each test in namespaces of its own; `ip -json` is the judge.

use std::{process::Command, time::Duration};

use crate::{Cause, ErrorKind, Link, LinkError, Links, NetNs};

mod bridges;
mod events;
mod guests;
mod namespaces;
mod overlays;
mod veths;

/// What `ip -json ARGUMENTS` prints inside `netns`.
fn ip(netns: &NetNs, arguments: &str) -> String {
    let run = || Command::new("ip").arg("-json").args(arguments.split(' ')).output();
    let output = netns.run(run).unwrap().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A bridge `br0` in a namespace of its own.
async fn host_with_bridge() -> Links {
    let links = Links::of(NetNs::create().unwrap());
    links.ensure_bridge(&crate::BridgeSpec::new("br0")).await.unwrap();
    links
}

/// Repeats `look` until it is content.
async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn get(links: &Links, name: &str) -> Link {
    links.get(name).await.unwrap().unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn errors_name_the_link_and_carry_their_kind_and_the_kernels_reason() {
    let links = Links::of(NetNs::create().unwrap());
    let error = links.set_up("nosuch0").await.unwrap_err();
    assert!(error.to_string().contains("nosuch0"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NoDevice);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such device"));
    let failures: [(&str, Result<(), LinkError>); 6] = [
        ("set_mtu", links.set_mtu("nosuch0", 1500).await),
        ("set_mac", links.set_mac("nosuch0", [2; 6]).await),
        ("set_alias", links.set_alias("nosuch0", "x").await),
        ("set_bridge", links.set_bridge("nosuch0", None).await),
        ("add_address", links.add_address("nosuch0", "10.0.0.1/8".parse().unwrap()).await),
        ("ports", links.ports("nosuch0").await.map(drop)),
    ];
    for (verb, failure) in failures {
        let error = failure.expect_err(verb);
        assert!(error.to_string().contains("nosuch0") && error.kind() == ErrorKind::NoDevice, "{verb}: {error}");
    }
}

#[tokio::test]
async fn names_that_the_kernel_would_cut_or_a_path_would_follow_are_refused() {
    let links = Links::of(NetNs::create().unwrap());
    for name in ["", "lo\0x", "../lo", ".", "..", "a b", "a:b", "sixteen-bytes-xx"] {
        let error = links.set_up(name).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Invalid(_)), "{name:?}: {error}");
        assert!(links.get(name).await.is_err(), "{name:?}");
        assert!(links.disable_ipv6(name).is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn removing_what_is_not_there_succeeds() {
    let links = host_with_bridge().await;
    assert!(!links.delete("nosuch0").await.unwrap());
    let net = "10.0.0.1/24".parse().unwrap();
    links.remove_address("br0", net).await.unwrap();
    links.remove_address("nosuch0", net).await.unwrap();
    let route = crate::Route { destination: Some(net), gateway: None, interface: "br0".to_owned() };
    links.remove_route(&route).await.unwrap();
    links.remove_fdb("nosuch0", crate::FdbEntry { mac: [2; 6], vlan: None, sticky: true }).await.unwrap();
    assert!(links.delete("br0").await.unwrap());
    assert!(!links.delete("br0").await.unwrap());
}

#[tokio::test]
async fn a_request_that_was_given_up_does_not_disturb_the_next() {
    let links = host_with_bridge().await;
    for _ in 0..50 {
        let mut list = Box::pin(links.list());
        // One poll: the request is sent, its answer is not read.
        let once = std::future::poll_fn(|context| {
            let _ = list.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        once.await;
        drop(list);
        assert_eq!(get(&links, "br0").await.name, "br0");
    }
}
