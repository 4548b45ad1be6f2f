//! Changes under traffic: no packet passes or is lost that neither the old nor the new rules explain (issue 7, ruling 22).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use triton_fwrule::{Direction, Flow};

use super::{
    frames::{self, Segment, packet},
    rig::{forget_flows, kernel, run},
    world::{self, rule},
};
use crate::{Filter, compile};

const GUEST: frames::Mac = [2, 0, 0, 0, 0, 1];
const OTHER: frames::Mac = [2, 0, 0, 0, 0, 2];
/// Long enough for a hundred and more changes, and for some thousand packets on a machine that is not emulated.
const TIME: Duration = Duration::from_secs(8);
/// So many packets are sent in any case.
const PACKETS: usize = 1000;
/// A change is begun so often, if the one before it is done.
const PERIOD: Duration = Duration::from_millis(40);
/// So many changes are made in any case.
const CHANGES: usize = 120;

/// firewaller case E-ST5: two sets of rules take turns, every third change is one that the kernel refuses, and once in a while the table is
/// made anew; what both sets allow arrives, what both block does not, in either direction and of either family, whole or in fragments.
#[test]
fn kernel_e_st5_no_change_lets_a_packet_pass_or_loses_one() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let locals = world::locals();
        let both = || {
            vec![
                rule(None, "FROM any TO all vms ALLOW udp PORT 1000"),
                rule(None, "FROM all vms TO any BLOCK udp PORT 1001"),
                rule(None, "FROM tag role = db TO all vms BLOCK udp PORT 1000 PRIORITY 3"),
                rule(None, "FROM any TO all vms ALLOW udp PORT 1000 PRIORITY 5"),
            ]
        };
        let old = [both(), vec![rule(None, "FROM any TO all vms ALLOW udp PORT 2000")]].concat();
        let new = [both(), vec![rule(None, "FROM tag role = db TO all vms ALLOW udp (PORT 3000 AND PORT 3003)")]].concat();
        let sets = [compile(&old, &locals, &world::remotes()), compile(&new, &locals, &world::remotes()[1..])];
        rig.filter.apply(&sets[0]).unwrap();

        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, counted, layout) = (stop.clone(), made.clone(), rig.layout.clone());
        let vm = locals[0].facts.uuid;
        let changer = std::thread::spawn(move || {
            let mut filter = Filter::open(&layout).unwrap();
            let mut bad = sets[1].clone();
            bad.chains.get_mut(&(vm, Direction::In)).unwrap().name = "x".repeat(300);
            let (begun, mut changes) = (Instant::now(), 0_usize);
            while !ended.load(Ordering::Relaxed) {
                changes += 1;
                counted.store(changes, Ordering::Relaxed);
                match changes % 3 {
                    0 => drop(filter.apply(&bad).unwrap_err()),
                    _ => assert!(filter.apply(&sets[changes % 2]).unwrap().messages > 0 || changes % 3 == 1),
                }
                if changes % 40 == 0 {
                    // A line by somebody else: the whole table is made anew, in one transaction.
                    run("nft add rule bridge triton_fw exempt counter");
                    assert!(filter.repair(&sets[changes % 2]).unwrap().made);
                }
                let next = begun + PERIOD * u32::try_from(changes).unwrap();
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            (changes, f64::from(u32::try_from(changes).unwrap()) / begun.elapsed().as_secs_f64() * 60.0)
        });

        let (begun, mut sent, mut id) = (Instant::now(), 0_usize, 0_u16);
        while begun.elapsed() < TIME || sent < PACKETS || (made.load(Ordering::Relaxed) < CHANGES && !changer.is_finished()) {
            forget_flows();
            for ipv6 in [false, true] {
                let (here, there) = ((GUEST, world::addresses(0)[usize::from(ipv6)]), (OTHER, world::addresses(3)[usize::from(ipv6)]));
                id = id.wrapping_add(1);
                let source = 10_000 + id % 40_000;
                let to = |port| packet(there, here, Flow::Udp(port), source, Segment::Syn);
                let from = |port| packet(here, there, Flow::Udp(port), source, Segment::Syn);
                let came = rig.arriving(&outside, &guest, &[to(1000), to(4000), to(2000), to(3000)]);
                assert_eq!(came[..2], [true, false], "in, ipv6 {ipv6}: what both sets allow, what neither does");
                assert_eq!(rig.arriving(&guest, &outside, &[from(1002), from(1001)]), [true, false], "out, ipv6 {ipv6}");
                let (fragments, payload) = frames::fragments(there, here, 1000, source + 1, id);
                assert_eq!(frames::reassembled(&rig.collected(&outside, &guest, &fragments), id), payload, "in, fragments, ipv6 {ipv6}");
                let (fragments, _) = frames::fragments(here, there, 1001, source + 1, id);
                assert!(frames::reassembled(&rig.collected(&guest, &outside, &fragments), id).is_empty(), "out, fragments, ipv6 {ipv6}");
                sent += 10;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (changes, rate) = changer.join().unwrap();
        println!("{changes} changes, {rate:.0} a minute, {sent} packets");
    });
}
