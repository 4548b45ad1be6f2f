//! The program `triton-netconf`: files, problems, exit statuses, and SIGKILL between its changes.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Command};

use sha1::{Digest, Sha1};

const MAC: &str = "00:50:56:00:00:01";
const DOCUMENT: &str = r#"{"hostname":"cn1","nictags":[{"name":"admin","mac":"00:50:56:00:00:01"}],
    "vnics":[{"mac":"00:50:56:00:00:01","ip":"10.0.0.5","netmask":"255.255.0.0","nic_tag":"admin"},
    {"mac":"02:00:00:00:00:01","ip":"10.1.0.5","netmask":"255.255.0.0","nic_tag":"admin","vlan_id":5}]}"#;

/// A root, and a machine with one physical NIC.
struct Machine {
    root: tempfile::TempDir,
    sysfs: tempfile::TempDir,
}

struct Ran {
    status: std::process::ExitStatus,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap(), sysfs: tempfile::tempdir().unwrap() };
        for (link, mac, physical) in [("eth0", MAC, true), ("lo", "00:00:00:00:00:00", false)] {
            let directory = machine.sysfs.path().join("class/net").join(link);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("address"), format!("{mac}\n")).unwrap();
            if physical {
                fs::create_dir(directory.join("device")).unwrap();
            }
        }
        fs::write(machine.sysfs.path().join("cmdline"), "boot=live BOOTIF=01-00-50-56-00-00-01\n").unwrap();
        machine
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    fn config(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("usr/triton/config")).unwrap();
        fs::write(self.path("usr/triton/config").join(name), text).unwrap();
    }

    fn generate(&self, args: &[&str]) -> Ran {
        self.generate_with(args, None)
    }

    fn generate_with(&self, args: &[&str], kill: Option<&str>) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_triton-netconf"));
        command.env_remove("TRITON_ROOT").env_remove("TRITON_STEP_KILL");
        command.arg("--root").arg(self.root.path()).arg("generate").args(args);
        command.arg("--sysfs").arg(self.sysfs.path()).arg("--cmdline").arg(self.sysfs.path().join("cmdline"));
        command.envs(kill.map(|step| ("TRITON_STEP_KILL", step)));
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn units(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("etc/systemd/network")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Ran {
    #[track_caller]
    fn ends(self, status: i32, stderr: &[&str]) -> String {
        assert_eq!(self.status.code(), Some(status), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), stderr.len(), "{}", self.stderr);
        for wanted in stderr {
            assert!(self.stderr.contains(wanted), "{wanted} in {}", self.stderr);
        }
        self.stdout
    }
}

fn given(machine: &Machine, text: &str, hash: Option<&str>) -> String {
    let path = machine.path("triton-networking.json");
    fs::write(&path, text).unwrap();
    let _ = fs::remove_file(machine.path("triton-networking.json.hash"));
    if let Some(hash) = hash {
        fs::write(machine.path("triton-networking.json.hash"), hash).unwrap();
    }
    path.display().to_string()
}

fn sha1(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_node_s_own_copies_are_used_without_a_word() {
    let machine = Machine::new();
    machine.config("triton-networking.json", DOCUMENT);
    machine.config("node.config", "ntp_hosts='10.0.0.2'\nspares=2\n");
    machine.generate(&[]).ends(0, &[]);
    assert_eq!(fs::read_to_string(machine.path("etc/hostname")).unwrap(), "cn1\n");
    assert_eq!(fs::read_to_string(machine.path("etc/chrony/sources.d/triton.sources")).unwrap(), "server 10.0.0.2 iburst\n");
    assert!(machine.units().contains(&"10-triton-admin0.network".to_owned()), "{:?}", machine.units());
    assert_eq!(fs::read(machine.path("etc/systemd/network/99-dhcp-all-nics.network")).unwrap(), b"");
}

#[test]
fn without_a_document_nothing_about_links_is_written() {
    let machine = Machine::new();
    machine.generate(&[]).ends(0, &[]);
    assert_eq!((machine.units(), fs::read_to_string(machine.path("etc/hostname")).unwrap().as_str()), (vec![], "00-50-56-00-00-01\n"));
}

#[test]
fn a_hash_is_wanted_of_what_was_given_and_its_lack_stops_nothing() {
    let machine = Machine::new();
    for (hash, status, wanted) in
        [(Some(sha1(DOCUMENT)), 0, vec![]), (None, 3, vec!["without its hash"]), (Some(sha1("other")), 3, vec!["has the SHA-1"])]
    {
        let path = given(&machine, DOCUMENT, hash.as_deref());
        machine.generate(&["--networking", &path]).ends(status, &wanted);
        assert!(!machine.units().is_empty());
        fs::remove_dir_all(machine.path("etc")).unwrap();
    }
}

#[test]
fn what_cannot_be_used_is_named_and_the_boot_goes_on() {
    let machine = Machine::new();
    let broken = "{\"hostname\":";
    let path = given(&machine, broken, Some(&sha1(broken)));
    machine.generate(&["--networking", &path]).ends(3, &["networking.json cannot be used"]);
    assert!(machine.path("etc/hostname").exists() && machine.units().is_empty());
    machine.generate(&["--networking", "/nonexistent/networking.json"]).ends(3, &["networking.json cannot be used"]);
    let partly = DOCUMENT.replace("\"vlan_id\":5", "\"vlan_id\":4095").replace("cn1", "cn 1");
    let path = given(&machine, &partly, Some(&sha1(&partly)));
    machine.generate(&["--networking", &path]).ends(3, &["vnics[1].vlan_id: 4095", "hostname: \"cn 1\""]);
    assert!(machine.units().iter().any(|name| name.starts_with("10-triton-tb")), "the rest is configured");
    fs::write(machine.sysfs.path().join("class/net/eth0/address"), "00:50:56:00:00:99\n").unwrap();
    let path = given(&machine, DOCUMENT, Some(&sha1(DOCUMENT)));
    machine.generate(&["--networking", &path]).ends(3, &["no physical nic has the MAC address 00:50:56:00:00:01"]);
}

#[test]
fn a_new_plan_takes_the_files_of_the_old_one_away_and_nobody_else_s() {
    let machine = Machine::new();
    machine.config("triton-networking.json", DOCUMENT);
    machine.generate(&[]).ends(0, &[]);
    fs::write(machine.path("etc/systemd/network/50-operator.network"), "[Match]\nName=x\n").unwrap();
    let before = machine.units();
    assert_eq!(machine.generate(&["--check"]).ends(0, &[]), "");
    machine.config("triton-networking.json", &DOCUMENT.replace("\"vlan_id\":5", "\"vlan_id\":1"));
    let planned = machine.generate(&["--check"]).ends(3, &["vlan_id"]);
    assert!(planned.contains("remove etc/systemd/network/10-triton-admin0.netdev\n"), "{planned}");
    assert_eq!(machine.units(), before, "--check changes nothing");
    machine.generate(&[]).ends(3, &["vlan_id"]);
    assert!(!machine.units().iter().any(|name| name.contains("admin0")), "{:?}", machine.units());
    fs::remove_file(machine.path("usr/triton/config/triton-networking.json")).unwrap();
    machine.generate(&[]).ends(0, &[]);
    assert_eq!(machine.units(), ["50-operator.network"]);
}

#[test]
fn killed_after_any_of_its_changes_it_finishes_when_it_runs_again() {
    let machine = Machine::new();
    machine.config("triton-networking.json", DOCUMENT);
    let out = |name: &str| machine.path(name).display().to_string();
    machine.generate(&["--out", &out("whole")]).ends(0, &[]);
    let mut kills = 0;
    loop {
        let ran = machine.generate_with(&["--out", &out("killed")], Some("netconf.changed"));
        if ran.status.signal() != Some(9) {
            break;
        }
        kills += 1;
        assert!(kills < 100);
    }
    assert!(kills >= 8, "{kills}");
    assert_eq!(tree(&machine.path("whole")), tree(&machine.path("killed")));
}

fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn the_fallback_for_images_and_completion_are_printed_and_usage_is_judged() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_triton-netconf")).args(args).output().unwrap();
    let fallback = String::from_utf8(run(&["dhcp-all-nics"]).stdout).unwrap();
    assert!(fallback.contains("KernelCommandLine=triton.dhcp-all-nics"), "{fallback}");
    assert!(!run(&["completion", "bash"]).stdout.is_empty());
    assert_eq!((run(&[]).status.code(), run(&["explode"]).status.code()), (Some(2), Some(2)));
}

#[test]
fn a_directory_that_cannot_be_written_is_a_failure() {
    let machine = Machine::new();
    machine.config("triton-networking.json", DOCUMENT);
    fs::write(machine.path("etc"), "no directory").unwrap();
    let ran = machine.generate(&[]);
    assert!(ran.status.code() == Some(1) && ran.stderr.contains("etc"), "{}", ran.stderr);
}
