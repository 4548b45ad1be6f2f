//! The program `nictagadm`, in a network namespace with two NICs; `ip` is the judge of what takes effect.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{fs, process::Command};

use triton_files::Layout;
use triton_link::{Entered, NetNs};
use triton_types::{InstanceUuid, Lifecycle, Mac, MachineFile, Nic, VmConfig};

const NIC0: &str = "00:0c:29:01:02:03";
const NIC1: &str = "00:0c:29:01:02:04";

/// A root, and a namespace with `eth1` and `eth2` that the test's thread is inside.
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
    fn new(document: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        Layout::new(root.path()).prepare().unwrap();
        let entered = NetNs::create().unwrap().enter().unwrap();
        let node = Self { root, _entered: entered };
        for (nic, mac) in [("eth1", NIC0), ("eth2", NIC1)] {
            ip(&format!("link add {nic} address {mac} type veth peer name far{nic}"));
            ip(&format!("link set far{nic} up"));
        }
        fs::write(node.file(), document).unwrap();
        node
    }

    fn layout(&self) -> Layout {
        Layout::new(self.root.path())
    }

    fn file(&self) -> std::path::PathBuf {
        self.layout().config().join("triton-networking.json")
    }

    fn document(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap()
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nictagadm"));
        let output = command.env_remove("TRITON_ROOT").arg("--root").arg(self.root.path()).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// An instance with one NIC on `tag`.
    fn instance(&self, tag: &str) -> InstanceUuid {
        let uuid = InstanceUuid::random();
        let mut config = VmConfig::bare(uuid);
        config.nics.push(Nic::new("net0".to_owned(), Mac([2, 8, 0x20, 0, 0, 1]), tag.parse().unwrap()));
        let file = MachineFile { format: MachineFile::FORMAT, lifecycle: Lifecycle::Installed, storage: None, config };
        fs::write(self.layout().machine(uuid), serde_json::to_vec(&file).unwrap()).unwrap();
        uuid
    }
}

impl Ran {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }
    #[track_caller]
    fn failed(self, stderr: &str) {
        assert_eq!((self.status, self.stderr.as_str(), self.stdout.as_str()), (Some(1), format!("{stderr}\n").as_str(), ""));
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// net-agent case 52
#[test]
fn a_tag_is_stored_with_its_whole_mac_and_what_cannot_be_is_refused() {
    let node = Node::new(r#"{"hostname":"cn1"}"#);
    assert_eq!(node.run(&["add", "external", "0:c:29:1:2:3"]).ok(), "");
    assert_eq!(node.document(), serde_json::json!({"hostname": "cn1", "nictags": [{"name": "external", "mac": NIC0}]}));
    node.run(&["add", "external", NIC0]).failed("Error: nic tag \"external\" already exists");
    node.run(&["add", "internal", "0:c:29:1:2:99"]).failed("Error: no physical nic has the MAC address 00:0c:29:01:02:99");
    node.run(&["add", "-p", "mtu=1400", "internal", NIC1]).failed("Error: MTU 1400 is out of range: 1500 to 9000");
    node.run(&["add", "internal", "aggr0"]).failed("Error: aggregation \"aggr0\" does not exist");
    node.run(&["add", "internal"]).failed("Error: a MAC address or an aggregation is needed; -l adds an etherstub");
    node.run(&["add", "-l", "stub0", NIC1]).failed("Error: an etherstub has no MAC address");
    node.run(&["add", "-p", "mtu=x", "internal", NIC1]).failed("Error: \"x\" is no MTU: 1500 to 9000");
    node.run(&["add", "-p", "colour=red", "a", NIC1]).failed("Error: invalid property \"colour=red\": mac=... or mtu=...");
    node.run(&["add", "-p", &format!("mac={NIC1}"), "a", NIC1]).failed("Error: the MAC address was given twice");
    assert_eq!(node.run(&["add", "no-tag", NIC1]).status, Some(1));
    assert_eq!(node.run(&["add", "-l", "stub"]).status, Some(1), "an etherstub's name ends in a digit");
    assert_eq!(node.document()["nictags"].as_array().unwrap().len(), 1);
}

/// net-agent case 53
#[test]
fn scripts_get_fields_with_a_delimiter_and_people_a_table() {
    let node = Node::new(
        r#"{"nictags":[{"name":"external","mac":"0:c:29:1:2:3"},{"name":"bonded","mac":"aggr0"},{"name":"stub0","mac":"-"},{"name":"away"}],
        "aggregations":[{"name":"aggr0","macs":["0:c:29:1:2:4"]}],"nictag_rules":{"sdc_overlay":"-t vxlan"}}"#,
    );
    let lines = "away:-:-:normal\nbonded:-:aggr0:aggr\nexternal:00\\:0c\\:29\\:01\\:02\\:03:eth1:normal\nstub0:-:-:etherstub\n";
    assert_eq!(node.run(&["list", "-p"]).ok(), format!("{lines}sdc_overlay:-:-:overlay rule\n"));
    let listed = node.run(&["list", "-p", "-d", "|"]).ok();
    assert!(listed.lines().any(|line| line == "external|00:0c:29:01:02:03|eth1|normal"), "{listed}");
    assert_eq!(node.run(&["list", "-l", "-p"]).ok(), "stub0:-:-:etherstub\n");
    assert!(!node.run(&["list", "-L"]).ok().contains("stub0"));
    let table = node.run(&["list"]).ok();
    let fields: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(fields[0], ["NAME", "MACADDRESS", "LINK", "TYPE"]);
    assert_eq!(fields[3], ["external", "00:0c:29:01:02:03", "eth1", "normal"]);
    node.run(&["list", "-d", "|"]).failed("Error: -d needs -p");
    node.run(&["list", "-l", "-L"]).failed("Error: -l and -L exclude each other");
}

/// net-agent case 54
#[test]
fn existence_is_told_by_the_exit_status_and_what_is_missing_by_name() {
    let node = Node::new(&format!(r#"{{"nictags":[{{"name":"a","mac":"{NIC0}"}}],"nictag_rules":{{"sdc_overlay":"-t vxlan"}}}}"#));
    node.run(&["exists", "a"]).ok();
    node.run(&["exists", "a", "b"]).failed("Error: nic tag \"b\" does not exist");
    node.run(&["exists", "-l", "a", "b", "c-d"]).failed("b\nc-d");
    assert_eq!(node.run(&["exists", "sdc_overlay"]).status, Some(1));
    node.run(&["exists", "sdc_overlay/42", "sdc_overlay/0", "sdc_overlay/4294967294"]).ok();
    for name in ["sdc_overlay/4294967295", "sdc_overlay/", "sdc_overlay/-1", "sdc_overlay/x", "other/1", ""] {
        assert_eq!(node.run(&["exists", name]).status, Some(1), "{name}");
    }
}

/// net-agent case 55
#[test]
fn a_tag_in_use_is_deleted_only_by_force() {
    let node = Node::new(&format!(
        r#"{{"nictags":[{{"name":"admin","mac":"{NIC0}"}},{{"name":"a","mac":"{NIC1}"}},{{"name":"b","mac":"{NIC1}"}}],"etherstubs":["stub0"]}}"#
    ));
    let uuid = node.instance("a");
    assert_eq!(node.run(&["vms", "a"]).ok(), format!("{uuid}\n"));
    assert_eq!(node.run(&["vms", "b"]).ok(), "");
    node.run(&["delete", "a"]).failed(&format!("Error: nic tag \"a\" is in use by 1 instance: {uuid}"));
    node.run(&["delete", "-f", "a"]).ok();
    assert_eq!(node.run(&["exists", "a"]).status, Some(1));
    node.run(&["delete", "a"]).failed("Error: nic tag \"a\" does not exist");
    node.run(&["delete", "-f", "admin"]).failed("Error: nic tag \"admin\" is the admin network's");
    node.run(&["delete", "stub0"]).ok();
    assert_eq!(node.document()["etherstubs"], serde_json::json!([]));

    let unreadable = InstanceUuid::random();
    fs::write(node.layout().machine(unreadable), "{").unwrap();
    node.run(&["delete", "b"]).failed("Error: nic tag \"b\" may be in use: 1 instance cannot be read");
    let told = node.run(&["vms", "b"]);
    assert!(told.status == Some(1) && told.stderr.contains(&unreadable.to_string()), "{}", told.stderr);
    fs::remove_file(node.layout().marker()).unwrap();
    let absent = node.run(&["delete", "b"]);
    assert!(absent.status == Some(1) && absent.stderr.contains("store of instances"), "an absent store is not none: {}", absent.stderr);
    assert_eq!(node.run(&["exists", "b"]).status, Some(0));
}

#[test]
fn changes_take_effect_at_once_where_that_is_safe() {
    let node = Node::new("{}");
    let tag = |name: &str| triton_nictag::NicTags::load(&node.layout()).unwrap().bridge(&name.parse().unwrap()).unwrap();
    node.run(&["add", "external", NIC0]).ok();
    let first = tag("external");
    assert!(ip("-json link show eth1").contains(&format!(r#""master":"{first}""#)));
    let told = node.run(&["update", "-p", "mtu=9000", "external"]).ok();
    assert!(told.contains("next boot"), "{told}");
    assert!(ip(&format!("-json link show {first}")).contains(r#""mtu":9000"#));
    node.run(&["update", "external", NIC1]).ok();
    assert_ne!(tag("external"), first);
    assert!(ip("-json link show eth2").contains(&format!(r#""master":"{}""#, tag("external"))));
    assert!(node.run(&["-v", "add", "-l", "stub7"]).stderr.contains("+ adding nic tag stub7"));
    assert!(ip("-json link show type bridge").contains(&tag("stub7")));

    ip("link set eth1 nomaster");
    ip("addr add 10.1.2.3/24 dev eth1");
    let warned = node.run(&["add", "admin", NIC0]);
    assert_eq!(warned.status, Some(0));
    assert!(warned.stderr.starts_with("Warning: nic tag admin: nic eth1 carries 10.1.2.3/24"), "{}", warned.stderr);
}

#[test]
fn updates_need_something_to_change_on_a_tag_that_has_a_nic() {
    let node = Node::new(&format!(r#"{{"nictags":[{{"name":"a","mac":"{NIC0}"}},{{"name":"stub0","mac":"-"}}]}}"#));
    node.run(&["update", "a"]).failed("Error: nothing to change: a MAC address or an MTU is needed");
    node.run(&["update", "none", NIC0]).failed("Error: nic tag \"none\" does not exist");
    node.run(&["update", "-l", "stub0"]).failed("Error: an etherstub cannot be updated");
    node.run(&["update", "stub0", NIC0]).failed("Error: nic tag \"stub0\" has no nic and cannot be updated");
}

#[test]
fn wrong_usage_has_a_status_of_its_own_and_help_is_on_standard_output() {
    let node = Node::new("{}");
    for words in [&[][..], &["explode"], &["add"], &["exists"], &["delete"], &["vms"], &["list", "-x"]] {
        let ran = node.run(words);
        assert!(ran.status == Some(2) && ran.stdout.is_empty() && ran.stderr.contains("Usage"), "{words:?}: {}", ran.stderr);
    }
    assert!(node.run(&["help"]).ok().contains("etherstub") || node.run(&["help", "add"]).ok().contains("etherstub"));
    assert!(node.run(&["help", "delete"]).ok().contains("-f"));
    assert!(node.run(&["--help"]).ok().contains("Exit status"));
    assert!(node.run(&["completion", "bash"]).ok().contains("nictagadm"));
    assert_eq!(node.run(&["help", "explode"]).status, Some(1));
}
