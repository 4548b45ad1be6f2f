//! VXLAN devices, taps, and the ports that they are.

use std::{net::IpAddr, time::Duration};

use super::*;
use crate::{FdbEntry, PortFlags, Remote, Tap, VxlanSpec};

const MAC: [u8; 6] = [2, 8, 0x20, 1, 2, 3];

fn spec(name: &str, vni: u32) -> VxlanSpec<'_> {
    VxlanSpec { name, vni, local: "10.9.0.1".parse().unwrap(), port: 4789, mtu: 1400, alias: Some("an overlay") }
}

#[tokio::test]
async fn a_vxlan_device_learns_nothing_and_knows_what_it_is_told() {
    let links = Links::of(NetNs::create().unwrap());
    for _ in 0..2 {
        links.ensure_vxlan(&spec("vx0", 0xff_ffff)).await.unwrap();
    }
    let judged = ip(links.netns(), "-d link show vx0");
    for wanted in [r#""id":16777215"#, r#""local":"10.9.0.1""#, r#""port":4789"#, r#""learning":false"#, r#""mtu":1400"#, "an overlay"] {
        assert!(judged.contains(wanted), "{wanted} in {judged}");
    }
    assert_eq!(links.remotes("vx0").await.unwrap(), []);
    let here = |ip: &str, port| Remote { mac: MAC, ip: ip.parse().unwrap(), port };
    for remote in [here("10.9.0.2", None), here("10.9.0.3", Some(4790)), here("10.9.0.4", None)] {
        links.add_remote("vx0", remote).await.unwrap();
        assert_eq!(links.remotes("vx0").await.unwrap(), [remote], "one place for an address");
    }
    for _ in 0..2 {
        links.remove_remote("vx0", MAC).await.unwrap();
    }
    assert_eq!(links.remotes("vx0").await.unwrap(), []);
    links.remove_remote("nosuch0", MAC).await.unwrap();
}

#[tokio::test]
async fn a_network_has_one_device_and_a_number_of_24_bits() {
    let links = host_with_bridge().await;
    links.ensure_vxlan(&spec("vx0", 5)).await.unwrap();
    let error = links.ensure_vxlan(&spec("vx1", 5)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Exists && error.to_string().contains("network 5"), "{error}");
    assert_eq!(links.ensure_vxlan(&spec("br0", 6)).await.unwrap_err().kind(), ErrorKind::Exists, "of another kind");
    assert!(matches!(links.ensure_vxlan(&spec("vx2", 1 << 24)).await.unwrap_err().cause(), Cause::Invalid(_)));
    assert_eq!(
        links.add_remote("nosuch0", Remote { mac: MAC, ip: IpAddr::from([10, 0, 0, 1]), port: None }).await.unwrap_err().kind(),
        ErrorKind::NoDevice
    );
}

#[tokio::test]
async fn a_tap_stays_and_is_read_by_one_program() {
    let links = host_with_bridge().await;
    for _ in 0..2 {
        Tap::ensure(links.netns(), "tap0").unwrap();
    }
    assert!(Tap::ensure(links.netns(), "br0").is_err() && Tap::ensure(links.netns(), "../x").is_err());
    links.set_bridge("tap0", Some("br0")).await.unwrap();
    links.set_port("tap0", PortFlags::ORACLE).await.unwrap();
    links.disable_ipv6("tap0").unwrap();
    links.set_up("tap0").await.unwrap();
    {
        let first = Tap::open(links.netns(), "tap0").unwrap();
        assert!(Tap::open(links.netns(), "tap0").is_err(), "one program");
        Tap::ensure(links.netns(), "tap0").unwrap();
        drop(first);
    }
    let _second = Tap::open(links.netns(), "tap0").unwrap();
    assert_eq!(get(&links, "tap0").await.master, Some(get(&links, "br0").await.index));
}

#[tokio::test]
async fn what_a_bridge_does_not_know_comes_to_the_tap_and_what_the_tap_says_to_the_guest() {
    let links = host_with_bridge().await;
    Tap::ensure(links.netns(), "tap0").unwrap();
    Tap::ensure(links.netns(), "guest0").unwrap();
    links.ensure_vxlan(&spec("vx0", 5)).await.unwrap();
    for (name, flags) in [("tap0", PortFlags::ORACLE), ("guest0", PortFlags::GUEST), ("vx0", PortFlags::TUNNEL)] {
        links.disable_ipv6(name).unwrap();
        links.set_bridge(name, Some("br0")).await.unwrap();
        links.set_port(name, flags).await.unwrap();
        links.set_up(name).await.unwrap();
    }
    let (oracle, guest) = (Tap::open(links.netns(), "tap0").unwrap(), Tap::open(links.netns(), "guest0").unwrap());
    let there = [2, 8, 0x20, 9, 9, 9];
    let frame = |to: [u8; 6], from: [u8; 6]| [&to[..], &from, &[0x88, 0xb5], &[0x55; 50]].concat();
    let entry = FdbEntry { mac: MAC, vlan: None, sticky: true };
    links.add_fdb("guest0", entry).await.unwrap();
    assert!(!links.offer_fdb("vx0", entry).await.unwrap(), "a guest that is here is not elsewhere");
    // A bridge that filters VLANs has it once more, in its own.
    assert!(links.fdb("guest0").await.unwrap().contains(&entry));
    let mut buffer = [0; 2048];
    let heard = async |tap: &Tap, buffer: &mut [u8; 2048]| {
        // The kernel itself says which groups it is in.
        let ours = async {
            loop {
                let length = tap.read(buffer).await.unwrap();
                if buffer[12..14] == [0x88, 0xb5] {
                    return buffer[..length].to_vec();
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(300), ours).await.ok()
    };
    // The ports forward as soon as their program is there.
    eventually("carrier", async || get(&links, "tap0").await.carrier && get(&links, "guest0").await.carrier).await;
    guest.write(&frame(there, MAC)).unwrap();
    assert_eq!(heard(&oracle, &mut buffer).await, Some(frame(there, MAC)), "an address that is not known");
    oracle.write(&frame(MAC, there)).unwrap();
    assert_eq!(heard(&guest, &mut buffer).await, Some(frame(MAC, there)));
    let remote = FdbEntry { mac: there, vlan: None, sticky: true };
    for _ in 0..2 {
        assert!(links.offer_fdb("vx0", remote).await.unwrap());
    }
    guest.write(&frame(there, MAC)).unwrap();
    assert_eq!(heard(&oracle, &mut buffer).await, None, "it is known now");
    let sent = links.stats("vx0").await.unwrap();
    oracle.write(&frame(there, MAC)).unwrap();
    guest.write(&frame([0xff; 6], MAC)).unwrap();
    assert_eq!(heard(&oracle, &mut buffer).await, Some(frame([0xff; 6], MAC)));
    let after = links.stats("vx0").await.unwrap();
    let count = |stats: crate::LinkStats| stats.tx_packets + stats.tx_dropped + stats.tx_errors;
    assert_eq!(count(after), count(sent), "nothing of the tap's, and no broadcast, goes to other nodes");
}
