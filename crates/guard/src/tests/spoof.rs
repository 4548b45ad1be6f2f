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
            ("two tags of the oldest kind", false, tagged(A, 0x9200, 20, &tagged(A, 0x8100, 5, &own))),
            ("spanning tree per VLAN", false, ethernet(A, triton_types::Mac([1, 0, 0xc, 0xcc, 0xcc, 0xcd]), 50, &[0xaa; 50])),
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
        assert!(!net.passes(&a, &b, &ipv6(A, own, 44, &cut)), "what cannot be read to its end");
    });
}

/// net-agent cases 60, 61, 65
#[test]
fn kernel_what_no_protocol_of_ip_is_passes_from_nobody() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let own = ipv4(A, "10.0.0.5");
        let patched = |at: usize, bytes: &[u8]| {
            let mut frame = own.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        // IPv4 within 802.3 with a SNAP header, as some stacks read it.
        let snap = |frame: &[u8]| {
            let inner = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &frame[14..]].concat();
            ethernet(A, ALL, u16::try_from(inner.len()).unwrap(), &inner)
        };
        let cisco = |last: u8| ethernet(A, triton_types::Mac([1, 0, 0xc, 0xcc, 0xcc, last]), 50, &[0xaa; 50]);
        let reserved = |last: u8, kind: u16| ethernet(A, triton_types::Mac([1, 0x80, 0xc2, 0, 0, last]), kind, &[1; 46]);
        let reverse = ethernet(A, ALL, 0x8035, &[&[0, 1, 8, 0, 6, 4, 0, 3][..], &A.0, &[0; 4], &A.0, &[0; 4]].concat());
        let frames = [
            ("an answer to RARP", false, reverse),
            ("802.3 with SNAP", false, snap(&own)),
            ("spanning tree per VLAN", false, cisco(0xcd)),
            ("CDP", false, cisco(0xcc)),
            ("pause", false, reserved(1, 0x8808)),
            ("link aggregation", false, reserved(2, 0x8809)),
            ("EAPOL", false, reserved(3, 0x888e)),
            ("LLDP where it belongs", false, reserved(14, 0x88cc)),
            ("IPv4 that says it is IPv6", false, patched(14, &[0x65])),
            ("IPv4 with a short header", false, patched(14, &[0x44])),
            ("IPv4 with a header beyond its end", false, patched(14, &[0x4f])),
            ("IPv4 that is longer than its frame", false, patched(16, &[5, 0])),
            ("IPv4 of no length", false, patched(16, &[0, 0])),
            ("IPv6 that says it is IPv4", false, ethernet(A, ALL, 0x86dd, &own[14..])),
            ("IPv4 cut within its header", false, own[..24].to_vec()),
            ("nothing but a type", false, own[..14].to_vec()),
        ];
        all(net, &a, &b, &frames);
        let drops = net.guard.drops().unwrap()["vta"];
        assert!(drops.restricted.packets >= 12, "{drops:?}");
    });
}

/// net-agent cases 63, 64, 66
#[test]
fn kernel_addresses_that_only_look_like_its_own_are_not() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.allowed_ips = vec!["10.1.0.0/16".into(), "fd01::/64".into()]);
        let b = net.port("up0", B);
        let six = |from: &str| ipv6(A, from, NEXT_UDP, &udp(1, 2, b"x"));
        let frames = [
            ("before the network", false, ipv4(A, "10.0.255.255")),
            ("its first address", true, ipv4(A, "10.1.0.0")),
            ("its last address", true, ipv4(A, "10.1.255.255")),
            ("behind the network", false, ipv4(A, "10.2.0.0")),
            ("the broadcast address", false, ipv4(A, "255.255.255.255")),
            ("a multicast address", false, ipv4(A, "224.0.0.1")),
            ("the loopback address", false, ipv4(A, "127.0.0.1")),
            ("its IPv4 address mapped to IPv6", false, six("::ffff:10.0.0.5")),
            ("its IPv4 address in an IPv6 one", false, six("::10.0.0.5")),
            ("an IPv6 multicast address", false, six("ff02::1")),
            ("the IPv6 loopback address", false, six("::1")),
            ("the last of the IPv6 network", true, six("fd01::ffff:ffff:ffff:ffff")),
            ("behind the IPv6 network", false, six("fd01:0:0:1::")),
        ];
        all(net, &a, &b, &frames);
        assert_eq!(net.guard.drops().unwrap()["vta"].address.packets, 10);
    });
}

/// net-agent case 65
#[test]
fn kernel_arp_that_nobody_asked_for_speaks_for_the_guest_only() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let reply = |sender: [u8; 4], target: [u8; 4]| {
            let mut frame = arp(A, A, sender, target);
            frame[21] = 2;
            frame
        };
        let lengths = |hardware: u8, protocol: u8| {
            let mut frame = arp(A, A, [10, 0, 0, 5], [10, 0, 0, 1]);
            frame[18..20].copy_from_slice(&[hardware, protocol]);
            frame
        };
        let frames = [
            ("an announcement of its own", true, arp(A, A, [10, 0, 0, 5], [10, 0, 0, 5])),
            ("an announcement of another", false, arp(A, A, [10, 0, 0, 6], [10, 0, 0, 6])),
            ("an answer for its own", true, reply([10, 0, 0, 5], [10, 0, 0, 1])),
            ("an answer for the router", false, reply([10, 0, 0, 1], [10, 0, 0, 6])),
            ("an answer to all for the router", false, reply([10, 0, 0, 1], [10, 0, 0, 1])),
            ("MAC addresses of eight bytes", false, lengths(8, 4)),
            ("none", false, lengths(0, 4)),
            ("addresses of sixteen bytes", false, lengths(6, 16)),
        ];
        all(net, &a, &b, &frames);
    });
}

/// net-agent cases 69, 79
#[test]
fn kernel_fragments_and_headers_do_not_hide_what_is_judged() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.blocked_outgoing_ports = vec![25]);
        let b = net.port("up0", B);
        let own = "fd00::5";
        let tcp = [&1000u16.to_be_bytes()[..], &25u16.to_be_bytes(), &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0]].concat();
        let server = udp(547, 546, b"answer");
        let redirects = |payload: &[u8], next: u8| [&[next, 0, 1, 4, 0, 0, 0, 0][..], payload].concat();
        let frames = [
            ("TCP in a fragment without its ports", false, ipv4_with(A, "10.0.0.5", 6, 0x2000, &[0; 2])),
            ("UDP in a fragment without its header", false, ipv4_with(A, "10.0.0.5", 17, 0x2000, &[0; 4])),
            ("TCP to a blocked port in a first fragment", false, ipv4_with(A, "10.0.0.5", 6, 0x2000, &tcp[..8])),
            ("UDP in a first fragment", true, ipv4_with(A, "10.0.0.5", 17, 0x2000, &udp(1, 2, &[0; 8]))),
            ("TCP to a blocked port behind options", false, ipv6(A, own, 60, &redirects(&tcp, 6))),
            ("TCP to a blocked port behind two headers", false, ipv6(A, own, 0, &redirects(&redirects(&tcp, 6), 60))),
            ("a DHCPv6 server behind options", false, ipv6(A, own, 60, &redirects(&server, 17))),
            ("a DHCPv6 server's first fragment", false, ipv6(A, own, 44, &fragment(17, 0, true, &server[..8]))),
            ("UDP whose header is in the next fragment", false, ipv6(A, own, 44, &fragment(60, 0, true, &redirects(&[], 17)))),
            ("TCP whose header is in the next fragment", false, ipv6(A, own, 44, &fragment(60, 0, true, &redirects(&[], 6)))),
            ("UDP behind options", true, ipv6(A, own, 60, &redirects(&udp(1, 2, b"x"), 17))),
            ("a first fragment", true, ipv6(A, own, 44, &fragment(17, 0, true, &udp(1, 2, &[0; 8])))),
            ("the source of another behind options", false, ipv6(A, "fd00::6", 60, &redirects(&udp(1, 2, b"x"), 17))),
            ("a later fragment of another", false, ipv6(A, "fd00::6", 44, &fragment(17, 9, false, &[0; 8]))),
            ("an options header longer than the packet", false, ipv6(A, own, 60, &[17, 200, 1, 4, 0, 0, 0, 0])),
        ];
        all(net, &a, &b, &frames);
    });
}

/// net-agent cases 69, 70
#[test]
fn kernel_no_answer_of_dhcp_leaves_a_guest_whatever_its_ports() {
    kernel(|net| {
        let mut a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let local = "fe80::8:20ff:fe00:a";
        let mut answer = dhcp(A, "10.0.0.5", (1000, 68), A, 0);
        answer[14 + 20 + 8] = 2;
        let mut hardware = dhcp(A, "0.0.0.0", (68, 67), A, 0);
        hardware[14 + 20 + 8 + 2] = 16;
        let six = ipv6(A, local, NEXT_UDP, &udp(1000, 546, &[7, 1, 2, 3]));
        let frames = [
            ("an answer from any port", false, answer.clone()),
            ("a MAC address of sixteen bytes", false, hardware),
            ("an IPv6 answer from any port", false, six.clone()),
            ("an IPv6 answer from the server's port", false, ipv6(A, local, NEXT_UDP, &udp(547, 546, &[7, 1, 2, 3]))),
            ("an IPv6 answer to a relay", false, ipv6(A, local, NEXT_UDP, &udp(547, 547, &[13, 1, 2, 3]))),
        ];
        all(net, &a, &b, &frames);
        assert_eq!(net.guard.drops().unwrap()["vta"].dhcp.packets, 5);
        a.nic.allow_dhcp_spoofing = true;
        net.protect(&a);
        all(net, &a, &b, &[("an answer", true, answer), ("an IPv6 answer", true, six)]);
    });
}

/// net-agent section 15: nothing is filtered towards a guest
#[test]
fn kernel_what_comes_to_a_guest_is_not_filtered() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let lldp = ethernet(B, ALL, 0x88cc, &[0; 46]);
        let frames = [
            ("an answer of a DHCP server", true, dhcp(B, "10.0.0.1", (67, 68), A, 0)),
            ("a router advertisement", true, ipv6(B, "fe80::1", 58, &[&[134, 0, 0, 0][..], &[0; 12]].concat())),
            ("a DHCPv6 answer", true, ipv6(B, "fe80::1", NEXT_UDP, &udp(547, 546, b"x"))),
            ("any address", true, ipv4(B, "192.0.2.1")),
            ("a fragment", true, ipv4_with(B, "192.0.2.1", 17, 0x2000, &udp(1, 2, &[0; 8]))),
            ("another ethertype", true, lldp),
        ];
        all(net, &b, &a, &frames);
    });
}

/// Ruling 24
#[test]
fn kernel_a_vrrp_nic_sends_with_its_virtual_mac_from_its_own_and_the_primary_address() {
    kernel(|net| {
        let virtual_mac = triton_types::Mac([0, 0, 0x5e, 0, 1, 7]);
        let a = net.guest("vta", virtual_mac, |nic| {
            nic.vrrp_vrid = Some(7);
            nic.vrrp_primary_ip = Some("10.0.0.2".parse().unwrap());
        });
        let b = net.port("up0", B);
        let advertisement = |mac, from: &str| ipv4_with(mac, from, 112, 0, &[0x31, 7, 100, 1, 0, 1, 0, 0, 10, 0, 0, 5]);
        let frames = [
            ("an advertisement from the primary address", true, advertisement(virtual_mac, "10.0.0.2")),
            ("from the virtual address", true, ipv4(virtual_mac, "10.0.0.5")),
            ("with another MAC", false, advertisement(A, "10.0.0.2")),
            ("of another router", false, advertisement(triton_types::Mac([0, 0, 0x5e, 0, 1, 8]), "10.0.0.2")),
            ("from another address", false, advertisement(virtual_mac, "10.0.0.3")),
            ("ARP for the virtual address", true, arp(virtual_mac, virtual_mac, [10, 0, 0, 5], [10, 0, 0, 5])),
        ];
        all(net, &a, &b, &frames);
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

/// net-agent cases 63, 69, 79, section 15: what is judged stands behind the options of IPv4, whatever their length; and what IPv6 needs to
/// hear of groups passes.
#[test]
fn kernel_options_of_ipv4_hide_nothing_and_reports_of_groups_pass() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.blocked_outgoing_ports = vec![25]);
        let b = net.port("up0", B);
        // The same packet with so many words of options, each a no-operation.
        let behind = |words: u8, frame: &[u8]| {
            let mut long = [&frame[..34], &vec![1; usize::from(words) * 4], &frame[34..]].concat();
            long[14] = 0x45 + words;
            let length = u16::try_from(long.len() - 14).unwrap();
            long[16..18].copy_from_slice(&length.to_be_bytes());
            long
        };
        let mut answer = dhcp(A, "10.0.0.5", (67, 68), B, 0);
        answer[14 + 20 + 8] = 2;
        let local = "fe80::8:20ff:fe00:a";
        let report = |from: &str, source| {
            let listener =
                [&[58, 0, 5, 2, 0, 0, 1, 0][..], &[143, 0, 0, 0, 0, 0, 0, 1], &[4, 0, 0, 0], &[0xff, 2], &[0; 13], &[1]].concat();
            ipv6(source, from, 0, &listener)
        };
        let mut frames = vec![
            ("a report of groups", true, report(local, A)),
            ("one before it has an address", true, report("::", A)),
            ("one of another", false, report("fe80::1", A)),
            ("one with the MAC of another", false, report(local, B)),
            ("an IGMP report", true, ipv4_with(A, "10.0.0.5", 2, 0, &[0x22, 0, 0, 0, 0, 0, 0, 1])),
            ("an IGMP report of another", false, ipv4_with(A, "10.0.0.6", 2, 0, &[0x22, 0, 0, 0, 0, 0, 0, 1])),
            ("a packet for everybody", true, {
                let mut frame = ipv4(A, "10.0.0.5");
                frame[30..34].copy_from_slice(&[255; 4]);
                frame
            }),
            ("one whose source is everybody", false, ipv4(A, "255.255.255.255")),
            ("one whose source is a group", false, ipv4(A, "224.0.0.1")),
            ("one whose source is the machine itself", false, ipv4(A, "127.0.0.1")),
            ("an IPv6 packet whose source is the machine itself", false, ipv6(A, "::1", NEXT_UDP, &udp(1, 2, b"x"))),
            ("one whose source is a group of IPv6", false, ipv6(A, "ff02::1", NEXT_UDP, &udp(1, 2, b"x"))),
            ("an IPv4 address within IPv6", false, ipv6(A, "::ffff:10.0.0.5", NEXT_UDP, &udp(1, 2, b"x"))),
        ];
        for words in [1, 2, 10] {
            frames.extend([
                ("its own packet with options", true, behind(words, &ipv4(A, "10.0.0.5"))),
                ("that of another with options", false, behind(words, &ipv4(A, "10.0.0.6"))),
                ("a blocked port behind options", false, behind(words, &tcp4(A, "10.0.0.5", 25))),
                ("another port behind options", true, behind(words, &tcp4(A, "10.0.0.5", 26))),
                ("a DHCP answer behind options", false, behind(words, &answer)),
                ("a question for another behind options", false, behind(words, &dhcp(A, "0.0.0.0", (68, 67), B, 0))),
                ("a question behind options", true, behind(words, &dhcp(A, "0.0.0.0", (68, 67), A, 0))),
            ]);
        }
        all(net, &a, &b, &frames);
    });
}
