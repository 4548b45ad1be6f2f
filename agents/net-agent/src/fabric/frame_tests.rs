use proptest::prelude::*;

use super::*;

const GUEST: Mac = Mac([0x90, 0xb8, 0xd0, 0, 0, 1]);
const OTHER: Mac = Mac([0x90, 0xb8, 0xd0, 0, 0, 2]);
const ALL: Mac = Mac([0xff; 6]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An ARP request byte by byte.
fn arp(vlan: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [ALL.0, GUEST.0].concat();
    if vlan != 0 {
        frame.extend([0x81, 0x00, (vlan >> 8) as u8 | 0xe0, vlan as u8]);
    }
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([&GUEST.0[..], &sender, &[0; 6], &target].concat());
    frame
}

fn ns(source: &str, target: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let mut frame = [&[0x33, 0x33, 0xff, 0, 0, 2], &GUEST.0[..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]].concat();
    frame.extend(address(source));
    frame.extend(address("ff02::1:ff00:2"));
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(address(target));
    frame
}

#[test]
fn requests_for_addresses_are_understood_with_their_vlan() {
    for vlan in [0, 20, 4094] {
        let asker = Asker { mac: GUEST, ip: Some(ip("10.0.0.1")), vlan };
        assert_eq!(question(&arp(vlan, [10, 0, 0, 1], [10, 0, 0, 2])), Some(Question::Whose { ip: ip("10.0.0.2"), asker }));
    }
    let probe = Asker { mac: GUEST, ip: None, vlan: 0 };
    assert_eq!(question(&arp(0, [0; 4], [10, 0, 0, 2])), Some(Question::Whose { ip: ip("10.0.0.2"), asker: probe }));
    let asker = Asker { mac: GUEST, ip: Some(ip("fd00::1")), vlan: 0 };
    assert_eq!(question(&ns("fd00::1", "fd00::2")), Some(Question::Whose { ip: ip("fd00::2"), asker }));
    assert_eq!(question(&ns("::", "fd00::2")), Some(Question::Whose { ip: ip("fd00::2"), asker: probe }));
}

#[test]
fn a_frame_for_one_address_asks_where_that_is_whatever_it_carries() {
    let mut frame = arp(20, [10, 0, 0, 1], [10, 0, 0, 2]);
    frame[..6].copy_from_slice(&OTHER.0);
    assert_eq!(question(&frame), Some(Question::Where { mac: OTHER, vlan: 20 }));
    assert_eq!(question(&[&OTHER.0[..], &GUEST.0, &[0x08, 0x00]].concat()), Some(Question::Where { mac: OTHER, vlan: 0 }));
}

#[test]
fn what_nobody_can_answer_is_left_alone() {
    for (sender, target) in
        [([10, 0, 0, 1], [10, 0, 0, 1]), ([10, 0, 0, 1], [0; 4]), ([10, 0, 0, 1], [255; 4]), ([10, 0, 0, 1], [224, 0, 0, 1])]
    {
        assert_eq!(question(&arp(0, sender, target)), None, "{target:?}");
    }
    let mut reply = arp(0, [10, 0, 0, 1], [10, 0, 0, 2]);
    reply[21] = 2;
    let mut hops = ns("fd00::1", "fd00::2");
    hops[21] = 254;
    let mut from_group = arp(0, [10, 0, 0, 1], [10, 0, 0, 2]);
    from_group[6] |= 1;
    let dhcp = [&ALL.0[..], &GUEST.0, &[0x08, 0x00], &[0; 300]].concat();
    for frame in [reply, hops, from_group, dhcp, ns("fd00::1", "ff02::1"), ns("ff02::1", "fd00::2"), ns("fd00::1", "::")] {
        assert_eq!(question(&frame), None, "{frame:?}");
    }
}

#[test]
fn the_answer_to_arp_says_whose_the_address_is() {
    let asker = Asker { mac: GUEST, ip: Some(ip("10.0.0.1")), vlan: 20 };
    let frame = answer(&asker, ip("10.0.0.2"), OTHER);
    let mut wanted = [GUEST.0, OTHER.0].concat();
    wanted.extend([0x81, 0, 0, 20, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    wanted.extend([&OTHER.0[..], &[10, 0, 0, 2], &GUEST.0, &[10, 0, 0, 1]].concat());
    assert_eq!(frame, wanted);
}

#[test]
fn the_answer_to_a_solicitation_has_a_right_checksum() {
    let asker = Asker { mac: GUEST, ip: Some(ip("fd00::1")), vlan: 0 };
    let frame = answer(&asker, ip("fd00::2"), OTHER);
    assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&GUEST.0[..], &OTHER.0[..], &IPV6[..]));
    assert_eq!((frame[54], frame[58], &frame[78..86]), (136, 0x60, &[2, 1, 0x90, 0xb8, 0xd0, 0, 0, 2][..]));
    // Computed by hand: the sum of all words, the checksum among them, has all bits set.
    let words = frame[22..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + 32 + 58;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    let all = answer(&Asker { ip: None, ..asker }, ip("fd00::2"), OTHER);
    assert_eq!((&all[..6], &all[38..54], all[58]), (&[0x33, 0x33, 0, 0, 0, 1][..], &ALL_NODES.octets()[..], 0x20));
}

/// net-agent case 66
#[test]
fn a_link_local_address_has_its_mac_address_within() {
    assert_eq!(embedded_mac(ip("fe80::92b8:d0ff:fe00:2")), Some(OTHER));
    for text in ["fe80::1", "fd00::92b8:d0ff:fe00:2", "10.0.0.1", "fe80:0:0:1:92b8:d0ff:fe00:2"] {
        assert_eq!(embedded_mac(ip(text)), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_question_or_not(bytes in any::<Vec<u8>>()) {
        let _ = question(&bytes);
    }

    #[test]
    fn a_frame_that_is_cut_short_is_no_other_question(length in 0usize..90) {
        for frame in [arp(20, [10, 0, 0, 1], [10, 0, 0, 2]), ns("fd00::1", "fd00::2")] {
            let cut = question(&frame[..length.min(frame.len())]);
            prop_assert!(cut.is_none() || cut == question(&frame));
        }
    }
}
