//! On files below a temporary root, and on the real kernel in namespaces of their own, where the ends of veths serve as
//! NICs; `ip -json` is the judge.

use std::{fs, process::Command};

use tempfile::TempDir;
use triton_files::Layout;
use triton_link::{Entered, NetNs};
use triton_types::NicTag;

use crate::{NicTagError, NicTags};

mod bridges;
mod changes;
mod fabrics;
mod further;

/// The MACs of the two NICs of a [`Node`].
const NIC0: &str = "02:00:00:00:00:10";
const NIC1: &str = "02:00:00:00:00:11";

/// A root and a namespace with two NICs, `nic0` and `nic1`; the test's thread is inside.
struct Node {
    root: TempDir,
    layout: Layout,
    _entered: Entered,
    _cables: NetNs,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.config()).unwrap();
        let (here, cables) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let entered = here.enter().unwrap();
        let node = Self { root, layout, _entered: entered, _cables: cables.clone() };
        let inside = cables.enter().unwrap();
        run("ip link add switch type bridge");
        drop(inside);
        for (nic, mac) in [("nic0", NIC0), ("nic1", NIC1)] {
            run(&format!("ip link add {nic} address {mac} type veth peer name far{nic}"));
            node.plug(&format!("far{nic}"), &cables);
        }
        node
    }

    fn plug(&self, far: &str, cables: &NetNs) {
        use std::os::fd::AsFd;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            triton_link::Links::open().unwrap().move_to_netns(far, cables.as_fd(), None).await.unwrap();
            triton_link::Links::of(cables.clone()).set_up(far).await.unwrap();
        });
    }

    fn write(&self, text: &str) {
        fs::write(self.layout.config().join("triton-networking.json"), text).unwrap();
    }

    fn read(&self) -> String {
        fs::read_to_string(self.layout.config().join("triton-networking.json")).unwrap()
    }

    fn tags(&self) -> NicTags {
        assert!(self.root.path().exists());
        NicTags::load(&self.layout).unwrap()
    }

    fn refused(&self) -> NicTagError {
        NicTags::load(&self.layout).unwrap_err()
    }
}

/// Runs a command in the thread's namespace; its output.
fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn tag(name: &str) -> NicTag {
    name.parse().unwrap()
}

#[test]
fn no_file_is_no_tags_and_says_so() {
    let node = Node::new();
    let tags = node.tags();
    assert!(!tags.has_file() && tags.iter().next().is_none() && tags.admin().as_str() == "admin");
    node.write("{}");
    assert!(node.tags().has_file());
}

#[test]
fn a_file_that_cannot_be_understood_is_never_no_tags() {
    let node = Node::new();
    for (text, wanted) in [
        ("", "JSON"),
        ("[]", "JSON"),
        (r#"{"nictags":{}}"#, "nictags: not an array"),
        (r#"{"nictags":[{"mac":"-"}]}"#, "nictags[0].name"),
        (r#"{"nictags":[{"name":"a"},{"name":"b c"}]}"#, "nictags[1].name"),
        (r#"{"nictags":[{"name":"a","mac":"no aggregation"}]}"#, "nictags[0].mac"),
        (r#"{"etherstubs":["stub0","b c"]}"#, "etherstubs[1]"),
        (r#"{"etherstubs":"stub0"}"#, "etherstubs: not an array"),
        (r#"{"nictags":[{"name":"a","mtu":1400}]}"#, "nictags[0].mtu"),
        (r#"{"nictags":[{"name":"a","mtu":"1500"}]}"#, "nictags[0].mtu"),
        (r#"{"admin_tag":7}"#, "admin_tag"),
    ] {
        node.write(text);
        let error = node.refused().to_string();
        assert!(error.contains(wanted) && error.contains("triton-networking.json"), "{text}: {error}");
    }
    fs::remove_file(node.layout.config().join("triton-networking.json")).unwrap();
    fs::create_dir(node.layout.config().join("triton-networking.json")).unwrap();
    assert!(matches!(node.refused(), NicTagError::File(_)));
}

#[test]
fn tags_are_read_with_their_nics_and_the_first_of_a_name_counts() {
    let node = Node::new();
    node.write(
        r#"{"admin_tag":"mgmt","nictags":[{"name":"mgmt","mac":"2:0:0:0:0:10","uuid":"u","mtu":1500},
        {"name":"internal","mac":"-"},{"name":"stub0"},{"name":"mgmt","mac":"02:00:00:00:00:11"}]}"#,
    );
    let tags = node.tags();
    let mgmt = tags.get(&tag("mgmt")).unwrap();
    assert_eq!((mgmt.mac().unwrap().to_string().as_str(), mgmt.uuid.as_deref(), mgmt.mtu), (NIC0, Some("u"), Some(1500)));
    assert!(tags.contains(&tag("internal")) && tags.get(&tag("stub0")).unwrap().mac().is_none());
    assert!(!tags.contains(&tag("admin")) && tags.bridge(&tag("admin")).is_none());
    assert_eq!((tags.iter().count(), tags.admin().as_str()), (3, "mgmt"));
}

#[test]
fn names_of_bridges_are_ours_fit_the_kernel_and_never_change() {
    let node = Node::new();
    node.write(&format!(
        r#"{{"nictags":[{{"name":"admin","mac":"{NIC0}"}},{{"name":"external","mac":"{NIC0}"}},{{"name":"a","mac":"{NIC1}"}},{{"name":"b"}},{{"name":"c"}}]}}"#
    ));
    let tags = node.tags();
    let names: Vec<String> = ["admin", "external", "a", "b", "c"].map(|name| tags.bridge(&tag(name)).unwrap()).to_vec();
    assert_eq!(names[0], names[1], "one bridge per uplink");
    assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    assert!(names.iter().all(|name| name.len() <= 15 && name.starts_with("tb")));
    assert_eq!(names[0], EXPECTED_NIC0, "running instances count on it");
}

#[test]
fn a_tag_may_be_on_an_aggregation_and_its_nics_provide_nothing_by_themselves() {
    let node = Node::new();
    node.write(&format!(
        r#"{{"nictags":[{{"name":"a","mac":"aggr0"}},{{"name":"b","mac":"{NIC0}"}},{{"name":"c","mac":"{NIC1}"}}],"etherstubs":["stub0","c"],
        "aggregations":[{{"name":"aggr0","macs":["{NIC0}"],"lacp_mode":"off"}}],"nictag_rules":{{"sdc_overlay":"-t vxlan"}}}}"#
    ));
    let tags = node.tags();
    assert_eq!(tags.bridge(&tag("a")), tags.bridge(&tag("b")));
    assert_ne!(tags.bridge(&tag("a")), tags.bridge(&tag("c")));
    let stubs: Vec<_> = tags.iter().filter(|tag| tag.etherstub).map(|tag| tag.name.as_str()).collect();
    assert_eq!((stubs, tags.overlay_rules().collect::<Vec<_>>()), (vec!["stub0"], vec!["sdc_overlay"]));
}

/// The bridge of [`NIC0`].
const EXPECTED_NIC0: &str = "tb5c287a3053";
