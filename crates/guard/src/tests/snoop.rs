//! Addresses that guests are given, from frame to rule; and repair of a table that somebody spoilt.

use std::time::{Duration, Instant};

use nix::net::if_::if_indextoname;
use triton_nft::Logs;
use triton_types::Mac;

use super::{
    frames::*,
    wire::{A, B, Guest, Net, kernel, run},
};
use crate::{COPIES, Heard, Lesson, Protection, Snoop};

/// The copies that come because of `send`, heard; `None` where this kernel makes none.
struct Ear {
    logs: Logs,
    snoop: Snoop,
}

impl Ear {
    fn open(all: &[Protection]) -> Option<Self> {
        let mut snoop = Snoop::default();
        snoop.watch(all.to_vec());
        match Logs::open(COPIES.0, COPIES.1) {
            Ok(logs) => Some(Self { logs, snoop }),
            Err(error) => {
                // Then no rule makes any either, and such guests send from no address.
                assert!(!run("nft list ruleset").contains("log group"), "{error}");
                None
            }
        }
    }

    /// Hears until something is learned of `link`, and applies it.
    fn learn(&mut self, net: &mut Net) -> (String, Lesson) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "nothing was learned");
            for copy in self.logs.wait(Duration::from_millis(100)).unwrap() {
                let (index, heard) = match (copy.output, copy.input) {
                    (Some(output), _) if name(output).starts_with("vt") => (output, Heard::Told),
                    (_, Some(input)) => (input, Heard::Asked),
                    _ => continue,
                };
                let link = name(index);
                if let Some(lesson) = self.snoop.hear(&link, heard, &copy.payload, Instant::now()).pop() {
                    match lesson {
                        Lesson::Learn(address, time) => net.guard.learn(&link, address, time).unwrap(),
                        Lesson::Unlearn(address) => net.guard.unlearn(&link, address).unwrap(),
                    }
                    return (link, lesson);
                }
            }
        }
    }
}

fn name(index: u32) -> String {
    if_indextoname(index).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn message(source: Mac, from: &str, ports: (u16, u16), kinds: (u8, u8), client: Mac, address: [u8; 4]) -> Vec<u8> {
    let head = [&[kinds.0, 1, 6, 0, 9, 9, 9, 9][..], &[0; 8], &address, &[0; 8], &client.0, &[0; 10], &[0; 192]].concat();
    let message = [&head[..], &[99, 130, 83, 99, 53, 1, kinds.1, 51, 4, 0, 0, 2, 88, 255]].concat();
    ipv4_with(source, from, 17, 0, &udp(ports.0, ports.1, &message))
}

fn dynamic(net: &mut Net, link: &str, mac: Mac, word: &str) -> Guest {
    net.guest(link, mac, |nic| nic.ips = vec![word.parse().unwrap()])
}

/// net-agent section 15, ruling 25
#[test]
fn kernel_a_guest_sends_from_the_address_that_a_dhcp_server_gave_it_and_from_no_other() {
    kernel(|net| {
        let (a, b) = (dynamic(net, "vta", A, "dhcp"), net.port("up0", B));
        let c = dynamic(net, "vtc", Mac([0x02, 0x08, 0x20, 0, 0, 0xc]), "dhcp");
        let all = [Protection::of(&a.nic, "vta"), Protection::of(&c.nic, "vtc")];
        let Some(mut ear) = Ear::open(&all) else { return };
        let given = [10, 7, 0, 9];
        assert!(!net.passes(&a, &b, &ipv4(A, "10.7.0.9")));
        // An answer that nobody asked for, and one that the guest makes itself, teach nothing.
        b.send(&message(B, "10.0.0.1", (67, 68), (2, 5), A, [10, 7, 0, 66]));
        a.send(&message(A, "0.0.0.0", (67, 68), (2, 5), A, [10, 7, 0, 66]));
        a.send(&message(A, "0.0.0.0", (68, 67), (1, 3), A, [0; 4]));
        b.send(&message(B, "10.0.0.1", (67, 68), (2, 5), A, given));
        assert_eq!(ear.learn(net), ("vta".to_owned(), Lesson::Learn("10.7.0.9".parse().unwrap(), Duration::from_secs(600))));
        for (what, expected, frame) in [
            ("its address", true, ipv4(A, "10.7.0.9")),
            ("ARP for it", true, arp(A, A, given, [10, 7, 0, 1])),
            ("another", false, ipv4(A, "10.7.0.66")),
        ] {
            assert_eq!(net.passes(&a, &b, &frame), expected, "{what}");
        }
        assert!(!net.passes(&c, &b, &ipv4(c.nic.mac, "10.7.0.9")), "its neighbour was given nothing");
        // The client gives it back.
        let mut release = message(A, "10.7.0.9", (68, 67), (1, 7), A, [0; 4]);
        let ciaddr = 14 + 20 + 8 + 12;
        release[ciaddr..ciaddr + 4].copy_from_slice(&given);
        a.send(&release);
        assert_eq!(ear.learn(net).1, Lesson::Unlearn("10.7.0.9".parse().unwrap()));
        assert!(!net.passes(&a, &b, &ipv4(A, "10.7.0.9")));
    });
}

/// net-agent section 15, ruling 25
#[test]
fn kernel_a_guest_sends_from_the_address_that_it_makes_of_a_routers_prefix() {
    kernel(|net| {
        let (a, b) = (dynamic(net, "vta", A, "addrconf"), net.port("up0", B));
        let Some(mut ear) = Ear::open(&[Protection::of(&a.nic, "vta")]) else { return };
        let own = "fd07::8:20ff:fe00:a";
        let packet = |from: &str| ipv6(A, from, 17, &udp(1, 2, b"x"));
        assert!(!net.passes(&a, &b, &packet(own)));
        let prefix = [&[3, 4, 64, 0xc0, 0, 0, 2, 88][..], &[0; 8], &[0xfd, 7], &[0; 14]].concat();
        let advertisement = [&[134, 0][..], &[0; 14], &prefix].concat();
        // Not from a guest: that never arrives.
        let rogue = net.guest("vtr", Mac([0x02, 0x08, 0x20, 0, 0, 0xd]), |_| {});
        rogue.send(&ipv6(rogue.nic.mac, "fe80::8:20ff:fe00:d", 58, &advertisement));
        b.send(&ipv6(B, "fe80::1", 58, &advertisement));
        assert_eq!(ear.learn(net).1, Lesson::Learn(own.parse().unwrap(), Duration::from_secs(600)));
        assert!(net.passes(&a, &b, &packet(own)));
        assert!(net.passes(&a, &b, &neighbour(A, own, 136, own, &option(2, A))));
        assert!(!net.passes(&a, &b, &packet("fd07::1")), "another of the prefix");
        assert_eq!(net.guard.drops().unwrap()["vtr"].address.packets, 1);
    });
}

/// net-agent case 78, ruling 9
#[test]
fn kernel_a_table_that_somebody_spoilt_is_made_whole_and_one_that_is_whole_is_left_alone() {
    kernel(|net| {
        let (a, b) = (net.guest("vta", A, |_| {}), net.port("up0", B));
        let all = || Ok(vec![Protection::of(&a.nic, "vta")]);
        assert_eq!(net.guard.repair(|| Err("not asked".to_owned())).unwrap(), None);
        let foreign = ipv4(A, "10.0.0.6");
        for spoil in [
            "flush ruleset",
            "flush chain bridge triton_guard from_guests",
            "flush chain bridge triton_guard ipv4_from",
            "delete table bridge triton_guard",
        ] {
            run(&format!("nft {spoil}"));
            assert!(net.passes(&a, &b, &foreign) || spoil.contains("ipv4_from"), "{spoil}");
            assert_eq!(net.guard.repair(all).unwrap(), Some(1), "{spoil}");
            assert!(!net.passes(&a, &b, &foreign), "{spoil}");
            assert!(net.passes(&a, &b, &ipv4(A, "10.0.0.5")), "{spoil}");
        }
        // A rule of somebody else's in it goes as well.
        run("nft insert rule bridge triton_guard from_guests accept");
        assert!(net.passes(&a, &b, &foreign));
        assert_eq!(net.guard.repair(all).unwrap(), Some(1));
        assert!(!net.passes(&a, &b, &foreign));
        // Without a NIC there is nothing to guard, and what is not known is not guessed.
        run("nft flush ruleset");
        assert_eq!(net.guard.repair(|| Ok(Vec::new())).unwrap(), None);
        assert_eq!(run("nft list ruleset"), "");
        assert!(net.guard.repair(|| Err("the pool is not there".to_owned())).is_err());
    });
}

/// net-agent section 16, ruling 9
#[test]
fn kernel_sets_are_made_what_the_nics_say_and_nothing_else_is_touched() {
    kernel(|net| {
        let (a, b) = (net.guest("vta", A, |nic| nic.allowed_ips = vec!["10.1.0.0/16".into(), "fd01::/64".into()]), net.port("up0", B));
        let c = net.guest("vtc", Mac([0x02, 0x08, 0x20, 0, 0, 0xc]), |nic| {
            nic.ips = vec!["dhcp".parse().unwrap()];
            nic.blocked_outgoing_ports = vec![25];
        });
        net.guard.learn("vtc", "10.7.7.7".parse().unwrap(), Duration::from_secs(60)).unwrap();
        let all = || Ok((vec![Protection::of(&a.nic, "vta"), Protection::of(&c.nic, "vtc")], true));
        let busy = triton_files::Lock::take(&net.guard.lock, "start many instances", Duration::from_secs(1)).unwrap();
        assert_eq!(net.guard.compare(all).unwrap(), [""; 0], "nothing differs, and nobody is waited for");
        drop(busy);
        assert!(!net.passes(&a, &b, &ipv4(A, "10.0.0.6")));
        let counted = net.guard.drops().unwrap()["vta"];
        for (line, links) in [
            ("add element bridge triton_guard address4 { vta . 10.0.0.6 }", ["vta"]),
            ("add element bridge triton_guard network4 { vta . 10.9.0.0-10.9.255.255 }", ["vta"]),
            ("delete element bridge triton_guard network6 { vta . fd01::-fd01::ffff:ffff:ffff:ffff }", ["vta"]),
            ("delete element bridge triton_guard mac { vta . 02:08:20:00:00:0a }", ["vta"]),
            ("add element bridge triton_guard any_mac { vta }", ["vta"]),
            ("flush set bridge triton_guard blocked_port", ["vtc"]),
            ("delete element bridge triton_guard learned4 { vtc . 10.7.7.7 }", ["vtc"]),
            ("add element bridge triton_guard learned4 { vtc . 10.7.7.8 timeout 1h }", ["vtc"]),
            ("add element bridge triton_guard learned4 { vta . 10.7.7.8 timeout 1h }", ["vta"]),
            ("add element bridge triton_guard dhcp_server { up0 }", ["up0"]),
        ] {
            run_words(line);
            assert_eq!(net.guard.compare(all).unwrap(), links, "{line}");
            assert_eq!(net.guard.compare(all).unwrap(), [""; 0], "{line}");
        }
        assert!(net.passes(&a, &b, &ipv4(A, "10.1.0.5")) && net.passes(&c, &b, &ipv4(c.nic.mac, "10.7.7.7")));
        for from in ["10.0.0.6", "10.9.0.1", "10.7.7.8"] {
            assert!(!net.passes(&a, &b, &ipv4(A, from)), "{from}");
        }
        assert!(net.guard.drops().unwrap()["vta"].address.packets > counted.address.packets, "what was counted is kept");
        // Entries of a link that is gone may be about to be forgotten; where some NIC is not known, entries that seem to be nobody's stay.
        run_words("add element bridge triton_guard known { vtgone }");
        assert_eq!(net.guard.compare(all).unwrap(), [""; 0]);
        run_words("add element bridge triton_guard known { up0 }");
        assert_eq!(net.guard.compare(|| Ok((all()?.0, false))).unwrap(), [""; 0]);
        assert_eq!(net.guard.compare(all).unwrap(), ["up0"]);
        // What is not whole is repair's, and what is not known is not guessed.
        assert!(net.guard.compare(|| Err("the pool is not there".to_owned())).is_err());
        run("nft flush ruleset");
        assert_eq!(net.guard.compare(|| Err("not asked".to_owned())).unwrap(), [""; 0]);
    });
}

/// As `nft` reads it from a file: spaces within braces are one word.
fn run_words(line: &str) {
    let output = std::process::Command::new("nft").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
