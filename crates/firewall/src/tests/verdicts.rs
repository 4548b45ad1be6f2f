//! What passes is what the oracle says, whatever the rules are.

use std::net::IpAddr;

use triton_fwrule::{Direction, Flow, Packet, Rule, Verdict, Vms, decide};

use super::{
    frames::{FLOWS, Mac, Segment, packet},
    rig::{End, Rig, forget_flows, kernel},
    world::{self, Dice},
};
use crate::{LocalVm, compile};

const OUTSIDE: Mac = [2, 0, 0, 0, 0, 0xff];

fn mac(number: usize) -> Mac {
    [2, 0, 0, 0, 0, u8::try_from(number).unwrap()]
}

/// One end of a packet: a local instance, or what is behind the uplink, with an address.
#[derive(Clone, Copy, Debug)]
struct Place {
    local: Option<usize>,
    ip: IpAddr,
}

fn place(number: usize, ipv6: bool) -> Place {
    Place { local: (number < 3).then_some(number), ip: world::addresses(number)[usize::from(ipv6)] }
}

fn expected(rules: &[Rule], locals: &[LocalVm], from: Place, to: Place, flow: Flow) -> bool {
    let facts: Vec<_> = locals.iter().map(|vm| vm.facts.clone()).collect();
    let remote = world::remotes();
    let vms = Vms { local: &facts, remote: &remote };
    let allowed = |local: Option<usize>, direction, remote| {
        let Some(number) = local else { return true };
        decide(rules, &vms, &Packet { vm: facts[number].uuid, direction, remote, flow }) == Verdict::Allow
    };
    allowed(from.local, Direction::Out, to.ip) && allowed(to.local, Direction::In, from.ip)
}

struct Net {
    ends: Vec<End>,
    uplink: End,
    sources: u16,
}

impl Net {
    fn new(rig: &mut Rig) -> Self {
        let ends = (0..3).map(|number| rig.link(&world::link(number), mac(number))).collect();
        Self { ends, uplink: rig.link("uplink", OUTSIDE), sources: 10_000 }
    }

    fn end(&self, place: Place) -> (&End, (Mac, IpAddr)) {
        let end = place.local.map_or(&self.uplink, |number| &self.ends[number]);
        (end, (end.mac, place.ip))
    }

    /// Compares every pair of places and every flow with the oracle.
    fn compare(&mut self, rig: &mut Rig, rules: &[Rule], locals: &[LocalVm]) -> usize {
        let mut compared = 0;
        for ipv6 in [false, true] {
            for (from, to) in (0..5).flat_map(|from| (0..5).map(move |to| (from, to))) {
                if from == to || (from > 2 && to > 2) {
                    continue;
                }
                let (from, to) = (place(from, ipv6), place(to, ipv6));
                forget_flows();
                let flows: Vec<Flow> =
                    FLOWS.into_iter().filter(|flow| !matches!((flow, ipv6), (Flow::Icmp(..), true) | (Flow::Icmp6(..), false))).collect();
                let frames: Vec<Vec<u8>> = flows
                    .iter()
                    .map(|flow| {
                        self.sources += 1;
                        packet(self.end(from).1, self.end(to).1, *flow, self.sources, Segment::Syn)
                    })
                    .collect();
                let arrived = rig.arriving(self.end(from).0, self.end(to).0, &frames);
                for (flow, arrived) in flows.into_iter().zip(arrived) {
                    let texts: Vec<String> = rules.iter().map(|rule| format!("{:?} {} {}", rule.owner, rule.enabled, rule.spec)).collect();
                    let wanted = expected(rules, locals, from, to, flow);
                    assert_eq!(arrived, wanted, "{from:?} -> {to:?}, {flow:?}, rules:\n{}", texts.join("\n"));
                    compared += 1;
                }
            }
        }
        compared
    }
}

/// firewaller section 14, last row: the kernel against the oracle, one new flow each.
#[test]
fn kernel_random_rules_decide_as_the_oracle_does() {
    kernel(|rig| {
        let mut net = Net::new(rig);
        let mut dice = Dice(20_261_128);
        let (mut locals, remotes) = (world::locals(), world::remotes());
        let mut compared = 0;
        for round in 0..14 {
            let rules: Vec<Rule> = (0..dice.roll(9)).map(|_| dice.rule()).collect();
            locals[1].facts.firewall_enabled = round % 5 != 4;
            rig.filter.apply(&compile(&rules, &locals, &remotes)).unwrap();
            compared += net.compare(rig, &rules, &locals);
        }
        assert!(compared > 5_000, "{compared}");
    });
}
