//! Tables A and R: what is accepted and how it is printed, what is refused and with which words.

use super::text;

/// Each is accepted, prints as the normal form, and the normal form reads as the same rule.
macro_rules! accepted {
    ($($name:ident: $input:expr => $normal:expr;)*) => {$(
        #[test]
        fn $name() {
            let spec = text($input).unwrap();
            assert_eq!(spec.to_string(), $normal);
            assert_eq!(text($normal).unwrap(), spec);
        }
    )*};
}

/// Each is refused with exactly these words, about the field `rule`.
macro_rules! refused {
    ($($name:ident: $input:expr => $message:expr;)*) => {$(
        #[test]
        fn $name() {
            let error = text($input).unwrap_err();
            assert_eq!((error.field, error.message.as_str()), ("rule", $message));
        }
    )*};
}

accepted! {
    firewaller_case_a1: "FROM any TO all vms ALLOW tcp PORT 22"
        => "FROM any TO all vms ALLOW tcp PORT 22";
    firewaller_case_a2: "from any to all vms allow tcp port 22"
        => "FROM any TO all vms ALLOW tcp PORT 22";
    firewaller_case_a3: "FROM any TO all vms allow TCP port ALL"
        => "FROM any TO all vms ALLOW tcp PORT all";
    firewaller_case_a4: "FROM any TO (all vms) ALLOW udp PORTS 67, 68"
        => "FROM any TO all vms ALLOW udp (PORT 67 AND PORT 68)";
    firewaller_case_a5: "FROM any TO all vms ALLOW tcp PORTS 80, 443, 8000-8100"
        => "FROM any TO all vms ALLOW tcp PORTS 80, 443, 8000 - 8100";
    firewaller_case_a6: "FROM any TO all vms ALLOW tcp (PORT 443 AND PORT 80)"
        => "FROM any TO all vms ALLOW tcp (PORT 80 AND PORT 443)";
    firewaller_case_a7: "FROM any TO all vms ALLOW tcp (PORT 443 AND PORT 80 AND PORT 80)"
        => "FROM any TO all vms ALLOW tcp (PORT 80 AND PORT 80 AND PORT 443)";
    firewaller_case_a8: "FROM any TO all vms ALLOW tcp PORTS 80-80"
        => "FROM any TO all vms ALLOW tcp PORTS 80 - 80";
    firewaller_case_a9: "FROM any TO all vms ALLOW tcp PORTS 1-65535"
        => "FROM any TO all vms ALLOW tcp PORTS 1 - 65535";
    firewaller_case_a10: "FROM any TO all vms ALLOW tcp PORT 0080"
        => "FROM any TO all vms ALLOW tcp PORT 80";
    firewaller_case_a11: "FROM (tag b OR tag a = 2 OR tag a = 1) TO all vms ALLOW tcp PORT 22"
        => r#"FROM (tag "a" = "1" OR tag "a" = "2" OR tag "b") TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a12: "FROM (tag a = 1 OR tag a) TO all vms ALLOW tcp PORT 22"
        => r#"FROM tag "a" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a13: "FROM (tag a) TO all vms ALLOW tcp PORT 22"
        => r#"FROM tag "a" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a14: "FROM (vm 8a2d6f5e-3c41-4d0b-9f0f-0c6f1b6a7d11 OR ip 10.0.0.9 OR subnet 10.1.0.0/16 OR tag web OR ip 10.0.0.10) TO all vms ALLOW tcp PORT 22"
        => r#"FROM (ip 10.0.0.10 OR ip 10.0.0.9 OR subnet 10.1.0.0/16 OR tag "web" OR vm 8a2d6f5e-3c41-4d0b-9f0f-0c6f1b6a7d11) TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a15: "FROM tag foo=bar TO all vms ALLOW tcp PORT 22"
        => r#"FROM tag "foo" = "bar" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a16: r#"FROM tag foo = "b r" TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "foo" = "b r" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a17: r#"FROM tag "foo" = bar TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "foo" = "bar" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a18: r#"FROM tag "all" TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "all" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a19: r#"FROM tag "x\u00e9\n(" TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "xé\n\(" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a20: r#"FROM tag "" TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a21: r#"FROM tag foo = "" TO all vms ALLOW tcp PORT 22"#
        => r#"FROM tag "foo" = "" TO all vms ALLOW tcp PORT 22"#;
    firewaller_case_a22: "FROM any TO all vms ALLOW icmp TYPE 8 CODE 0"
        => "FROM any TO all vms ALLOW icmp TYPE 8 CODE 0";
    firewaller_case_a23: "FROM any TO all vms ALLOW icmp TYPE ALL"
        => "FROM any TO all vms ALLOW icmp TYPE all";
    firewaller_case_a24: "FROM any TO all vms ALLOW icmp6 type all"
        => "FROM any TO all vms ALLOW icmp6 TYPE all";
    firewaller_case_a25: "FROM any TO all vms ALLOW icmp6 TYPE 128"
        => "FROM any TO all vms ALLOW icmp6 TYPE 128";
    firewaller_case_a26: "FROM any TO all vms ALLOW ah"
        => "FROM any TO all vms ALLOW ah";
    firewaller_case_a27: "FROM any TO all vms BLOCK esp PRIORITY 5"
        => "FROM any TO all vms BLOCK esp PRIORITY 5";
    firewaller_case_a28: "FROM any TO all vms BLOCK tcp PORT 22 PRIORITY 0"
        => "FROM any TO all vms BLOCK tcp PORT 22";
    firewaller_case_a29: "FROM any TO all vms BLOCK tcp PORT 22 PRIORITY 007"
        => "FROM any TO all vms BLOCK tcp PORT 22 PRIORITY 7";
    firewaller_case_a30: "FROM subnet 0.0.0.0/0 TO all vms ALLOW tcp PORT 22"
        => "FROM subnet 0.0.0.0/0 TO all vms ALLOW tcp PORT 22";
    firewaller_case_a31: "FROM subnet 10.0.0.1/24 TO all vms ALLOW tcp PORT 22"
        => "FROM subnet 10.0.0.1/24 TO all vms ALLOW tcp PORT 22";
    firewaller_case_a32: "FROM subnet ::/0 TO all vms ALLOW tcp PORT 22"
        => "FROM subnet ::/0 TO all vms ALLOW tcp PORT 22";
    firewaller_case_a33: "FROM subnet fd00::/64 TO all vms ALLOW tcp PORT 22"
        => "FROM subnet fd00::/64 TO all vms ALLOW tcp PORT 22";
    firewaller_case_a34: "FROM ip fd00::1 TO all vms ALLOW tcp PORT 22"
        => "FROM ip fd00::1 TO all vms ALLOW tcp PORT 22";
    firewaller_case_a35: "FROM any\n\tTO\n all vms ALLOW tcp PORT 80"
        => "FROM any TO all vms ALLOW tcp PORT 80";
    firewaller_case_a36: "FROM(ip 10.0.0.1)TO(all vms)ALLOW tcp(PORT 80)"
        => "FROM ip 10.0.0.1 TO all vms ALLOW tcp PORT 80";
    firewaller_case_a37: "FROM any TO tag a-b_c ALLOW tcp PORT 80"
        => r#"FROM any TO tag "a-b_c" ALLOW tcp PORT 80"#;
    firewaller_case_a38: "FROM any TO all vms ALLOW tcp PORTS 20 -40"
        => "FROM any TO all vms ALLOW tcp PORTS 20 - 40";
    firewaller_case_a39: "FROM any TO all vms ALLOW tcp (PORT ALL)"
        => "FROM any TO all vms ALLOW tcp PORT all";
    firewaller_case_a40: "FROM tag role = db TO ip 8.8.8.8 BLOCK udp PORT 53"
        => r#"FROM tag "role" = "db" TO ip 8.8.8.8 BLOCK udp PORT 53"#;
    firewaller_case_a41: "FROM any TO all vms ALLOW icmp (TYPE 11 CODE 1 AND TYPE 8 CODE 0)"
        => "FROM any TO all vms ALLOW icmp (TYPE 8 CODE 0 AND TYPE 11 CODE 1)";
    firewaller_case_a42: "FROM any TO all vms ALLOW icmp (TYPE 13 AND TYPE 8)"
        => "FROM any TO all vms ALLOW icmp (TYPE 8 AND TYPE 13)";
    firewaller_case_a43: r#"FROM any TO tag "a/b" = "c\/d" ALLOW tcp PORT 80"#
        => r#"FROM any TO tag "a/b" = "c/d" ALLOW tcp PORT 80"#;
    firewaller_case_a44: "FROM any TO tag fromx ALLOW tcp PORT 80"
        => r#"FROM any TO tag "fromx" ALLOW tcp PORT 80"#;
    firewaller_case_a45: "FROM ip ::1 TO all vms ALLOW tcp PORT 80"
        => "FROM ip ::1 TO all vms ALLOW tcp PORT 80";
}

refused! {
    firewaller_case_r1: "From any TO all vms ALLOW tcp PORT 22"
        => "Error at character 0: 'From', expected: 'FROM', found: word";
    firewaller_case_r2: "FROM tag all TO all vms ALLOW tcp PORT 22"
        => "Error at character 8: 'all', expected: 'WORD', 'STRING', found: ALL";
    firewaller_case_r3: "FROM tag foo.bar TO all vms ALLOW tcp PORT 22"
        => "Error at character 12: '.bar TO all vms ALLO', found: unexpected text";
    firewaller_case_r4: r#"FROM tag "x\q" TO all vms ALLOW tcp PORT 22"#
        => r#"Error at character 9: '"x\q" TO all vms ALL', found: unexpected text"#;
    firewaller_case_r5: "FROM any TO all vms BLOCK tcp PORT 22 PRIORITY 101"
        => r#"Priority level "101" is invalid"#;
    firewaller_case_r6: "FROM any TO all vms BLOCK tcp PORT 22 PRIORITY -1"
        => "Error at character 46: '-', expected: 'WORD', found: -";
    firewaller_case_r7: "FROM any TO any ALLOW tcp PORT 22"
        => "rule does not affect VMs";
    firewaller_case_r8: "FROM ip 1.2.3.4 TO subnet 10.0.0.0/8 ALLOW tcp PORT 22"
        => "rule does not affect VMs";
    firewaller_case_r9: "FROM any TO vm 8A2D6F5E-3C41-4D0B-9F0F-0C6F1B6A7D11 ALLOW tcp PORT 22"
        => r#"UUID "8A2D6F5E-3C41-4D0B-9F0F-0C6F1B6A7D11" is invalid"#;
    firewaller_case_r10: "FROM ip 0.0.0.0 TO all vms ALLOW tcp PORT 22"
        => r#"IPv4 address "0.0.0.0" is invalid"#;
    firewaller_case_r11: "FROM ip 255.255.255.255 TO all vms ALLOW tcp PORT 22"
        => r#"IPv4 address "255.255.255.255" is invalid"#;
    firewaller_case_r12: "FROM ip 1.2.3 TO all vms ALLOW tcp PORT 22"
        => "Error at character 7: '1', expected: 'IPV4ADDR', 'IPV6ADDR', found: word";
    firewaller_case_r13: "FROM ip 010.0.0.1 TO all vms ALLOW tcp PORT 22"
        => r#"IPv4 address "010.0.0.1" is invalid"#;
    firewaller_case_r14: "FROM subnet 10.0.0.0/33 TO all vms ALLOW tcp PORT 22"
        => r#"Subnet "10.0.0.0/33" is invalid (bad prefix length)"#;
    firewaller_case_r15: "FROM subnet 10.0.0.0 TO all vms ALLOW tcp PORT 22"
        => "Error at character 20: 'TO', expected: 'CIDRSUFFIX', found: TO";
    firewaller_case_r16: "FROM ip FD00::1 TO all vms ALLOW tcp PORT 22"
        => "Error at character 7: 'FD00', expected: 'IPV4ADDR', 'IPV6ADDR', found: word";
    firewaller_case_r17: "FROM ip ::ffff:10.0.0.1 TO all vms ALLOW tcp PORT 22"
        => "Error at character 17: '.0.0.1 TO all vms AL', found: unexpected text";
    firewaller_case_r18: "FROM ip fd00::1 TO all vms ALLOW icmp TYPE 8"
        => "rule affects ICMPv4 but contains a non-IPv4 address";
    firewaller_case_r19: "FROM ip 10.0.0.1 TO all vms ALLOW icmp6 TYPE 128"
        => "rule affects ICMPv6 but contains a non-IPv6 address";
    firewaller_case_r20: "FROM any TO all vms ALLOW tcp PORT 0"
        => r#"Port number "0" is invalid"#;
    firewaller_case_r21: "FROM any TO all vms ALLOW tcp PORT 65536"
        => r#"Port number "65536" is invalid"#;
    firewaller_case_r22: "FROM any TO all vms ALLOW tcp PORT abc"
        => r#"Port number "abc" is invalid"#;
    firewaller_case_r23: "FROM any TO all vms ALLOW tcp"
        => "Error at character 29: '', expected: '(', 'PORT', 'PORTS', found: EOF";
    firewaller_case_r24: "FROM any TO all vms ALLOW tcp PORTS 90-80"
        => "The end of the range (80) cannot be less than the start (90)";
    firewaller_case_r25: "FROM any TO all vms ALLOW tcp PORTS 80,"
        => "Error at character 39: '', expected: 'WORD', found: EOF";
    firewaller_case_r26: "FROM any TO all vms ALLOW tcp PORTS (80, 81)"
        => "Error at character 35: '(', expected: 'WORD', found: (";
    firewaller_case_r27: "FROM any TO all vms ALLOW tcp PORTS all"
        => "Error at character 35: 'all', expected: 'WORD', found: ALL";
    firewaller_case_r28: "FROM any TO all vms ALLOW tcp PORT 80 AND PORT 81"
        => "Error at character 37: 'AND', expected: 'EOF', 'PRIORITY', found: AND";
    firewaller_case_r29: "FROM any TO all vms ALLOW tcp (PORT 80 OR PORT 81)"
        => "Error at character 38: 'OR', expected: 'EOF', 'PRIORITY', ')', 'AND', found: OR";
    firewaller_case_r30: "FROM tag a AND tag b TO all vms ALLOW tcp PORT 80"
        => "Error at character 10: 'AND', expected: 'TO', ')', 'OR', '=', 'BLOCK', 'ALLOW', found: AND";
    firewaller_case_r31: "FROM (tag a AND tag b) TO all vms ALLOW tcp PORT 80"
        => "Error at character 11: 'AND', expected: 'TO', ')', 'OR', '=', 'BLOCK', 'ALLOW', found: AND";
    firewaller_case_r32: "FROM tag a OR tag b TO all vms ALLOW tcp PORT 80"
        => "Error at character 10: 'OR', expected: 'TO', 'BLOCK', 'ALLOW', found: OR";
    firewaller_case_r33: "FROM (any OR tag b) TO all vms ALLOW tcp PORT 80"
        => "Error at character 9: 'OR', expected: ')', found: OR";
    firewaller_case_r34: "FROM any TO all vms ALLOW icmp TYPE 256"
        => r#"ICMP type "256" is invalid"#;
    firewaller_case_r35: "FROM any TO all vms ALLOW icmp TYPE 8 CODE 256"
        => r#"ICMP code "256" is invalid"#;
    firewaller_case_r36: "FROM any TO all vms ALLOW icmp"
        => "Error at character 30: '', expected: '(', 'TYPE', found: EOF";
    firewaller_case_r37: "FROM any TO all vms ALLOW icmp CODE 0"
        => "Error at character 30: 'CODE', expected: '(', 'TYPE', found: CODE";
    firewaller_case_r38: "FROM any TO all vms ALLOW ah PORT 80"
        => "Error at character 28: 'PORT', expected: 'EOF', 'PRIORITY', found: PORT";
    firewaller_case_r39: "FROM any TO all vms ALLOW sctp PORT 80"
        => "Error at character 25: 'sctp', expected: 'TCP', 'UDP', 'ICMP', 'ICMP6', 'AH', 'ESP', found: word";
    firewaller_case_r40: "FROM any TO all vms REJECT tcp PORT 80"
        => "Error at character 19: 'REJECT', expected: 'TO', 'BLOCK', 'ALLOW', found: word";
    firewaller_case_r41: "FROM any TO all ALLOW tcp PORT 80"
        => "Error at character 15: 'ALLOW', expected: 'VMS', found: ALLOW";
    firewaller_case_r42: "FROM any TO vms ALLOW tcp PORT 80"
        => "Error at character 11: 'vms', expected: '(', 'all', 'any', 'ip', 'subnet', 'vm', 'tag', found: VMS";
    firewaller_case_r43: "FROM any TO all vms ALLOW tcp PORT 80 LOG"
        => "Error at character 37: 'LOG', expected: 'EOF', 'PRIORITY', ')', 'AND', found: word";
    firewaller_case_r44: "FROM any TO all vms ALLOW tcp PORT 80 PRIORITY"
        => "Error at character 46: '', expected: 'WORD', found: EOF";
    firewaller_case_r45: "TO all vms FROM any ALLOW tcp PORT 80"
        => "Error at character 0: 'TO', expected: 'FROM', found: TO";
    firewaller_case_r46: "FROM any TO all vms ALLOW tcp PORT 80 $"
        => "Error at character 23: '$', found: unexpected text";
    firewaller_case_r47: "FROM any TO tag from-x ALLOW tcp PORT 80"
        => "Error at character 15: 'from', expected: 'WORD', 'STRING', found: FROM";
    firewaller_case_r48: "FROM any TO tag to ALLOW tcp PORT 80"
        => "Error at character 15: 'to', expected: 'WORD', 'STRING', found: TO";
    firewaller_case_r49: "FROM any TO tag -x ALLOW tcp PORT 80"
        => "Error at character 15: '-', expected: 'WORD', 'STRING', found: -";
    firewaller_case_r50: "FROM any TO tag all-x ALLOW tcp PORT 80"
        => "Error at character 15: 'all', expected: 'WORD', 'STRING', found: ALL";
    firewaller_case_r51: "FROM any TO all vms ALLOW tcp (PORT ALL AND PORT 53)"
        => "Error at character 39: 'AND', expected: 'EOF', 'PRIORITY', ')', found: AND";
    firewaller_case_r52: "FROM any TO all vms ALLOW tcp PORTS 1-20-30"
        => r#""1-20-30" is not a valid port number or range"#;
    firewaller_case_r53: "FROM subnet fd00::/129 TO all vms ALLOW tcp PORT 80"
        => r#"Subnet "fd00::/129" is invalid (bad prefix length)"#;
    firewaller_case_r54: "FROM subnet 10.350.0.0/24 TO all vms ALLOW tcp PORT 80"
        => r#"Subnet "10.350.0.0/24" is invalid (bad address component)"#;
}
