//! What is believed and what is not.

use triton_types::{Mac, Nic};

use super::*;
use crate::link_local;

const MAC: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0xa]);

fn protection(link: &str, change: impl FnOnce(&mut Nic)) -> Protection {
    let mut nic = Nic::new("net0", MAC, "external".parse().unwrap());
    nic.ips = vec!["dhcp".parse().unwrap(), "addrconf".parse().unwrap()];
    change(&mut nic);
    Protection::of(&nic, link)
}

struct Lab {
    snoop: Snoop,
    now: Instant,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Nic)) -> Self {
        let mut snoop = Snoop::default();
        snoop.watch(vec![protection("vta", change), protection("vtb", |_| {})]);
        Self { snoop, now: Instant::now() }
    }

    fn hear(&mut self, heard: Heard, packet: &[u8]) -> Vec<Lesson> {
        self.snoop.hear("vta", heard, packet, self.now)
    }
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn ipv4(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    [&[0x45, 0][..], &length.to_be_bytes(), &[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 5], payload].concat()
}

/// A message of DHCP: operation, kind, transaction, the addresses `ciaddr` and `yiaddr`, further options.
fn dhcp(ports: (u16, u16), kinds: (u8, u8), transaction: u8, addresses: [[u8; 4]; 2], options: &[u8]) -> Vec<u8> {
    let message = [
        &[kinds.0, 1, 6, 0, 9, 9, 9, transaction, 0, 0, 0, 0][..],
        &addresses[0],
        &addresses[1],
        &[0; 8],
        &MAC.0,
        &[0; 10],
        &[0; 192],
        &[99, 130, 83, 99, 53, 1, kinds.1],
        options,
        &[255],
    ]
    .concat();
    ipv4(&udp(ports.0, ports.1, &message))
}

fn request(transaction: u8, options: &[u8]) -> Vec<u8> {
    dhcp((68, 67), (1, 3), transaction, [[0; 4]; 2], options)
}

fn ack(transaction: u8, address: [u8; 4], seconds: u32) -> Vec<u8> {
    dhcp((67, 68), (2, 5), transaction, [[0; 4], address], &[&[51, 4][..], &seconds.to_be_bytes()].concat())
}

fn learned(address: &str, seconds: u64) -> Vec<Lesson> {
    vec![Lesson::Learn(address.parse().unwrap(), Duration::from_secs(seconds))]
}

/// net-agent section 15: `dhcp`
#[test]
fn an_acknowledgement_of_an_own_question_within_a_minute_teaches_an_address() {
    let mut lab = Lab::new(|_| {});
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)), [], "nobody asked");
    assert_eq!(lab.hear(Heard::Asked, &request(1, &[])), []);
    assert_eq!(lab.snoop.hear("vtb", Heard::Told, &ack(1, [10, 7, 0, 9], 600), lab.now), [], "another asked");
    assert_eq!(lab.hear(Heard::Told, &ack(2, [10, 7, 0, 9], 600)), [], "another question");
    assert_eq!(lab.hear(Heard::Asked, &ack(1, [10, 7, 0, 9], 600)), [], "said by the guest itself");
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)), learned("10.7.0.9", 600));
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], u32::MAX)), learned("10.7.0.9", LONGEST.as_secs()));
    for address in [[0; 4], [255; 4], [127, 0, 0, 1], [224, 0, 0, 1], [0, 1, 2, 3]] {
        assert_eq!(lab.hear(Heard::Told, &ack(1, address, 600)), [], "{address:?}");
    }
    lab.now += PATIENCE;
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)), [], "too late");
    // Who gives it back has it no longer.
    let release = dhcp((68, 67), (1, 7), 3, [[10, 7, 0, 9], [0; 4]], &[]);
    assert_eq!(lab.hear(Heard::Asked, &release), [Lesson::Unlearn("10.7.0.9".parse().unwrap())]);
    let decline = dhcp((68, 67), (1, 4), 3, [[0; 4]; 2], &[50, 4, 10, 7, 0, 9]);
    assert_eq!(lab.hear(Heard::Asked, &decline), [Lesson::Unlearn("10.7.0.9".parse().unwrap())]);
}

/// Ruling 23
#[test]
fn identifiers_of_clients_are_judged_only_if_some_are_listed() {
    let other = [61, 3, 9, 9, 9];
    let own = [&[61, 7, 1][..], &MAC.0].concat();
    for (list, id, allowed) in [
        (vec![], &other[..], true),
        (vec!["0xaabb"], &other, false),
        (vec!["0x090909"], &other, true),
        (vec!["0xaabb"], &own, true),
        (vec!["0xaabb"], &[], true),
    ] {
        let mut lab = Lab::new(|nic| nic.allowed_dhcp_cids = list.iter().map(|id| (*id).to_owned()).collect());
        lab.hear(Heard::Asked, &request(1, id));
        assert_eq!(!lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)).is_empty(), allowed, "{list:?} {id:?}");
    }
}

#[test]
fn questions_are_bounded_and_the_oldest_go_first() {
    let mut lab = Lab::new(|_| {});
    for transaction in 0..=16 {
        lab.hear(Heard::Asked, &request(transaction, &[]));
    }
    assert_eq!(lab.hear(Heard::Told, &ack(0, [10, 7, 0, 9], 600)), []);
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)).len(), 1);
    let mut snoop = Snoop::default();
    let links: Vec<String> = (0..100).map(|n| format!("vt{n}")).collect();
    snoop.watch(links.iter().map(|link| protection(link, |_| {})).collect());
    for link in &links {
        for transaction in 0..16 {
            snoop.hear(link, Heard::Asked, &request(transaction, &[]), lab.now);
        }
    }
    assert_eq!(snoop.questions.len(), QUESTIONS);
    snoop.watch(Vec::new());
    assert!(snoop.questions.is_empty());
}

fn ipv6(next: u8, source: &str, payload: &[u8]) -> Vec<u8> {
    let (source, to): (std::net::Ipv6Addr, std::net::Ipv6Addr) = (source.parse().unwrap(), "ff02::1".parse().unwrap());
    let length = u16::try_from(payload.len()).unwrap();
    [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[next, 255], &source.octets(), &to.octets(), payload].concat()
}

fn prefix(prefix: &str, bits: u8, flags: u8, valid: u32) -> Vec<u8> {
    let prefix: std::net::Ipv6Addr = prefix.parse().unwrap();
    [&[3, 4, bits, flags][..], &valid.to_be_bytes(), &[0; 8], &prefix.octets()].concat()
}

fn advertisement(options: &[u8]) -> Vec<u8> {
    [&[134, 0][..], &[0; 14], options].concat()
}

/// net-agent section 15: `addrconf`
#[test]
fn prefixes_of_routers_make_the_address_of_the_mac_and_nothing_else() {
    let mut lab = Lab::new(|_| {});
    let mtu = [5, 1, 0, 0, 0, 0, 5, 220];
    let options = [
        &mtu[..],
        &prefix("fd07::", 64, 0xc0, 600),
        &prefix("fd08::", 64, 0x80, 600),
        &prefix("fd09::", 48, 0xc0, 600),
        &prefix("fe80::", 64, 0xc0, 600),
    ]
    .concat();
    let packet = ipv6(58, "fe80::1", &advertisement(&options));
    assert_eq!(lab.hear(Heard::Told, &packet), learned("fd07::8:20ff:fe00:a", 600));
    assert_eq!(link_local(MAC).to_string(), "fe80::8:20ff:fe00:a");
    assert_eq!(
        lab.hear(Heard::Told, &ipv6(58, "fe80::1", &advertisement(&prefix("fd07::", 64, 0xc0, 0)))),
        [Lesson::Unlearn("fd07::8:20ff:fe00:a".parse().unwrap())]
    );
    // Not from a router on the link, not to the guest, not whole.
    assert_eq!(lab.hear(Heard::Told, &ipv6(58, "fd00::1", &advertisement(&prefix("fd07::", 64, 0xc0, 600)))), []);
    assert_eq!(lab.hear(Heard::Asked, &packet), []);
    let mut far = packet.clone();
    far[7] = 64;
    assert_eq!(lab.hear(Heard::Told, &far), []);
    let mut endless = prefix("fd07::", 64, 0xc0, 600);
    endless[1] = 0;
    assert_eq!(lab.hear(Heard::Told, &ipv6(58, "fe80::1", &advertisement(&endless))), []);
}

fn dhcp6(ports: (u16, u16), kind: u8, options: &[u8]) -> Vec<u8> {
    ipv6(17, "fe80::1", &udp(ports.0, ports.1, &[&[kind, 7, 7, 7][..], options].concat()))
}

fn association(address: &str, valid: u32) -> Vec<u8> {
    let address: std::net::Ipv6Addr = address.parse().unwrap();
    let inner = [&[0, 5, 0, 24][..], &address.octets(), &[0; 4], &valid.to_be_bytes()].concat();
    [&[0, 3, 0, 40][..], &[0; 12], &inner].concat()
}

/// net-agent section 15: `addrconf`
#[test]
fn a_reply_of_dhcpv6_to_an_own_question_teaches_its_addresses() {
    let mut lab = Lab::new(|_| {});
    let reply = dhcp6((547, 546), 7, &[association("fd07::9", 600), association("ff02::9", 600)].concat());
    assert_eq!(lab.hear(Heard::Told, &reply), []);
    lab.hear(Heard::Asked, &dhcp6((546, 547), 3, &[]));
    assert_eq!(lab.hear(Heard::Told, &reply), learned("fd07::9", 600));
    assert_eq!(lab.hear(Heard::Told, &dhcp6((547, 546), 7, &association("fd07::9", 0))), [Lesson::Unlearn("fd07::9".parse().unwrap())]);
    assert_eq!(lab.hear(Heard::Told, &dhcp6((547, 546), 2, &association("fd07::9", 600))), [], "an offer is no gift");
    assert_eq!(lab.hear(Heard::Asked, &dhcp6((546, 547), 8, &association("fd07::9", 600))), [Lesson::Unlearn("fd07::9".parse().unwrap())]);
    let named = [&[0, 1, 0, 10, 0, 3, 0, 1][..], &[2, 2, 2, 2, 2, 2]].concat();
    for (list, id, allowed) in [("0xaabb", &named[..], false), ("0x00030001020202020202", &named, true)] {
        let mut lab = Lab::new(|nic| nic.allowed_dhcp_cids = vec![list.to_owned()]);
        lab.hear(Heard::Asked, &dhcp6((546, 547), 1, id));
        assert_eq!(!lab.hear(Heard::Told, &reply).is_empty(), allowed);
    }
}

#[test]
fn what_is_cut_or_changed_anywhere_teaches_at_most_less() {
    let ask = request(1, &[]);
    let packets = [
        ack(1, [10, 7, 0, 9], 600),
        ipv6(58, "fe80::1", &advertisement(&prefix("fd07::", 64, 0xc0, 600))),
        dhcp6((547, 546), 7, &association("fd07::9", 600)),
    ];
    for packet in packets {
        for cut in 0..packet.len() {
            let mut lab = Lab::new(|_| {});
            lab.hear(Heard::Asked, &ask);
            lab.hear(Heard::Asked, &dhcp6((546, 547), 3, &[]));
            assert!(lab.hear(Heard::Told, &packet[..cut]).len() <= 1);
            let mut changed = packet.clone();
            changed[cut] = 0xff;
            assert!(lab.hear(Heard::Told, &changed).len() <= 1);
            assert!(lab.hear(Heard::Asked, &changed).is_empty());
        }
    }
    // Fragments carry no messages.
    let mut fragment = ack(1, [10, 7, 0, 9], 600);
    fragment[6] = 0x20;
    let mut lab = Lab::new(|_| {});
    lab.hear(Heard::Asked, &ask);
    assert_eq!(lab.hear(Heard::Told, &fragment), []);
    // A NIC with fixed addresses is not listened to.
    lab.snoop.watch(vec![protection("vta", |nic| nic.ips.clear())]);
    assert!(!lab.snoop.knows("vta"));
    assert_eq!(lab.hear(Heard::Told, &ack(1, [10, 7, 0, 9], 600)), []);
}
