//! The `sysinfo` command (cn-agent.md section 7.3).

#![allow(missing_docs, clippy::unwrap_used, reason = "tests say what they show by their names, and may panic")]

use std::{path::Path, process::Command};

fn sysinfo(root: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysinfo"));
    command.env_remove("TRITON_ROOT").env_remove("ADMIN_IP").arg("--root").arg(root).args(arguments).output().unwrap()
}

#[test]
fn it_prints_one_indented_document_whatever_of_the_old_flags_is_given() {
    let root = tempfile::tempdir().unwrap();
    let first = sysinfo(root.path(), &["--admin-ip", "127.0.0.1"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(text.starts_with("{\n  \"Live Image\": \"20") && text.ends_with("}\n"), "{text}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["Admin IP"], "127.0.0.1");
    for flags in [&["-f"][..], &["-u"], &["-p"], &["-f", "-u", "-p"], &["-fup"]] {
        let again = sysinfo(root.path(), &[flags, &["--admin-ip", "127.0.0.1"]].concat());
        assert_eq!(String::from_utf8(again.stdout).unwrap(), text, "{flags:?}");
    }
}

/// platform case 30
#[test]
fn a_node_that_nobody_has_set_up_has_a_document_without_an_admin_address() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("usr/triton/config")).unwrap();
    std::fs::write(root.path().join("usr/triton/config/triton-networking.json"), r#"{"admin_tag":"nowhere"}"#).unwrap();
    let output = sysinfo(root.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["Setup"], document.get("Admin IP")), (&serde_json::json!(false), None));
    assert!(document["UUID"].is_string() && document["Hostname"].is_string());
}
