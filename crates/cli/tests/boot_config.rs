//! What a node takes over from its boot server, `platform/overlay/usr/triton/bin/boot-config`: good files, bad ones, none.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// A node with the copies of an earlier boot; what the boot server gave, what is said, and what the node has then.
struct Boot {
    root: tempfile::TempDir,
}

const OLD: &str = "{\"hostname\": \"old\"}";

impl Boot {
    fn new(given: &[(&str, &[u8])]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("run/triton/boot"), root.path().join("usr/triton/config"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("triton-networking.json"), OLD).unwrap();
        fs::write(to.join("node.config"), "old='1'\n").unwrap();
        for (name, bytes) in given {
            fs::write(from.join(name), bytes).unwrap();
        }
        Self { root }
    }

    fn run(&self) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platform/overlay/usr/triton/bin/boot-config");
        let output = Command::new("sh").arg(script).env("TRITON_ROOT", self.root.path()).output().unwrap();
        assert!(output.status.success(), "a boot goes on whatever it is given");
        String::from_utf8(output.stderr).unwrap()
    }

    fn has(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join("usr/triton/config").join(name)).unwrap()
    }
}

/// platform case 3
#[test]
fn the_host_id_is_the_sum_of_the_machines_uuid_and_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("hostid");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platform/overlay/usr/triton/bin/sethostid");
    let run = |uuid: &str| Command::new("sh").arg(&script).arg(&target).env("TRITON_SYSTEM_UUID", uuid).output().unwrap();
    let refused = run("Not Specified");
    assert!(!refused.status.success() && !target.exists(), "a machine without a uuid got a host id");
    // Firmware writes it in either case.
    assert!(run("564D0B8E-6B12-4F04-9D3A-1F4F31B0A1C2").status.success());
    assert_eq!(fs::read(&target).unwrap(), [0x4b, 0xa1, 0x8a, 0x57]);
    assert_eq!(run("00000000-6b12-4f04-9d3a-1f4f31b0a1c2").status.code(), Some(1));
    assert_eq!(fs::read(&target).unwrap(), [0x4b, 0xa1, 0x8a, 0x57]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

const NEW: &[u8] = b"{\"hostname\": \"new\"}";
/// Of something else.
const HASH: &[u8] = b"a7b5d1e9d1f3c7cf9b0d2b4b4b6b0ed9d0d3e9c2";

fn hash(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let output = Command::new("sha1sum").arg(file.path()).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..40].to_owned()
}

#[test]
fn good_files_replace_the_nodes_copies() {
    let boot = Boot::new(&[
        ("triton-networking.json", NEW),
        ("triton-networking.json.hash", hash(NEW).as_bytes()),
        ("node.config", b"datacenter_name='x'\nspares=2\n"),
    ]);
    let said = boot.run();
    assert!(!said.contains("hash"), "{said}");
    assert_eq!(boot.has("triton-networking.json").as_bytes(), NEW);
    assert_eq!(boot.has("node.config"), "datacenter_name='x'\nspares=2\n");
    let mode = |name| fs::metadata(boot.root.path().join("usr/triton/config").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("node.config"), mode("triton-networking.json")), (0o600, 0o644));
}

#[test]
fn a_missing_or_wrong_hash_is_said_and_the_file_is_used() {
    let boot = Boot::new(&[("triton-networking.json", NEW)]);
    assert!(boot.run().contains("networking.json came without a hash"));
    assert_eq!(boot.has("triton-networking.json").as_bytes(), NEW);
    let boot = Boot::new(&[("triton-networking.json", NEW), ("triton-networking.json.hash", HASH)]);
    let said = boot.run();
    assert!(said.contains("networking.json does not have the hash") && said.contains(&hash(NEW)), "{said}");
    assert_eq!(boot.has("triton-networking.json").as_bytes(), NEW);
    // Any file that comes with a hash is compared with it.
    let boot = Boot::new(&[("triton-extra", b"x"), ("triton-extra.hash", HASH)]);
    assert!(boot.run().contains("extra does not have the hash"));
}

#[test]
fn files_of_no_use_and_none_at_all_leave_the_nodes_copies() {
    for (networking, node_config) in
        [(&b"{\"hostname\": "[..], &b"<html>\n"[..]), (b"[]", b"\0\x01\x02"), (b"null", b"# nothing\n=x\n"), (b"", b"")]
    {
        let boot = Boot::new(&[("triton-networking.json", networking), ("node.config", node_config)]);
        let said = boot.run();
        assert_eq!((boot.has("triton-networking.json").as_str(), boot.has("node.config").as_str()), (OLD, "old='1'\n"));
        if !networking.is_empty() {
            assert!(said.contains("networking.json is no JSON object") && said.contains("node.config has no setting"), "{said}");
        }
    }
    let boot = Boot::new(&[]);
    assert_eq!(boot.run(), "");
    assert_eq!(boot.has("node.config"), "old='1'\n");
}

#[test]
fn a_root_shadow_that_is_no_hash_is_refused_before_anything_reads_it() {
    let boot = Boot::new(&[("node.config", b"root_shadow='$(touch /tmp/x)'\n")]);
    assert!(boot.run().contains("root_shadow is no password hash"));
}
