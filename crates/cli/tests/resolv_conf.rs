//! Where a node looks up names, `platform/overlay/usr/triton/bin/resolv-conf`: what it was configured with, and else its leases.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{fs, path::Path, process::Command};

/// resolv.conf without its first line, which says who wrote it, given what triton-netconf wrote and leases as systemd-networkd has them.
fn written(given: Option<&str>, leases: &[&str]) -> String {
    let root = tempfile::tempdir().unwrap();
    let (etc, leased) = (root.path().join("etc/triton"), root.path().join("run/systemd/netif/leases"));
    fs::create_dir_all(&etc).unwrap();
    if let Some(given) = given {
        fs::write(etc.join("resolv.conf"), given).unwrap();
    }
    if !leases.is_empty() {
        fs::create_dir_all(&leased).unwrap();
    }
    for (index, lease) in leases.iter().enumerate() {
        fs::write(leased.join(index.to_string()), format!("# This is private data. Do not parse.\nADDRESS=10.0.0.5\n{lease}")).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platform/overlay/usr/triton/bin/resolv-conf");
    let output = Command::new("sh").arg(script).env("TRITON_ROOT", root.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(root.path().join("run/triton/resolv.conf")).unwrap();
    assert_eq!(fs::read_dir(root.path().join("run/triton")).unwrap().count(), 1, "something is left");
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with("# Written by resolv-conf"));
    rest.to_owned()
}

const TWO: &str = "DNS=192.0.2.1 192.0.2.2\nNTP=192.0.2.9\nDOMAINNAME=lease.example.com\n";

#[test]
fn the_configuration_counts_and_not_the_leases() {
    let given = "search us-1.example.com\nnameserver 10.0.0.11\nnameserver 10.0.0.12\n";
    assert_eq!(written(Some(given), &[TWO]), format!("{given}options timeout:2\n"));
}

#[test]
fn leases_say_what_the_configuration_does_not() {
    let of_leases = "search lease.example.com\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions timeout:2\n";
    let third = "DNS=192.0.2.2 192.0.2.3\nDOMAINNAME=lease.example.com\n";
    assert_eq!(written(None, &[TWO, third]), of_leases);
    assert_eq!(written(Some(""), &[TWO, third]), of_leases);
    let domain = "search us-1.example.com\n";
    assert_eq!(
        written(Some(domain), &["DNS=192.0.2.1\nDOMAINNAME=lease\n"]),
        "search us-1.example.com\nnameserver 192.0.2.1\noptions timeout:2\n"
    );
    let server = "nameserver 10.0.0.11\n";
    assert_eq!(written(Some(server), &[TWO]), "search lease.example.com\nnameserver 10.0.0.11\noptions timeout:2\n");
}

#[test]
fn without_either_there_is_a_file_that_names_nobody() {
    assert_eq!(written(None, &[]), "options timeout:2\n");
    assert_eq!(written(None, &["NTP=192.0.2.9\n"]), "options timeout:2\n");
}
