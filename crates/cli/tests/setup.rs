//! The program `cn-setup` as far as it changes nothing: disks of a made-up machine, choices, refusals, exit statuses.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::symlink,
    path::PathBuf,
    process::Command,
};

const GIB: u64 = 1 << 30;

/// A machine's devices in files.
struct Machine {
    folder: tempfile::TempDir,
}

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.path("dev/disk/by-id")).unwrap();
        machine.nic("eth0", "00:50:56:00:00:01");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn nic(&self, name: &str, mac: &str) {
        let folder = self.path("sys/class/net").join(name);
        fs::create_dir_all(folder.join("device")).unwrap();
        fs::write(folder.join("address"), mac).unwrap();
        fs::write(folder.join("type"), "1\n").unwrap();
    }

    fn attribute(&self, disk: &str, file: &str, text: &str) {
        let path = self.path("sys/block").join(disk).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn disk(&self, name: &str, size: u64) {
        self.attribute(name, "size", &format!("{}\n", size / 512));
        self.attribute(name, "ro", "0\n");
        self.attribute(name, "removable", "0\n");
        let file = fs::File::create(self.path("dev").join(name)).unwrap();
        file.set_len(size).unwrap();
    }

    fn write(&self, disk: &str, at: u64, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().write(true).open(self.path("dev").join(disk)).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cn-setup"));
        command.env_remove("TRITON_ROOT").arg("--root").arg(self.path("root")).args(words);
        command.arg("--sysfs").arg(self.path("sys")).arg("--dev").arg(self.path("dev"));
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let machine = Machine::new();
    machine.disk("sda", 20 * GIB);
    machine.disk("sdb", 20 * GIB);
    symlink("../../sda", machine.path("dev/disk/by-id/ata-MAKER_123")).unwrap();
    symlink("../../sda", machine.path("dev/disk/by-id/wwn-0x5000")).unwrap();
    let ran = machine.run(&["--dry-run", "--hostname", "cn7"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for wanted in ["pool zones: mirror", "disk/by-id/ata-MAKER_123\n", "dev/sdb\n", "20.0 GiB", "00:50:56:00:00:01", "nothing was changed"]
    {
        assert!(ran.stdout.contains(wanted), "{wanted} in {}", ran.stdout);
    }
    assert!(!machine.path("root").exists());
}

/// platform case 28
#[test]
fn only_disks_of_the_machine_that_are_empty_and_free_are_taken() {
    let machine = Machine::new();
    for name in ["sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "zd0", "loop0", "dm-0"] {
        machine.disk(name, 4 * GIB);
    }
    machine.attribute("sdb", "removable", "1");
    machine.attribute("sdc", "ro", "1");
    machine.attribute("sdd", "sdd1/partition", "1");
    fs::write(machine.path("dev/sdd1"), b"").unwrap();
    machine.attribute("sde", "holders/dm-0/size", "1");
    machine.attribute("sda", "device/wwid", "naa.5000");
    machine.attribute("sdf", "device/wwid", "naa.5000");
    machine.disk("sdh", GIB / 2);
    let ran = machine.run(&["--dry-run"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let said = |name: &str| ran.stdout.lines().find(|line| line.starts_with(&format!("  {name} "))).unwrap_or_default().to_owned();
    for (name, wanted) in [
        ("sda", "is empty: used"),
        ("sdb", "it is removable"),
        ("sdc", "it is read-only"),
        ("sdd", "holds partitions sdd1"),
        ("sde", "sde is used by dm-0"),
        ("sdf", "it is sda on another path"),
        ("sdg", "is empty: used"),
        ("sdh", "smaller than 1 GiB"),
    ] {
        assert!(said(name).contains(wanted), "{wanted}: {}", said(name));
    }
    for name in ["zd0", "loop0", "dm-0"] {
        assert_eq!(said(name), "", "{name}");
    }
}

#[test]
fn a_disk_with_anything_on_it_is_taken_only_by_name() {
    let machine = Machine::new();
    machine.disk("sda", 4 * GIB);
    machine.disk("sdb", 4 * GIB);
    // The magic number of ext4, and bytes that nothing knows at the very end.
    machine.write("sda", 1024 + 0x38, &[0x53, 0xef]);
    machine.write("sda", 1024 + 0x18, &[0; 4]);
    machine.write("sdb", 4 * GIB - 100, b"precious");
    let ran = machine.run(&["--dry-run"]);
    assert_eq!(ran.status, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("no disk is empty and free") && ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("sdb: holds data of an unknown kind: left alone; --erase sdb would destroy it"), "{}", ran.stderr);
    let ran = machine.run(&["--dry-run", "--disk", "sdb"]);
    assert_eq!(ran.status, Some(2), "named, but not to be erased");
    let path = machine.path("dev/sdb").display().to_string();
    let ran = machine.run(&["--dry-run", "--erase", &path]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("which is DESTROYED"), "{}", ran.stdout);
}

#[test]
fn every_bad_input_is_named_in_one_go_and_changes_nothing() {
    let machine = Machine::new();
    machine.disk("sda", 4 * GIB);
    let words = ["--dry-run", "--disk", "sdq", "--vlan", "4095", "--nic-tag", "external=02:00:00:00:00:01"];
    let ran = machine.run(&words);
    assert_eq!(ran.status, Some(2));
    for wanted in ["\"sdq\" is no disk of this machine (it has: sda)", "4095 is no VLAN", "02:00:00:00:00:01", "nothing was changed"] {
        assert!(ran.stderr.contains(wanted), "{wanted} in {}", ran.stderr);
    }
    let ran = machine.run(&["--yes"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("--root is for --dry-run only"), "{}", ran.stderr);
}

#[test]
fn help_and_completions_are_there() {
    let command = || Command::new(env!("CARGO_BIN_EXE_cn-setup"));
    let help = command().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for wanted in ["DESTROYED", "Exit status: 0 success", "Examples:", "--dry-run"] {
        assert!(help.contains(wanted), "{wanted} in {help}");
    }
    let script = command().args(["completion", "bash"]).output().unwrap();
    assert!(script.status.success() && String::from_utf8(script.stdout).unwrap().contains("--erase"));
}
