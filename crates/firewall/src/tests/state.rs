//! Answers, neighbour discovery, DHCP, and what is not IP.

use triton_fwrule::Flow;

use super::{
    frames::{self, Segment, packet},
    rig::kernel,
    world::{self, rule},
};
use crate::compile;

const GUEST: frames::Mac = [2, 0, 0, 0, 0, 1];
const OTHER: frames::Mac = [2, 0, 0, 0, 0, 2];

/// firewaller cases E-ST1 and E-ST2, section 5.5: answers to what a guest asks come in, answers to what it may be asked go out, whatever
/// blocks new flows.
#[test]
fn kernel_answers_pass_and_new_flows_the_other_way_do_not() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let rules = [
            rule(None, "FROM any TO all vms ALLOW tcp PORT 22"),
            rule(None, "FROM all vms TO any BLOCK tcp PORT all"),
            rule(None, "FROM all vms TO any ALLOW tcp PORT 443 PRIORITY 5"),
        ];
        rig.filter.apply(&compile(&rules, &world::locals()[..1], &[])).unwrap();
        for ipv6 in [false, true] {
            let here = (GUEST, world::addresses(0)[usize::from(ipv6)]);
            let there = (OTHER, world::addresses(3)[usize::from(ipv6)]);
            // In, allowed; its answer goes out although new flows may not.
            assert!(rig.arrives(&outside, &guest, &packet(there, here, Flow::Tcp(22), 5000, Segment::Syn)));
            assert!(rig.arrives(&guest, &outside, &packet(here, there, Flow::Tcp(5000), 22, Segment::SynAck)), "the answer");
            assert!(!rig.arrives(&guest, &outside, &packet(here, there, Flow::Tcp(5001), 22, Segment::Syn)), "a new flow");
            // Out, allowed; its answer comes in although new flows may not.
            assert!(rig.arrives(&guest, &outside, &packet(here, there, Flow::Tcp(443), 6000, Segment::Syn)));
            assert!(rig.arrives(&outside, &guest, &packet(there, here, Flow::Tcp(6000), 443, Segment::SynAck)), "the answer");
            assert!(!rig.arrives(&outside, &guest, &packet(there, here, Flow::Tcp(6001), 443, Segment::Syn)), "a new flow");
            // UDP passes out by default, and its answers in.
            assert!(!rig.arrives(&outside, &guest, &packet(there, here, Flow::Udp(7000), 53, Segment::Syn)), "nobody asked");
            assert!(rig.arrives(&guest, &outside, &packet(here, there, Flow::Udp(53), 7000, Segment::Syn)));
            assert!(rig.arrives(&outside, &guest, &packet(there, here, Flow::Udp(7000), 53, Segment::Syn)), "the answer");
        }
        // Established flows outlive a change of the rules, as on SmartOS.
        rig.filter.apply(&compile(&rules[1..2], &world::locals()[..1], &[])).unwrap();
        let (here, there) = ((GUEST, world::addresses(0)[0]), (OTHER, world::addresses(3)[0]));
        assert!(rig.arrives(&guest, &outside, &packet(here, there, Flow::Tcp(5000), 22, Segment::SynAck)));
        assert!(!rig.arrives(&outside, &guest, &packet(there, here, Flow::Tcp(22), 5002, Segment::Syn)));
    });
}

/// firewaller case E-ST9, section 12.4: what a network cannot live without. ARP is the marker of every case of this file.
#[test]
fn kernel_neighbour_discovery_and_answers_of_dhcp_are_never_filtered() {
    kernel(|rig| {
        let (guest, still, outside) = (rig.link("vt0", GUEST), rig.link("vt1", [2, 0, 0, 0, 0, 3]), rig.link("uplink", OTHER));
        let rules = [rule(None, "FROM all vms TO any BLOCK icmp6 TYPE all"), rule(None, "FROM all vms TO any BLOCK udp PORT all")];
        rig.filter.apply(&compile(&rules, &world::locals()[..2], &[])).unwrap();
        let (here, there) = ((GUEST, world::addresses(0)[1]), (OTHER, world::addresses(3)[1]));
        for kind in [133, 134, 135, 136, 137, 143] {
            assert!(rig.arrives(&guest, &outside, &packet(here, there, Flow::Icmp6(kind, 0), 1, Segment::Syn)), "out, type {kind}");
            assert!(rig.arrives(&outside, &guest, &packet(there, here, Flow::Icmp6(kind, 0), 2, Segment::Syn)), "in, type {kind}");
        }
        assert!(!rig.arrives(&guest, &outside, &packet(here, there, Flow::Icmp6(128, 0), 3, Segment::Syn)));
        // Guest 0 gets its address by DHCP, guest 1 does not.
        let offers = |to: frames::Mac, number: usize, ipv6: bool| {
            let (from, port) = if ipv6 { (547, 546) } else { (67, 68) };
            let address = |number: usize| world::addresses(number)[usize::from(ipv6)];
            packet((OTHER, address(3)), (to, address(number)), Flow::Udp(port), from, Segment::Syn)
        };
        for ipv6 in [false, true] {
            assert!(rig.arrives(&outside, &guest, &offers(GUEST, 0, ipv6)));
            assert!(!rig.arrives(&outside, &still, &offers([2, 0, 0, 0, 0, 3], 1, ipv6)));
        }
        let other_port = packet((OTHER, world::addresses(3)[0]), (GUEST, world::addresses(0)[0]), Flow::Udp(68), 66, Segment::Syn);
        assert!(!rig.arrives(&outside, &guest, &other_port), "from the server's port only");
    });
}

/// firewaller cases E-ST3 and E-ST4: an answer comes from who was asked, to where it was asked from.
#[test]
fn kernel_e_st3_e_st4_only_who_was_asked_answers() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        rig.filter.apply(&compile(&[], &world::locals()[..1], &[])).unwrap();
        for ipv6 in [false, true] {
            let address = |number: usize| world::addresses(number)[usize::from(ipv6)];
            let (here, asked, other) = ((GUEST, address(0)), (OTHER, address(3)), (OTHER, address(4)));
            assert!(rig.arrives(&guest, &outside, &packet(here, asked, Flow::Udp(53), 7000, Segment::Syn)));
            assert!(!rig.arrives(&outside, &guest, &packet(other, here, Flow::Udp(7000), 53, Segment::Syn)), "somebody else");
            assert!(!rig.arrives(&outside, &guest, &packet(asked, here, Flow::Udp(7001), 53, Segment::Syn)), "another port");
            assert!(rig.arrives(&outside, &guest, &packet(asked, here, Flow::Udp(7000), 53, Segment::Syn)), "the answer");
            let (request, reply) = if ipv6 { (Flow::Icmp6(128, 0), Flow::Icmp6(129, 0)) } else { (Flow::Icmp(8, 0), Flow::Icmp(0, 0)) };
            assert!(!rig.arrives(&outside, &guest, &packet(asked, here, reply, 77, Segment::Syn)), "an answer that nobody asked for");
            assert!(rig.arrives(&guest, &outside, &packet(here, asked, request, 78, Segment::Syn)));
            assert!(rig.arrives(&outside, &guest, &packet(asked, here, reply, 78, Segment::Syn)), "the answer to a ping");
            assert!(!rig.arrives(&outside, &guest, &packet(other, here, reply, 78, Segment::Syn)), "of somebody else");
        }
    });
}

/// firewaller section 5.5, `keep frags`: what follows of a datagram shares the fate of its beginning, and alone it is nothing.
#[test]
fn kernel_fragments_follow_the_first_one() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let rules = [rule(None, "FROM any TO all vms ALLOW udp PORT 2000"), rule(None, "FROM all vms TO any BLOCK udp PORT 2001")];
        rig.filter.apply(&compile(&rules, &world::locals()[..1], &[])).unwrap();
        let mut id = 100;
        for ipv6 in [false, true] {
            let (here, there) = ((GUEST, world::addresses(0)[usize::from(ipv6)]), (OTHER, world::addresses(3)[usize::from(ipv6)]));
            for (inward, port, passes) in [(true, 2000, true), (true, 2001, false), (false, 2000, true), (false, 2001, false)] {
                id += 1;
                let (from, to) = if inward { (there, here) } else { (here, there) };
                let (sender, receiver) = if inward { (&outside, &guest) } else { (&guest, &outside) };
                let (fragments, payload) = frames::fragments(from, to, port, 9000 + id, id);
                let came = frames::reassembled(&rig.collected(sender, receiver, &fragments), id);
                assert_eq!(came.len(), if passes { payload.len() } else { 0 }, "ipv6 {ipv6}, inward {inward}, port {port}");
                assert!(!passes || came == payload);
            }
            // The end of a datagram whose beginning never comes, and one that comes before it.
            id += 2;
            let ([first, second], payload) = frames::fragments(there, here, 2000, 9000 + id, id);
            assert_eq!(frames::reassembled(&rig.collected(&outside, &guest, std::slice::from_ref(&second)), id), [0_u8; 0], "alone");
            let late = rig.collected(&outside, &guest, &[first]);
            assert_eq!(frames::reassembled(&late, id), payload, "it was waited for");
        }
    });
}
