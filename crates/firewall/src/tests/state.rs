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

/// firewaller section 5.5: answers to what a guest asks come in, answers to what it may be asked go out, whatever blocks new flows.
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

/// firewaller section 12.4: what a network cannot live without.
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
