//! Table S: what sets of rules decide, in the world of firewaller.md section 15.2.

use super::world::probe;

/// Default policy.
#[test]
fn firewaller_case_s1() {
    let rules = [];
    probe(&rules, "A in 10.8.0.1 tcp/22", "block");
    probe(&rules, "A out 10.8.0.1 tcp/22", "allow");
    probe(&rules, "A out 10.8.0.1 udp/53", "allow");
    probe(&rules, "A in 10.8.0.1 icmp/8:0", "block");
    probe(&rules, "B in fd00:8::1 icmp6/128:0", "block");
}

/// Firewaller case S2.
#[test]
fn firewaller_case_s2() {
    let rules = [("O1", "FROM any TO vm A ALLOW tcp PORT 80")];
    probe(&rules, "A in 10.8.0.1 tcp/80", "allow");
    probe(&rules, "A in 10.8.0.1 tcp/81", "block");
    probe(&rules, "A in 10.8.0.1 udp/80", "block");
    probe(&rules, "B in 10.8.0.1 tcp/80", "block");
}

/// Any covers IPv6; other owner unaffected.
#[test]
fn firewaller_case_s3() {
    let rules = [("O1", "FROM any TO all vms ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
    probe(&rules, "B in fd00:8::1 tcp/22", "allow");
    probe(&rules, "C in 10.8.0.1 tcp/22", "block");
}

/// Global rule, all owners.
#[test]
fn firewaller_case_s4() {
    let rules = [("G", "FROM any TO all vms ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
    probe(&rules, "C in 10.8.0.1 tcp/22", "allow");
}

/// Disabled rule.
#[test]
fn firewaller_case_s5() {
    let rules = [("O1 disabled", "FROM any TO all vms ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "block");
}

/// Stopped VM E still gets rules.
#[test]
fn firewaller_case_s6() {
    let rules = [("O1", "FROM ip 10.8.0.1 TO all vms ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
    probe(&rules, "A in 10.8.0.2 tcp/22", "block");
    probe(&rules, "E in 10.8.0.1 tcp/22", "allow");
}

/// Ranges inclusive.
#[test]
fn firewaller_case_s7() {
    let rules = [("O1", "FROM subnet 10.8.0.0/16 TO tag role = www ALLOW tcp PORTS 8000 - 8100, 443")];
    probe(&rules, "A in 10.8.3.4 tcp/8000", "allow");
    probe(&rules, "A in 10.8.3.4 tcp/8100", "allow");
    probe(&rules, "A in 10.8.3.4 tcp/8101", "block");
    probe(&rules, "A in 10.8.3.4 tcp/443", "allow");
    probe(&rules, "A in 10.9.3.4 tcp/443", "block");
    probe(&rules, "B in 10.8.3.4 tcp/443", "block");
}

/// Firewaller case S8.
#[test]
fn firewaller_case_s8() {
    let rules = [("O1", "FROM subnet fd00:8::/32 TO all vms ALLOW tcp PORT 22")];
    probe(&rules, "B in fd00:8::5 tcp/22", "allow");
    probe(&rules, "B in 10.8.0.1 tcp/22", "block");
}

/// Peers: local, fw-disabled local, own RVM, owner-less RVM; not other owner.
#[test]
fn firewaller_case_s9() {
    let rules = [("O1", "FROM tag role = db TO tag role = www ALLOW tcp PORT 5432")];
    probe(&rules, "A in 10.0.0.2 tcp/5432", "allow");
    probe(&rules, "A in 10.0.0.4 tcp/5432", "allow");
    probe(&rules, "A in 10.9.0.1 tcp/5432", "allow");
    probe(&rules, "A in 10.9.0.2 tcp/5432", "block");
    probe(&rules, "A in 10.9.0.3 tcp/5432", "allow");
    probe(&rules, "A in 10.0.0.5 tcp/5432", "block");
    probe(&rules, "C in 10.0.0.2 tcp/5432", "block");
    probe(&rules, "B out 10.0.0.1 tcp/5432", "allow");
}

/// Global tag rule crosses owners among stored peers.
#[test]
fn firewaller_case_s10() {
    let rules = [("G", "FROM tag role = db TO tag role = www ALLOW tcp PORT 5432")];
    probe(&rules, "A in 10.9.0.2 tcp/5432", "allow");
    probe(&rules, "C in 10.0.0.2 tcp/5432", "allow");
    probe(&rules, "C in 10.9.0.2 tcp/5432", "allow");
}

/// Numeric tag value.
#[test]
fn firewaller_case_s11() {
    let rules = [("O1", "FROM tag n = 1 TO vm A ALLOW tcp PORT 9")];
    probe(&rules, "A in 10.0.0.2 tcp/9", "allow");
}

/// Boolean tag value.
#[test]
fn firewaller_case_s12() {
    let rules = [("O1", "FROM tag flag = true TO vm A ALLOW tcp PORT 9")];
    probe(&rules, "A in 10.0.0.2 tcp/9", "allow");
    probe(&rules, "A in 10.0.0.4 tcp/9", "block");
}

/// 1 is not "true".
#[test]
fn firewaller_case_s13() {
    let rules = [("O1", "FROM tag n = true TO vm A ALLOW tcp PORT 9")];
    probe(&rules, "A in 10.0.0.2 tcp/9", "block");
}

/// Tag keys case-sensitive.
#[test]
fn firewaller_case_s14() {
    let rules = [("O1", "FROM tag ROLE TO vm A ALLOW tcp PORT 9")];
    probe(&rules, "A in 10.0.0.2 tcp/9", "block");
}

/// Bare tag = any value; VM is its own peer.
#[test]
fn firewaller_case_s15() {
    let rules = [("O1", "FROM tag role TO vm A ALLOW tcp PORT 9")];
    probe(&rules, "A in 10.0.0.2 tcp/9", "allow");
    probe(&rules, "A in 10.0.0.1 tcp/9", "allow");
    probe(&rules, "A in 10.0.0.3 tcp/9", "block");
}

/// Bare key absorbs key=value.
#[test]
fn firewaller_case_s16() {
    let rules = [("O1", "FROM (tag role = db OR tag role) TO vm B ALLOW tcp PORT 9")];
    probe(&rules, "B in 10.0.0.1 tcp/9", "allow");
}

/// Firewaller case S17.
#[test]
fn firewaller_case_s17() {
    let rules = [("O1", "FROM all vms TO vm A ALLOW tcp PORT all")];
    probe(&rules, "A in 10.0.0.2 tcp/1", "allow");
    probe(&rules, "A in 10.0.0.5 tcp/65535", "allow");
    probe(&rules, "A in 10.9.0.1 tcp/7", "allow");
    probe(&rules, "A in 10.0.0.3 tcp/7", "block");
    probe(&rules, "A in 10.9.0.2 tcp/7", "block");
    probe(&rules, "A in 10.8.0.1 tcp/7", "block");
}

/// Firewaller case S18.
#[test]
fn firewaller_case_s18() {
    let rules = [("O1", "FROM all vms TO all vms ALLOW icmp TYPE 8 CODE 0")];
    probe(&rules, "A in 10.0.0.2 icmp/8:0", "allow");
    probe(&rules, "A in 10.0.0.2 icmp/8:1", "block");
    probe(&rules, "A in 10.0.0.2 icmp/0:0", "block");
}

/// Icmp never IPv6.
#[test]
fn firewaller_case_s19() {
    let rules = [("O1", "FROM any TO all vms ALLOW icmp TYPE 8")];
    probe(&rules, "A in 10.8.0.1 icmp/8:0", "allow");
    probe(&rules, "A in 10.8.0.1 icmp/8:7", "allow");
    probe(&rules, "B in fd00:8::1 icmp6/8:0", "block");
}

/// Firewaller case S20.
#[test]
fn firewaller_case_s20() {
    let rules = [("G", "FROM any TO all vms ALLOW icmp6 TYPE all")];
    probe(&rules, "B in fd00:8::1 icmp6/135:0", "allow");
    probe(&rules, "B in fd00:8::1 icmp6/128:0", "allow");
    probe(&rules, "B in 10.8.0.1 icmp/8:0", "block");
}

/// Firewaller case S21.
#[test]
fn firewaller_case_s21() {
    let rules = [("O1", "FROM any TO all vms ALLOW icmp (TYPE 8 AND TYPE 11 CODE 1)")];
    probe(&rules, "A in 10.8.0.1 icmp/8:3", "allow");
    probe(&rules, "A in 10.8.0.1 icmp/11:1", "allow");
    probe(&rules, "A in 10.8.0.1 icmp/11:0", "block");
}

/// Firewaller case S22.
#[test]
fn firewaller_case_s22() {
    let rules = [("O1", "FROM vm B TO vm A ALLOW icmp6 TYPE 128")];
    probe(&rules, "B in fd00:8::1 icmp6/128:0", "block");
}

/// RVM, both families.
#[test]
fn firewaller_case_s23() {
    let rules = [("O1", "FROM vm R1 TO vm B ALLOW tcp PORT 22")];
    probe(&rules, "B in 10.9.0.1 tcp/22", "allow");
    probe(&rules, "B in fd00:9::1 tcp/22", "allow");
    probe(&rules, "B in 10.9.0.2 tcp/22", "block");
}

/// Peer of another owner ignored.
#[test]
fn firewaller_case_s24() {
    let rules = [("O2", "FROM vm R1 TO vm C ALLOW tcp PORT 22")];
    probe(&rules, "C in 10.9.0.1 tcp/22", "block");
}

/// Rule of O2 cannot open VM of O1.
#[test]
fn firewaller_case_s25() {
    let rules = [("O2", "FROM any TO vm A ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "block");
}

/// Firewaller case S26.
#[test]
fn firewaller_case_s26() {
    let rules = [("O1", "FROM vm A TO any BLOCK tcp PORT 25")];
    probe(&rules, "A out 10.8.0.1 tcp/25", "block");
    probe(&rules, "A out 10.8.0.1 tcp/26", "allow");
    probe(&rules, "A out 10.8.0.1 udp/25", "allow");
    probe(&rules, "B out 10.8.0.1 tcp/25", "allow");
}

/// Firewaller case S27.
#[test]
fn firewaller_case_s27() {
    let rules = [("O1", "FROM all vms TO ip 10.8.0.9 BLOCK udp PORT 53")];
    probe(&rules, "A out 10.8.0.9 udp/53", "block");
    probe(&rules, "A out 10.8.0.8 udp/53", "allow");
    probe(&rules, "C out 10.8.0.9 udp/53", "allow");
}

/// Firewaller case S28.
#[test]
fn firewaller_case_s28() {
    let rules = [("O1", "FROM vm A TO subnet 10.8.0.0/16 BLOCK tcp PORT all")];
    probe(&rules, "A out 10.8.1.1 tcp/1", "block");
    probe(&rules, "A out 10.7.1.1 tcp/1", "allow");
}

/// Outbound block to tag peers.
#[test]
fn firewaller_case_s29() {
    let rules = [("O1", "FROM tag role TO tag role = db BLOCK tcp PORT 5432")];
    probe(&rules, "A out 10.0.0.2 tcp/5432", "block");
    probe(&rules, "A out 10.9.0.1 tcp/5432", "block");
    probe(&rules, "A out 10.9.0.2 tcp/5432", "allow");
    probe(&rules, "A out 10.0.0.5 tcp/5432", "allow");
}

/// Outbound ALLOW is a no-op.
#[test]
fn firewaller_case_s30() {
    let rules = [("O1", "FROM vm A TO any ALLOW tcp PORT 25")];
    probe(&rules, "A out 10.8.0.1 tcp/25", "allow");
    probe(&rules, "A out 10.8.0.1 tcp/26", "allow");
}

/// Inbound BLOCK is a no-op.
#[test]
fn firewaller_case_s31() {
    let rules = [("O1", "FROM any TO vm A BLOCK tcp PORT 80")];
    probe(&rules, "A in 10.8.0.1 tcp/80", "block");
    probe(&rules, "A in 10.8.0.1 tcp/81", "block");
}

/// Inbound: ALLOW beats BLOCK.
#[test]
fn firewaller_case_s32() {
    let rules = [("O1", "FROM any TO vm A BLOCK tcp PORT 80"), ("O1", "FROM any TO vm A ALLOW tcp PORT 80")];
    probe(&rules, "A in 10.8.0.1 tcp/80", "allow");
}

/// Outbound: BLOCK beats ALLOW.
#[test]
fn firewaller_case_s33() {
    let rules = [("O1", "FROM vm A TO any ALLOW tcp PORT 80"), ("O1", "FROM vm A TO any BLOCK tcp PORT 80")];
    probe(&rules, "A out 10.8.0.1 tcp/80", "block");
}

/// Specificity is irrelevant.
#[test]
fn firewaller_case_s34() {
    let rules = [("O1", "FROM ip 10.8.0.1 TO vm A BLOCK tcp PORT 22"), ("O1", "FROM subnet 10.8.0.0/16 TO vm A ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
}

/// Priority beats action.
#[test]
fn firewaller_case_s35() {
    let rules = [("O1", "FROM any TO vm A BLOCK tcp PORT 22 PRIORITY 1"), ("O1", "FROM any TO vm A ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "block");
    probe(&rules, "A in 10.8.0.1 tcp/23", "block");
}

/// Equal priority inbound: ALLOW.
#[test]
fn firewaller_case_s36() {
    let rules = [("O1", "FROM any TO vm A BLOCK tcp PORT 22 PRIORITY 5"), ("O1", "FROM ip 10.8.0.1 TO vm A ALLOW tcp PORT 22 PRIORITY 5")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
    probe(&rules, "A in 10.8.0.2 tcp/22", "block");
}

/// Layered inbound.
#[test]
fn firewaller_case_s37() {
    let rules = [
        ("O1", "FROM ip 10.99.0.254 TO vm A BLOCK tcp PORT 22 PRIORITY 2"),
        ("O1", "FROM subnet 10.99.0.0/24 TO vm A BLOCK tcp PORT all PRIORITY 1"),
        ("O1", "FROM ip 10.99.0.254 TO vm A ALLOW tcp PORTS 15 - 30 PRIORITY 1"),
        ("O1", "FROM any TO vm A ALLOW tcp PORT all"),
    ];
    probe(&rules, "A in 10.99.0.254 tcp/22", "block");
    probe(&rules, "A in 10.99.0.254 tcp/23", "allow");
    probe(&rules, "A in 10.99.0.254 tcp/80", "block");
    probe(&rules, "A in 10.99.0.1 tcp/80", "block");
    probe(&rules, "A in 10.98.0.1 tcp/80", "allow");
}

/// Layered outbound.
#[test]
fn firewaller_case_s38() {
    let rules = [
        ("O1", "FROM vm A TO ip 10.99.0.254 ALLOW udp PORT 22 PRIORITY 15"),
        ("O1", "FROM vm A TO subnet 10.99.0.0/24 ALLOW udp PORT all PRIORITY 2"),
        ("O1", "FROM vm A TO ip 10.99.0.254 BLOCK udp PORTS 15 - 30 PRIORITY 2"),
        ("O1", "FROM vm A TO any BLOCK udp PORT all"),
    ];
    probe(&rules, "A out 10.99.0.254 udp/22", "allow");
    probe(&rules, "A out 10.99.0.254 udp/23", "block");
    probe(&rules, "A out 10.99.0.254 udp/53", "allow");
    probe(&rules, "A out 10.99.0.7 udp/1", "allow");
    probe(&rules, "A out 10.98.0.1 udp/1", "block");
    probe(&rules, "A out 10.98.0.1 tcp/1", "allow");
}

/// Priorities compare numerically.
#[test]
fn firewaller_case_s39() {
    let rules = [
        ("O1", "FROM any TO vm A ALLOW tcp PORT 80 PRIORITY 2"),
        ("O1", "FROM any TO vm A BLOCK tcp PORT 80 PRIORITY 10"),
        ("O1", "FROM ip 10.8.0.1 TO vm A ALLOW tcp PORT 80 PRIORITY 100"),
    ];
    probe(&rules, "A in 10.8.0.1 tcp/80", "allow");
    probe(&rules, "A in 10.8.0.2 tcp/80", "block");
}

/// Firewaller case S40.
#[test]
fn firewaller_case_s40() {
    let rules = [("O1", "FROM vm A TO vm B ALLOW tcp PORT 22")];
    probe(&rules, "B in 10.0.0.1 tcp/22", "allow");
    probe(&rules, "B in 10.0.0.5 tcp/22", "block");
    probe(&rules, "A in 10.0.0.2 tcp/22", "block");
    probe(&rules, "A out 10.0.0.2 tcp/22", "allow");
}

/// Sender blocked although receiver accepts.
#[test]
fn firewaller_case_s41() {
    let rules = [("O1", "FROM vm A TO vm B BLOCK tcp PORT 22"), ("O1", "FROM any TO vm B ALLOW tcp PORT 22")];
    probe(&rules, "A out 10.0.0.2 tcp/22", "block");
    probe(&rules, "B in 10.0.0.1 tcp/22", "allow");
    probe(&rules, "B in 10.8.0.1 tcp/22", "allow");
}

/// Ip on FROM is not a subject.
#[test]
fn firewaller_case_s42() {
    let rules = [("O1", "FROM (vm A OR ip 8.8.8.8) TO (vm B OR subnet 10.5.0.0/16) BLOCK udp PORT 53")];
    probe(&rules, "A out 10.0.0.2 udp/53", "block");
    probe(&rules, "A out 10.5.1.1 udp/53", "block");
    probe(&rules, "A out 8.8.8.8 udp/53", "allow");
    probe(&rules, "B out 10.0.0.1 udp/53", "allow");
}

/// Firewaller case S43.
#[test]
fn firewaller_case_s43() {
    let rules = [("O1", "FROM any TO vm A ALLOW ah"), ("O1", "FROM any TO vm A ALLOW esp")];
    probe(&rules, "A in 10.8.0.1 ah", "allow");
    probe(&rules, "A in 10.8.0.1 esp", "allow");
    probe(&rules, "A in 10.8.0.1 tcp/51", "block");
}

/// Firewaller case S44.
#[test]
fn firewaller_case_s44() {
    let rules = [("O1", "FROM vm A TO any BLOCK esp")];
    probe(&rules, "A out 10.8.0.1 esp", "block");
    probe(&rules, "A out 10.8.0.1 tcp/50", "allow");
}

/// Firewall disabled: unfiltered.
#[test]
fn firewaller_case_s45() {
    let rules = [("O1", "FROM any TO vm D ALLOW tcp PORT 22")];
    probe(&rules, "D in 10.8.0.1 tcp/23", "allow");
    probe(&rules, "D in 10.8.0.1 tcp/22", "allow");
}

/// Firewaller case S46.
#[test]
fn firewaller_case_s46() {
    let rules = [("O1", "FROM (ip 10.8.0.7 OR ip fd00:8::7 OR vm B) TO vm A ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.8.0.7 tcp/22", "allow");
    probe(&rules, "A in 10.0.0.2 tcp/22", "allow");
    probe(&rules, "A in 10.8.0.8 tcp/22", "block");
}

/// Firewaller case S47.
#[test]
fn firewaller_case_s47() {
    let rules = [("O1", "FROM any TO (vm A OR tag role = db) ALLOW udp (PORT 67 AND PORT 68)")];
    probe(&rules, "A in 10.8.0.1 udp/67", "allow");
    probe(&rules, "B in 10.8.0.1 udp/68", "allow");
    probe(&rules, "B in 10.8.0.1 udp/69", "block");
}

/// Stopped VM is still a peer.
#[test]
fn firewaller_case_s48() {
    let rules = [("O1", "FROM vm E TO vm A ALLOW tcp PORT 22")];
    probe(&rules, "A in 10.0.0.5 tcp/22", "allow");
}

/// 0.0.0.0/0 is IPv4 only.
#[test]
fn firewaller_case_s49() {
    let rules = [("O1", "FROM subnet 0.0.0.0/0 TO vm B ALLOW tcp PORT 22")];
    probe(&rules, "B in 10.8.0.1 tcp/22", "allow");
    probe(&rules, "B in fd00:8::1 tcp/22", "block");
}

/// Explicit priority 0 = default.
#[test]
fn firewaller_case_s50() {
    let rules = [("O1", "FROM any TO vm A ALLOW tcp PORT 22 PRIORITY 0"), ("O1", "FROM any TO vm A BLOCK tcp PORT 22 PRIORITY 0")];
    probe(&rules, "A in 10.8.0.1 tcp/22", "allow");
}
