//! Cases P1 to P5 and P9 to P11: limits, versions and words of the text.

use super::{older, text};
use crate::{Limits, Spec};

fn message(input: &str) -> String {
    text(input).unwrap_err().message
}

fn side(count: usize, target: &str) -> String {
    format!("FROM ({}) TO all vms ALLOW tcp PORT 22", vec![target; count].join(" OR "))
}

fn entries(count: usize, protocol: &str, word: &str) -> String {
    let entries: Vec<_> = (1..=count).map(|number| format!("{word} {number}")).collect();
    format!("FROM any TO all vms ALLOW {protocol} ({})", entries.join(" AND "))
}

#[test]
fn firewaller_case_p1_an_empty_text_is_no_rule() {
    let error = text("").unwrap_err();
    assert_eq!((error.field, error.message.as_str()), ("rule", "No rule specified"));
    assert_eq!(message(" "), "Error at character 0: '', expected: 'FROM', found: EOF");
}

#[test]
fn firewaller_case_p2_host_bits_of_a_subnet_are_refused_only_on_demand() {
    let strict = Limits { subnet_mask: true, ..Limits::default() };
    for subnet in ["10.0.0.1/24", "fd00::1/8", "10.0.0.1/0"] {
        let rule = format!("FROM subnet {subnet} TO all vms ALLOW tcp PORT 22");
        let error = Spec::parse(&rule, &strict).unwrap_err();
        assert_eq!(error.message, format!("Subnet \"{subnet}\" is invalid (bits set to right of mask)"));
        assert_eq!(text(&rule).unwrap().to_string(), rule);
    }
    assert!(Spec::parse("FROM subnet 10.0.0.0/24 TO all vms ALLOW tcp PORT 22", &strict).is_ok());
}

#[test]
fn firewaller_case_p3_a_side_has_at_most_24_targets_as_written() {
    assert_eq!(text(&side(24, "ip 10.0.0.1")).unwrap().to_string(), "FROM ip 10.0.0.1 TO all vms ALLOW tcp PORT 22");
    assert_eq!(message(&side(25, "ip 10.0.0.1")), "maximum of 24 targets allowed per side");
    assert_eq!(message(&side(25, "tag a")), "maximum of 24 targets allowed per side");
}

#[test]
fn firewaller_case_p4_a_rule_has_at_most_24_ports_or_types_and_8_before_version_4() {
    assert!(text(&entries(24, "tcp", "PORT")).is_ok());
    assert_eq!(message(&entries(25, "tcp", "PORT")), "maximum of 24 ports allowed");
    assert_eq!(message(&entries(25, "icmp", "TYPE")), "maximum of 24 types allowed");
    assert!(older(&entries(8, "tcp", "PORT"), 3).is_ok());
    assert_eq!(older(&entries(9, "tcp", "PORT"), 3).unwrap_err().message, "maximum of 8 ports allowed");
    assert_eq!(older(&entries(9, "icmp", "TYPE"), 3).unwrap_err().message, "maximum of 8 types allowed");
}

#[test]
fn firewaller_case_p5_an_older_language_names_the_feature_it_lacks() {
    let v6 = "fd00::1";
    for (version, rule, feature) in [
        (1, "FROM any TO all vms ALLOW tcp PORTS 20-30".to_owned(), "port ranges"),
        (2, format!("FROM ip {v6} TO all vms ALLOW tcp PORT 1"), "IPv6"),
        (2, format!("FROM subnet {v6}/64 TO all vms ALLOW tcp PORT 1"), "IPv6"),
        (2, "FROM any TO all vms ALLOW icmp6 TYPE 128".to_owned(), "IPv6"),
        (2, "FROM any TO all vms ALLOW icmp TYPE ALL".to_owned(), "all ICMP types"),
        (3, "FROM any TO all vms ALLOW tcp PORT 1 PRIORITY 1".to_owned(), "priority levels"),
        (3, "FROM any TO all vms ALLOW ah".to_owned(), "AH"),
        (3, "FROM any TO all vms ALLOW esp".to_owned(), "ESP"),
    ] {
        let error = older(&rule, version).unwrap_err();
        assert_eq!(error.message, format!("The rule uses a feature ({feature}) newer than this API allows"), "{rule}");
        assert!(older(&rule, version + 1).is_ok(), "{rule}");
    }
}

#[test]
fn firewaller_case_p9_every_keyword_in_quotes_is_a_name_and_so_is_every_text() {
    let keywords = [
        "FROM", "TO", "IP", "SUBNET", "ANY", "ALL", "TAG", "VM", "VMS", "OR", "AND", "BLOCK", "ALLOW", "PORT", "PORTS", "TCP", "UDP",
        "ICMP", "ICMP6", "AH", "ESP", "TYPE", "CODE", "PRIORITY",
    ];
    for keyword in keywords {
        for word in [keyword.to_owned(), keyword.to_lowercase(), format!("{}{}", &keyword[..1], keyword[1..].to_lowercase())] {
            let rule = format!("FROM tag \"{word}\" = \"{word}\" TO all vms ALLOW tcp PORT 22");
            assert_eq!(text(&rule).unwrap().to_string(), rule);
        }
        assert!(text(&format!("FROM tag {keyword} TO all vms ALLOW ah")).is_err(), "{keyword}");
    }
    for word in ["0", "00000", "_", "foo_bar-baz"] {
        let read = text(&format!("FROM tag {word} TO all vms ALLOW tcp PORT 22")).unwrap();
        assert_eq!(read.to_string(), format!("FROM tag \"{word}\" TO all vms ALLOW tcp PORT 22"));
    }
    for word in ["1.2.3.4", "fd00::a:b", "!", "=", "hasOwnProperty", "__proto__"] {
        let rule = format!("FROM tag \"{word}\" TO all vms ALLOW tcp PORT 22");
        assert_eq!(text(&rule).unwrap().to_string(), rule);
    }
}

#[test]
fn firewaller_case_p10_names_are_printed_so_that_they_can_be_seen() {
    for (inputs, printed) in [
        (["\t", r"\t", r"\u0009"], r"\t"),
        (["/", r"\/", "/"], "/"),
        (["(", r"\(", r"\u0028"], r"\("),
        (["\u{a0}", r"\u00a0", r"\u00A0"], r"\u00A0"),
        (["☃", r"\u2603", "☃"], "☃"),
        (["\u{1f600}", r"\uD83D\uDE00", r"\ud83d\ude00"], "\u{1f600}"),
        (["\0", r"\u0000", "\0"], r"\u0000"),
        (["\u{feff}", r"\ufeff", r"\uFEFF"], r"\uFEFF"),
    ] {
        for input in inputs {
            let read = text(&format!("FROM tag \"{input}\" TO all vms ALLOW ah")).unwrap();
            assert_eq!(read.to_string(), format!("FROM tag \"{printed}\" TO all vms ALLOW ah"));
        }
    }
    assert!(message(r#"FROM tag "\uD83D" TO all vms ALLOW ah"#).contains("surrogate"), "no text of ours can hold half a character");
}

#[test]
fn firewaller_case_p11_a_range_is_the_same_with_and_without_spaces() {
    let spaced = text("FROM any TO all vms ALLOW tcp PORTS 20 - 40").unwrap();
    assert_eq!(text("FROM any TO all vms ALLOW tcp PORTS 20-40").unwrap(), spaced);
    assert_eq!(text("FROM any TO all vms ALLOW tcp PORTS 20 -40 PRIORITY 0").unwrap(), spaced);
}

#[test]
fn a_subnet_whose_address_some_read_as_octal_is_refused() {
    assert_eq!(
        message("FROM subnet 010.0.0.0/8 TO all vms ALLOW tcp PORT 22"),
        "Subnet \"010.0.0.0/8\" is invalid (bad address component)"
    );
    let padded = "FROM subnet fd00::00001/64 TO all vms ALLOW tcp PORT 22";
    assert_eq!(text(padded).unwrap().to_string(), padded, "zeros of IPv6 mean nothing");
}
