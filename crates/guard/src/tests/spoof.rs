//! What each protection lets pass and drops, and which counter says so.

use super::{
    frames::*,
    wire::{A, B, Guest, Net, kernel},
};

const NEXT_UDP: u8 = 17;

fn all(net: &mut Net, from: &Guest, to: &Guest, frames: &[(&str, bool, Vec<u8>)]) {
    for (what, expected, frame) in frames {
        assert_eq!(net.passes(from, to, frame), *expected, "{what}");
    }
}

/// net-agent case 60, 63, 64
#[test]
fn kernel_a_guest_sends_with_its_own_mac_and_addresses_only() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.allowed_ips = vec!["10.1.0.0/16".into(), "10.3.0.7".into()]);
        let b = net.port("up0", B);
        let frames = [
            ("its own address", true, ipv4(A, "10.0.0.5")),
            ("another address", false, ipv4(A, "10.0.0.6")),
            ("no address yet", true, ipv4(A, "0.0.0.0")),
            ("a network that is allowed", true, ipv4(A, "10.1.2.3")),
            ("a network that is not", false, ipv4(A, "10.2.0.1")),
            ("an address that is allowed", true, ipv4(A, "10.3.0.7")),
            ("another MAC", false, ipv4(B, "10.0.0.5")),
            ("a later fragment of another", false, ipv4_with(A, "10.0.0.6", 17, 100, &[0; 16])),
            ("a later fragment of its own", true, ipv4_with(A, "10.0.0.5", 17, 100, &[0; 16])),
        ];
        all(net, &a, &b, &frames);
        let drops = net.guard.drops().unwrap()["vta"];
        assert_eq!((drops.mac.packets, drops.address.packets, drops.restricted.packets), (1, 3, 0));
    });
}

/// net-agent case 61, 62
#[test]
fn kernel_only_arp_and_ip_without_tags_pass() {
    kernel(|net| {
        let mut a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let own = ipv4(A, "10.0.0.5");
        let lldp = ethernet(A, ALL, 0x88cc, &[0; 46]);
        let pppoe = ethernet(A, ALL, 0x8863, &[0; 46]);
        let spanning_tree = ethernet(A, triton_types::Mac([1, 0x80, 0xc2, 0, 0, 0]), 0x0026, &[0x42, 0x42, 3, 0, 0]);
        let double = tagged(A, 0x8100, 5, &tagged(A, 0x8100, 6, &own));
        let dropped = [
            ("LLDP", false, lldp.clone()),
            ("PPPoE", false, pppoe.clone()),
            ("802.3", false, ethernet(A, ALL, 46, &[0xaa; 46])),
            ("spanning tree", false, spanning_tree.clone()),
            ("a tag", false, tagged(A, 0x8100, 20, &own)),
            ("priority tag", false, tagged(A, 0x8100, 0, &own)),
            ("the tag of a provider", false, tagged(A, 0x88a8, 20, &own)),
            ("two tags", false, double),
        ];
        all(net, &a, &b, &dropped);
        assert_eq!(net.guard.drops().unwrap()["vta"].restricted.packets, 8);
        a.nic.allow_restricted_traffic = true;
        net.protect(&a);
        let frames = [
            ("LLDP", true, lldp),
            ("PPPoE", true, pppoe),
            ("spanning tree", false, spanning_tree),
            ("a tag", false, tagged(A, 0x8100, 20, &own)),
        ];
        all(net, &a, &b, &frames);
    });
}

/// net-agent case 65
#[test]
fn kernel_arp_speaks_for_the_guest_only() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let short = ethernet(A, ALL, 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]);
        let odd = ethernet(A, ALL, 0x0806, &[&[0, 6, 8, 0, 6, 4, 0, 1][..], &A.0, &[10, 0, 0, 5], &[0; 10]].concat());
        let frames = [
            ("its own", true, arp(A, A, [10, 0, 0, 5], [10, 0, 0, 1])),
            ("another address", false, arp(A, A, [10, 0, 0, 6], [10, 0, 0, 1])),
            ("another MAC inside", false, arp(A, B, [10, 0, 0, 5], [10, 0, 0, 1])),
            ("another MAC outside", false, arp(B, A, [10, 0, 0, 5], [10, 0, 0, 1])),
            ("a probe", true, arp(A, A, [0; 4], [10, 0, 0, 7])),
            ("cut short", false, short),
            ("another kind of hardware", false, odd),
        ];
        all(net, &a, &b, &frames);
    });
}

/// net-agent case 66, 67
#[test]
fn kernel_neighbour_discovery_speaks_for_the_guest_only() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let (own, foreign) = ("fd00::5", "fd00::6");
        let local = "fe80::8:20ff:fe00:a";
        let nonce = [14, 1, 1, 1, 1, 1, 1, 1];
        let hidden = neighbour_message(136, foreign, &option(2, A));
        let cut = fragment(60, 0, true, &[58, 0, 1, 4, 0, 0, 0, 0]);
        let frames = [
            ("its own address", true, ipv6(A, own, NEXT_UDP, &udp(1, 2, b"x"))),
            ("its link-local address", true, ipv6(A, local, NEXT_UDP, &udp(1, 2, b"x"))),
            ("another link-local address", false, ipv6(A, "fe80::1", NEXT_UDP, &udp(1, 2, b"x"))),
            ("another address", false, ipv6(A, foreign, NEXT_UDP, &udp(1, 2, b"x"))),
            ("duplicate address detection", true, neighbour(A, "::", 135, own, &nonce)),
            ("a solicitation", true, neighbour(A, own, 135, foreign, &option(1, A))),
            ("a solicitation with the MAC of another", false, neighbour(A, own, 135, foreign, &option(1, B))),
            ("that behind a nonce", false, neighbour(A, own, 135, foreign, &[&nonce[..], &option(1, B)].concat())),
            ("that behind more than is looked at", false, neighbour(A, own, 135, foreign, &[&nonce.repeat(4)[..], &option(1, B)].concat())),
            ("an advertisement", true, neighbour(A, own, 136, own, &option(2, A))),
            ("an advertisement of its link-local address", true, neighbour(A, local, 136, local, &option(2, A))),
            ("an advertisement for another", false, neighbour(A, own, 136, foreign, &option(2, A))),
            ("an advertisement with the MAC of another", false, neighbour(A, own, 136, own, &option(2, B))),
            ("a router advertisement", false, ipv6(A, local, 58, &[&[134, 0, 0, 0][..], &[0; 12]].concat())),
            ("a redirect", false, ipv6(A, local, 58, &[&[137, 0, 0, 0][..], &[0; 36]].concat())),
            ("a router solicitation", true, ipv6(A, local, 58, &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &option(1, A)].concat())),
            ("one with the MAC of another", false, ipv6(A, local, 58, &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &option(1, B)].concat())),
            ("a lie behind an option header", false, ipv6(A, own, 60, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &hidden].concat())),
            ("a lie in a first fragment", false, ipv6(A, own, 44, &fragment(58, 0, true, &hidden))),
            ("a later fragment that begins with a header", false, ipv6(A, own, 44, &fragment(60, 1, false, &[58, 0, 1, 4, 0, 0, 0, 0]))),
            ("a ping", true, ipv6(A, own, 58, &[128, 0, 0, 0, 0, 1, 0, 1])),
            ("a fragment of its own", true, ipv6(A, own, 44, &fragment(NEXT_UDP, 100, false, &[0; 8]))),
            ("a DHCPv6 client", true, ipv6(A, local, NEXT_UDP, &udp(546, 547, b"x"))),
            ("a DHCPv6 server", false, ipv6(A, local, NEXT_UDP, &udp(547, 546, b"x"))),
        ];
        all(net, &a, &b, &frames);
        // What cannot be read to its end says nothing alone; its other half is dropped above.
        let _ = net.passes(&a, &b, &ipv6(A, own, 44, &cut));
    });
}

/// net-agent case 68
#[test]
fn kernel_who_may_send_from_any_address_still_has_one_mac() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.allow_ip_spoofing = true);
        let b = net.port("up0", B);
        let frames = [
            ("another address", true, ipv4(A, "10.0.0.6")),
            ("ARP for another address", true, arp(A, A, [10, 0, 0, 6], [10, 0, 0, 1])),
            ("ARP with another MAC inside", false, arp(A, B, [10, 0, 0, 6], [10, 0, 0, 1])),
            ("another IPv6 address", true, ipv6(A, "fd00::6", NEXT_UDP, &udp(1, 2, b"x"))),
            ("an advertisement for another", true, neighbour(A, "fd00::6", 136, "fd00::6", &option(2, A))),
            ("another MAC", false, ipv4(B, "10.0.0.5")),
            ("a DHCP answer", false, dhcp(A, "10.0.0.5", (67, 68), B, 0)),
        ];
        all(net, &a, &b, &frames);
    });
}

#[test]
fn kernel_who_may_use_any_mac_still_has_its_addresses() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.allow_mac_spoofing = true);
        let b = net.port("up0", B);
        let frames = [("another MAC", true, ipv4(B, "10.0.0.5")), ("and another address", false, ipv4(B, "10.0.0.6"))];
        all(net, &a, &b, &frames);
    });
}

/// net-agent case 69, 70, 71
#[test]
fn kernel_a_guest_asks_for_itself_and_does_not_answer_as_a_dhcp_server() {
    kernel(|net| {
        let mut a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let answer = dhcp(A, "10.0.0.5", (67, 68), B, 0);
        let frames = [
            ("a question", true, dhcp(A, "0.0.0.0", (68, 67), A, 0)),
            ("a question for another", false, dhcp(A, "0.0.0.0", (68, 67), B, 0)),
            ("one from a strange port", false, dhcp(A, "10.0.0.5", (1000, 67), B, 0)),
            ("an answer", false, answer.clone()),
            ("a first fragment of a question", false, dhcp(A, "0.0.0.0", (68, 67), A, 0x2000)),
            ("a question that is cut short", false, ipv4_with(A, "0.0.0.0", 17, 0, &udp(68, 67, &[1, 1, 6, 0]))),
        ];
        all(net, &a, &b, &frames);
        assert_eq!(net.guard.drops().unwrap()["vta"].dhcp.packets, 5);
        a.nic.allow_dhcp_spoofing = true;
        net.protect(&a);
        let frames = [
            ("an answer", true, answer),
            ("another address", true, ipv4(A, "10.9.9.9")),
            ("a router advertisement", true, ipv6(A, "fe80::1", 58, &[&[134, 0, 0, 0][..], &[0; 12]].concat())),
            ("another MAC", false, ipv4(B, "10.0.0.5")),
        ];
        all(net, &a, &b, &frames);
    });
}

/// net-agent case 79
#[test]
fn kernel_blocked_ports_are_blocked_over_ipv4_and_ipv6() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.blocked_outgoing_ports = vec![25]);
        let b = net.port("up0", B);
        let tcp = |port: u16| [&1000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0]].concat();
        let frames = [
            ("port 25", false, tcp4(A, "10.0.0.5", 25)),
            ("port 26", true, tcp4(A, "10.0.0.5", 26)),
            ("port 25 over IPv6", false, ipv6(A, "fd00::5", 6, &tcp(25))),
            ("port 26 over IPv6", true, ipv6(A, "fd00::5", 6, &tcp(26))),
            ("UDP", true, ipv4_with(A, "10.0.0.5", 17, 0, &udp(25, 25, b"x"))),
        ];
        all(net, &a, &b, &frames);
        assert_eq!(net.guard.drops().unwrap()["vta"].port.packets, 2);
    });
}

/// net-agent case 80
#[test]
fn kernel_a_nic_without_addresses_sends_from_none_and_its_own_link_local_one() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.ips.clear());
        let b = net.port("up0", B);
        let frames = [
            ("an address", false, ipv4(A, "10.0.0.5")),
            ("none", true, ipv4(A, "0.0.0.0")),
            ("no IPv6 one", true, neighbour(A, "::", 135, "fe80::8:20ff:fe00:a", &[])),
            ("its link-local one", true, ipv6(A, "fe80::8:20ff:fe00:a", NEXT_UDP, &udp(1, 2, b"x"))),
            ("a global one", false, ipv6(A, "fd00::5", NEXT_UDP, &udp(1, 2, b"x"))),
        ];
        all(net, &a, &b, &frames);
    });
}
