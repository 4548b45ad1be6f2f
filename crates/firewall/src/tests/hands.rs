//! What others do to the table by hand, and what is damaged on disk: noticed, and mended in one transaction.

use std::fs;

use triton_fwrule::{Flow, RemoteVm, Rule};

use super::{
    frames::{self, Segment, packet},
    rig::{Rig, kernel, run},
    world::{self, rule},
};
use crate::{Applied, Desired, Firewall, LocalVm, compile, names};

const GUEST: frames::Mac = [2, 0, 0, 0, 0, 1];
const OTHER: frames::Mac = [2, 0, 0, 0, 0, 2];

/// Numbers of the lines of a chain.
fn handles(chain: &str) -> Vec<String> {
    let listed = run(&format!("nft -a list chain bridge triton_fw {chain}"));
    listed.lines().skip(2).filter_map(|line| Some(line.rsplit_once("# handle ")?.1.to_owned())).collect()
}

fn chain_of(desired: &Desired, begins: &str) -> String {
    let names = desired.chains.values().map(|chain| chain.name.clone());
    names.into_iter().find(|name| name.starts_with(begins)).unwrap()
}

/// Net-agent does as much for the guard; ruling 9.
#[test]
fn kernel_a_line_that_somebody_removes_adds_or_replaces_is_put_right() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let rules = [
            rule(None, "FROM any TO all vms ALLOW tcp (PORT 22 AND PORT 80)"),
            rule(None, "FROM subnet 10.0.0.0/8 TO all vms ALLOW udp PORT 53"),
            rule(None, "FROM all vms TO any BLOCK tcp PORT 25"),
        ];
        let desired = compile(&rules, &world::locals()[..1], &[]);
        rig.filter.apply(&desired).unwrap();
        assert_eq!(rig.filter.repair(&desired).unwrap(), Applied { messages: 0, made: false }, "nothing is wrong");
        let (inward, outward) = (chain_of(&desired, "in_"), chain_of(&desired, "out_"));
        let listed = desired.fixed.keys().find(|name| name.starts_with("listed4_")).unwrap().clone();
        let here = (GUEST, world::addresses(0)[0]);
        let there = (OTHER, world::addresses(3)[0]);
        let deeds: Vec<String> = vec![
            format!("nft delete rule bridge triton_fw {inward} handle {{last of {inward}}}"),
            format!("nft delete rule bridge triton_fw {inward} handle {{first of {inward}}}"),
            format!("nft insert rule bridge triton_fw {inward} return"),
            format!("nft add rule bridge triton_fw {outward} drop"),
            format!("nft replace rule bridge triton_fw {outward} handle {{first of {outward}}} tcp dport 26 drop"),
            format!("nft flush chain bridge triton_fw {inward}"),
            format!("nft flush chain bridge triton_fw {}", names::entry_of(&inward).unwrap()),
            format!("nft insert rule bridge triton_fw {} return", names::entry_of(&inward).unwrap()),
            "nft insert rule bridge triton_fw flow_forward accept".to_owned(),
            "nft flush chain bridge triton_fw exempt".to_owned(),
            "nft add chain bridge triton_fw mine { type filter hook forward priority -5 ; }".to_owned(),
            format!("nft add element bridge triton_fw {listed} {{ 192.0.2.0/24 }}"),
            "nft delete element bridge triton_fw ingress { \"vt0\" }".to_owned(),
            "nft delete table bridge triton_fw".to_owned(),
        ];
        for (number, deed) in (0_u16..).zip(&deeds) {
            let mut line = deed.clone();
            for chain in [&inward, &outward] {
                let all = handles(chain);
                line = line.replace(&format!("{{first of {chain}}}"), all.first().map_or("", String::as_str));
                line = line.replace(&format!("{{last of {chain}}}"), all.last().map_or("", String::as_str));
            }
            run(&line);
            assert!(rig.filter.repair(&desired).unwrap().messages > 0, "{line}: not noticed");
            assert_eq!(rig.filter.repair(&desired).unwrap(), Applied { messages: 0, made: false }, "{line}: not mended");
            let tcp = |port| packet(there, here, Flow::Tcp(port), 20_000 + number, Segment::Syn);
            assert_eq!(rig.arriving(&outside, &guest, &[tcp(22), tcp(23)]), [true, false], "{line}");
            let out = |port| packet(here, there, Flow::Tcp(port), 20_000 + number, Segment::Syn);
            assert_eq!(rig.arriving(&guest, &outside, &[out(25), out(26)]), [false, true], "{line}");
        }
    });
}

fn opened(rig: &Rig) -> Firewall {
    rig.layout.prepare().unwrap();
    Firewall::open(&rig.layout).unwrap()
}

fn stored(firewall: &mut Firewall, rules: Vec<Rule>, remote_vms: Vec<RemoteVm>, locals: &[LocalVm]) {
    let change = crate::Change::Replace { rules, remote_vms, no_rules: Vec::new(), no_remote_vms: Vec::new() };
    firewall.change(&change, || Ok(locals.to_vec())).unwrap();
}

/// Ruling 1: a file that cannot be read drops no rule, neither for who knew it nor for who never did.
#[test]
fn kernel_a_damaged_file_drops_nothing_that_is_in_force() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let locals = world::locals()[..1].to_vec();
        let kept = rule(None, "FROM tag role = db TO all vms ALLOW tcp PORT 22");
        let damaged = rule(None, "FROM ip 10.0.1.4 TO all vms ALLOW tcp PORT 23");
        let remote = world::remotes().remove(0);
        let mut firewall = opened(rig);
        stored(&mut firewall, vec![kept.clone(), damaged.clone()], vec![remote.clone()], &locals);
        let (here, there) = ((GUEST, world::addresses(0)[0]), (OTHER, world::addresses(3)[0]));
        let mut source = 30_000;
        let mut ports = |rig: &mut Rig| {
            source += 1;
            let tcp = |port| packet(there, here, Flow::Tcp(port), source, Segment::Syn);
            rig.arriving(&outside, &guest, &[tcp(22), tcp(23), tcp(24)])
        };
        assert_eq!(ports(rig), [true, true, false]);
        let rule_file = rig.layout.at(&format!("/var/fw/rules/{}.json", damaged.uuid));
        let vm_file = rig.layout.at(&format!("/var/fw/vms/{}.json", remote.uuid));
        for file in [&rule_file, &vm_file] {
            fs::write(file, "{ half").unwrap();
        }
        // Who knew it goes on with what it knew; who did not, and finds no copy, leaves its lines and its addresses.
        fs::remove_dir_all(rig.layout.at("/var/fw/.copies")).unwrap();
        let another = rule(None, "FROM any TO all vms ALLOW udp PORT 53");
        for mut firewall in [firewall, opened(rig)] {
            firewall.converge(|| Ok(locals.clone())).unwrap();
            assert_eq!(firewall.repair(|| Ok(locals.clone())).unwrap().messages, 0);
            assert_eq!(ports(rig), [true, true, false]);
            stored(&mut firewall, vec![another.clone()], Vec::new(), &locals);
            assert_eq!(ports(rig), [true, true, false]);
            assert_eq!(firewall.load().unwrap().bad.len(), 2);
        }
        // The same rule again heals its file; then all of it is known.
        let mut healing = opened(rig);
        stored(&mut healing, vec![damaged.clone()], vec![remote], &locals);
        assert_eq!(healing.load().unwrap().bad.len(), 0);
        assert_eq!(ports(rig), [true, true, false]);
        let going =
            crate::Change::Replace { rules: Vec::new(), remote_vms: Vec::new(), no_rules: vec![damaged.uuid], no_remote_vms: Vec::new() };
        healing.change(&going, || Ok(locals.clone())).unwrap();
        assert_eq!(ports(rig), [true, false, false]);
    });
}

/// Ruling 1: with the second copy of a damaged file, other rules of the same instance do not wait.
#[test]
fn kernel_other_rules_do_not_wait_for_a_damaged_one_that_has_a_copy() {
    kernel(|rig| {
        let (guest, outside) = (rig.link("vt0", GUEST), rig.link("uplink", OTHER));
        let locals = world::locals()[..1].to_vec();
        let damaged = rule(None, "FROM ip 10.0.1.4 TO all vms ALLOW tcp PORT 23");
        stored(&mut opened(rig), vec![damaged.clone()], Vec::new(), &locals);
        fs::write(rig.layout.at(&format!("/var/fw/rules/{}.json", damaged.uuid)), "{ half").unwrap();
        let (here, there) = ((GUEST, world::addresses(0)[0]), (OTHER, world::addresses(3)[0]));
        let both = [("tcp PORT 22", [true, true, false]), ("tcp PORT 24", [false, true, true])];
        for (source, (text, seen)) in (31_001..).zip(both) {
            let mut other = rule(None, &format!("FROM any TO all vms ALLOW {text}"));
            other.uuid = "10000000-0000-4000-8000-000000000001".parse().unwrap();
            // One process after the other, none of which ever knew the damaged rule.
            let mut firewall = opened(rig);
            stored(&mut firewall, vec![other], Vec::new(), &locals);
            let tcp = |port| packet(there, here, Flow::Tcp(port), source, Segment::Syn);
            assert_eq!(rig.arriving(&outside, &guest, &[tcp(22), tcp(23), tcp(24)]), seen, "{text}");
            assert_eq!(firewall.load().unwrap().bad.len(), 1, "it is named all the same");
        }
    });
}
