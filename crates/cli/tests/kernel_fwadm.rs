//! The program `fwadm`, in a network namespace with a bridge; `nft` is the judge of what is in force.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use triton_files::Layout;
use triton_link::{Entered, NetNs};
use triton_types::{InstanceUuid, Lifecycle, Mac, MachineFile, Nic, VmConfig};

const OWNER: &str = "00000000-0000-4000-8000-000000000001";
const RULE: &str = "10000000-0000-4000-8000-000000000001";
const OTHER: &str = "10000000-0000-4000-8000-000000000002";

/// A root, and a namespace that the test's thread is inside.
struct Node {
    root: tempfile::TempDir,
    _entered: Entered,
}

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Layout::new(root.path()).prepare().unwrap();
        let entered = NetNs::create().unwrap().enter().unwrap();
        Self { root, _entered: entered }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.root.path())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_remove("TRITON_ROOT").arg("--root").arg(self.root.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(env!("CARGO_BIN_EXE_fwadm"), args).output().unwrap())
    }

    fn with_input(&self, args: &[&str], input: &Value) -> Ran {
        let mut child = self.command(env!("CARGO_BIN_EXE_fwadm"), args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    /// An instance with one NIC.
    fn instance(&self, last: u8, firewall: bool) -> InstanceUuid {
        let uuid = format!("a0000000-0000-4000-8000-0000000000{last:02x}").parse().unwrap();
        let mut config = VmConfig::bare(uuid);
        let mut nic = Nic::new("net0".to_owned(), Mac([2, 8, 0x20, 0, 0, last]), "admin".parse().unwrap());
        nic.ips = vec![format!("10.0.0.{last}/24").parse().unwrap()];
        config.nics.push(nic);
        config.owner_uuid = Some(OWNER.to_owned());
        config.firewall_enabled = firewall;
        let file = MachineFile { format: MachineFile::FORMAT, lifecycle: Lifecycle::Installed, storage: None, config };
        fs::write(self.layout().machine(uuid), serde_json::to_vec(&file).unwrap()).unwrap();
        uuid
    }

    fn add(&self, uuid: &str, enabled: bool, text: &str) -> String {
        self.with_input(&["add"], &json!({"uuid": uuid, "owner_uuid": OWNER, "enabled": enabled, "version": "1.000001", "rule": text})).ok()
    }
}

impl Ran {
    fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
    #[track_caller]
    fn failed(self, status: i32, stderr: &str) {
        assert_eq!((self.status, self.stderr.as_str(), self.stdout.as_str()), (Some(status), format!("{stderr}\n").as_str(), ""));
    }
}

fn nft(arguments: &str) -> String {
    let output = Command::new("nft").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The table without counts. The order of chains says nothing.
fn in_force() -> Vec<String> {
    let text = nft("-s list table bridge triton_fw");
    let mut chains: Vec<String> = text.split("\n\n").map(|part| part.trim().trim_end_matches("\n}").to_owned()).collect();
    chains.sort();
    chains
}

const ALL: &str = "FROM any TO all vms ALLOW tcp PORT 22";

/// firewaller cases C1, C2
#[test]
fn rules_are_listed_for_people_for_scripts_and_as_json() {
    let node = Node::new();
    node.add(OTHER, false, "FROM ip fd00::1 TO all vms ALLOW tcp PORT 22");
    node.add(RULE, true, ALL);
    let pad = " ".repeat(32);
    let table = format!("UUID{pad} ENABLED RULE\n{RULE} true    {ALL}\n{OTHER} false   FROM ip fd00::1 TO all vms ALLOW tcp PORT 22\n");
    assert_eq!(node.run(&["list"]).ok(), table);
    let parsable = format!("{RULE}:true:{ALL}\n{OTHER}:false:FROM ip fd00\\:\\:1 TO all vms ALLOW tcp PORT 22\n");
    assert_eq!(node.run(&["list", "-p"]).ok(), parsable);
    let json = node.run(&["list", "-j", "-o", "uuid,rule"]).json();
    assert_eq!(json[0], json!({"uuid": RULE, "rule": ALL}));
    assert_eq!(json.as_array().unwrap().len(), 2);
    node.run(&["list", "-d", "|"]).failed(2, "-d requires -p");
    assert_eq!(node.run(&["list", "-j", "-p"]).status, Some(2));
    node.run(&["list", "-o", "bogus"]).failed(1, "Invalid display field: bogus");
    assert_eq!(node.run(&["nonsense"]).status, Some(2));
}

/// firewaller cases C3, C5, C6
#[test]
fn rules_are_got_changed_disabled_and_deleted() {
    let node = Node::new();
    let vm = node.instance(1, true);
    node.run(&["get", OTHER]).failed(1, &format!("Unknown rule \"{OTHER}\""));
    node.run(&["get", "xyz"]).failed(1, "Error: invalid UUID \"xyz\"");
    node.run(&["get"]).failed(1, "Error: missing UUID");
    assert_eq!(node.add(RULE, true, ALL), format!("Added rules:\n{RULE} true    {ALL}\n"));
    let expected = json!({"enabled": true, "log": false, "owner_uuid": OWNER, "rule": ALL, "uuid": RULE, "version": "1.000001"});
    assert_eq!(node.run(&["get", RULE]).json(), expected);
    assert_eq!(node.run(&["disable", RULE]).ok(), format!("Disabled rules:\n{RULE} false  {ALL}\n"));
    assert_eq!(node.run(&["-v", "enable", RULE]).ok(), format!("Enabled rules:\n{RULE} true    {ALL}\n\nVMs affected:\n{vm}\n"));
    node.run(&["update", OTHER, "-e"]).failed(1, &format!("Unknown rule: {OTHER}"));
    let text = "FROM any TO all vms ALLOW tcp PORTS 20 - 40";
    let words: Vec<&str> = ["update", "--desc", "some", RULE].into_iter().chain(text.split(' ')).collect();
    assert_eq!(node.run(&words).ok(), format!("Updated rules:\n{RULE} true    {text}\n"));
    assert_eq!(node.run(&["get", RULE]).json()["description"], "some");
    node.run(&["-j", "update", RULE, "FROM", "nonsense"]).status.filter(|status| *status == 1).unwrap();
    assert_eq!(node.run(&["delete", RULE, OTHER]).ok(), format!("Deleted rules:\n{RULE} true    {text}\n"));
    assert_eq!(node.run(&["delete", RULE]).ok(), "");
    assert_eq!(node.run(&["list", "-p"]).ok(), "");
}

/// firewaller cases C4, C5
#[test]
fn a_rule_as_words_and_a_payload_with_both_kinds_are_added() {
    let node = Node::new();
    let words = ["add", "-g", "-e", "FROM", "any", "TO", "all", "vms", "ALLOW", "tcp", "PORT", "22"];
    let added = node.run(&words).ok();
    assert!(added.starts_with("Added rules:\n") && added.ends_with(&format!("true    {ALL}\n")), "{added}");
    let remote = "20000000-0000-4000-8000-000000000001";
    let payload = json!({"rules": [{"uuid": RULE, "global": true, "rule": ALL}], "remoteVMs": [{"uuid": remote, "ips": ["10.9.0.1"]}]});
    // Nothing is changed by a dry run.
    let both = format!("Added rules:\n{RULE} false  {ALL}\nAdded remote VMs:\n{remote}\n");
    assert_eq!(node.with_input(&["add", "--dryrun"], &payload).ok(), both);
    assert_eq!(node.run(&["list-rvms"]).json(), json!([]));
    assert_eq!(node.with_input(&["add"], &payload).ok(), both);
    assert_eq!(node.run(&["list-rvms"]).json(), json!([{"uuid": remote, "ips": ["10.9.0.1"]}]));
    assert_eq!(node.run(&["get-rvm", remote]).json(), json!({"uuid": remote, "ips": ["10.9.0.1"]}));
    let all = node.with_input(&["-j", "add"], &payload).json();
    assert_eq!((all["vms"].clone(), all["rules"][0]["uuid"].clone()), (json!([]), json!(RULE)));
    let errors = node.with_input(&["-j", "add"], &json!({"rules": []}));
    assert_eq!(errors.status, Some(1));
    let expected = json!({"errors": [{"message": "Payload must contain one of: rules, localVMs, remoteVMs"}]});
    assert_eq!(serde_json::from_str::<Value>(&errors.stderr).unwrap(), expected);
    let several = node.with_input(&["add"], &json!({"rules": [{"enabled": "x", "log": 1, "global": true, "rule": ALL}]}));
    several.failed(1, "enabled must be true or false\nlog must be true or false");
    assert_eq!(
        node.with_input(&["add-rvm"], &json!({"remoteVMs": [{"uuid": remote, "ips": ["10.9.0.2"]}]})).ok(),
        format!("Added remote VMs:\n{remote}\n")
    );
    assert_eq!(node.run(&["delete-rvm", remote]).ok(), format!("Deleted remote VMs:\n{remote}\n"));
    node.run(&["get-rvm", remote]).failed(1, &format!("Unknown remote VM \"{remote}\""));
}

/// firewaller cases C7, E-ST6; what is named on which side
#[test]
fn what_a_rule_and_a_vm_have_to_do_with_each_other_and_what_is_in_force() {
    let node = Node::new();
    let (vm, off) = (node.instance(1, true), node.instance(2, false));
    node.add(RULE, true, ALL);
    node.add(OTHER, false, &format!("FROM vm {off} TO ip 8.8.8.8 BLOCK udp PORT 53"));
    assert_eq!(node.run(&["vms", RULE]).ok(), format!("{vm}\n"));
    assert_eq!(node.run(&["vms", OTHER]).ok(), "");
    assert_eq!(node.run(&["rules", "-p", "-o", "uuid", &off.to_string()]).ok(), format!("{RULE}\n{OTHER}\n"));
    let table = nft("list table bridge triton_fw");
    assert!(
        table.contains(&vm.to_string()) && table.contains(&format!("comment \"{RULE}\"")) && !table.contains(&off.to_string()),
        "{table}"
    );
    assert_eq!(node.run(&["stats", &vm.to_string()]).ok(), format!("{:<10} {ALL}\n", 0));
    assert_eq!(node.run(&["-j", "stats", &vm.to_string()]).json(), json!([{"hits": "0", "rule": ALL}]));
    node.run(&["stats", &off.to_string()]).failed(1, &format!("Firewall is not running for VM \"{off}\""));
    // It does not run: nothing filters it, though all is ready for its start.
    assert_eq!(node.run(&["status", &vm.to_string()]).ok(), "stopped\n");
    let details = node.run(&["-j", "status", &vm.to_string()]).json();
    assert_eq!(details, json!({"running": false, "firewall_enabled": true, "vm_state": "stopped", "in_force": true, "rules": 1}));
    node.run(&["delete", RULE]).ok();
    assert!(nft("list table bridge triton_fw").contains(&vm.to_string()), "the default policy remains");
    assert_eq!(node.run(&["-j", "stats", &vm.to_string()]).json(), json!([]));
    node.run(&["status", OTHER]).failed(1, &format!("VM \"{OTHER}\" not found"));
}

/// Ruling 1: an instance that cannot be read stays filtered as it was, and bad files stop nobody.
#[test]
fn what_cannot_be_read_takes_no_filter_away() {
    let node = Node::new();
    let (vm, other) = (node.instance(1, true), node.instance(2, true));
    node.add(RULE, true, ALL);
    let before = in_force();
    fs::write(node.layout().machine(vm), "{ half").unwrap();
    fs::write(node.layout().at(&format!("/var/fw/rules/{OTHER}.json")), "{ half").unwrap();
    node.add("10000000-0000-4000-8000-000000000003", false, ALL);
    assert_eq!(in_force(), before);
    let listed = node.run(&["list", "-p"]);
    assert!(listed.stderr.contains(&format!("{OTHER}.json cannot be used")), "{}", listed.stderr);
    assert_eq!(listed.ok().lines().count(), 2);
    let affected = node.run(&["-j", "disable", RULE]).json();
    assert_eq!(affected["vms"], json!([vm, other]));
}

/// Ruling 9; firewaller case E-ST7
#[test]
fn a_table_that_somebody_flushed_is_whole_after_the_next_change() {
    let node = Node::new();
    node.instance(1, true);
    node.add(RULE, true, ALL);
    let before = in_force();
    nft("flush ruleset");
    node.with_input(&["add-rvm"], &json!({"uuid": "20000000-0000-4000-8000-000000000001", "ips": ["10.9.0.1"]})).ok();
    assert_eq!(in_force(), before);
    node.instance(1, false);
    node.run(&["delete-rvm", "20000000-0000-4000-8000-000000000001"]).ok();
    assert_eq!(nft("list table bridge triton_fw"), "", "nobody is filtered: there is no table");
    node.instance(1, true);
    node.run(&["disable", RULE]).ok();
    node.run(&["enable", RULE]).ok();
    assert_eq!(in_force(), before);
}

/// Ruling 53: killed at each step, the next change puts everything right.
#[test]
fn killed_at_any_step_the_old_table_or_the_new_one_is_in_force() {
    let node = Node::new();
    node.instance(1, true);
    node.add(RULE, true, ALL);
    let old = in_force();
    let rule =
        json!({"uuid": OTHER, "owner_uuid": OWNER, "enabled": true, "version": "1.1", "rule": "FROM any TO all vms ALLOW tcp PORT 23"});
    for step in ["firewall.file", "firewall.stored", "firewall.before-commit", "firewall.committed"] {
        let mut command = node.command(env!("CARGO_BIN_EXE_fwadm"), &["add"]);
        let mut child = command.env("TRITON_STEP_KILL", step).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(rule.to_string().as_bytes()).unwrap();
        assert!(!child.wait_with_output().unwrap().status.success(), "{step}");
        let now = in_force();
        assert!(if step == "firewall.committed" { now != old } else { now == old }, "{step}\n{now:?}");
        node.run(&["delete", OTHER]).ok();
        assert_eq!(in_force(), old, "{step}");
    }
}

/// Ruling 27
#[test]
fn parse_needs_no_node_and_answers_each_line() {
    let node = Node::new();
    let mut child = node.command(env!("CARGO_BIN_EXE_fwadm"), &["parse"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from any to all vms allow tcp port 22\nnonsense\n").unwrap();
    let lines: Vec<Value> =
        Ran::of(child.wait_with_output().unwrap()).ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({"ok": true, "rule": ALL}));
    assert_eq!((lines[1]["ok"].clone(), lines[1]["error"].is_string()), (json!(false), true));
    assert!(node.run(&["completion", "bash"]).ok().contains("rvm-rules"));
    assert!(node.run(&["help", "list"]).ok().contains("delimiter"));
}
