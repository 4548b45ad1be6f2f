//! The upkeep of the guard, in a network namespace of its own, with instances that are files and links that are real.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{
    process::Command,
    time::{Duration, Instant},
};

use net_agent::{Guarding, Numbers};
use nix::sched::{CloneFlags, unshare};
use triton_files::Layout;
use triton_instance::{Machines, RunStates, host_link};
use triton_types::{InstanceUuid, Lifecycle, MachineFile, Nic, RunPhase, VmConfig};

fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Node {
    layout: Layout,
    _root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        Self { layout, _root: root }
    }

    /// An instance with a NIC, its link there or not.
    fn instance(&self, address: &str, phase: RunPhase, with_link: bool) -> (InstanceUuid, String) {
        let uuid = InstanceUuid::random();
        let [.., a, b] = *uuid.as_uuid().as_bytes();
        let mut config = VmConfig::bare(uuid);
        let mut nic = Nic::new("net0", triton_types::Mac([2, 8, 0x20, 0, a, b]), "external".parse().unwrap());
        nic.ips = vec![format!("{address}/24").parse().unwrap()];
        config.nics = vec![nic];
        let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config };
        Machines::new(&self.layout).write(&file).unwrap();
        RunStates::new(&self.layout).update(uuid, |run| run.phase = phase).unwrap();
        let link = host_link(uuid, "net0");
        if with_link {
            run(&format!("ip link add {link} type veth"));
        }
        (uuid, link)
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come: {}", run("nft list ruleset"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// net-agent case 78, rulings 9 and 25
#[test]
fn kernel_the_guard_is_restored_at_start_and_after_every_flush_with_the_links_that_are_there() {
    let node = Node::new();
    let (_, running) = node.instance("10.0.0.5", RunPhase::Running, true);
    let (_, starting) = node.instance("10.0.0.6", RunPhase::Starting, false);
    let (_, stopped) = node.instance("10.0.0.7", RunPhase::Stopped, false);
    let numbers = Numbers::default();
    let guarding = Guarding::start(&node.layout, &numbers).unwrap();
    let rules = run("nft list table bridge triton_guard");
    assert!(rules.contains(&running) && rules.contains(&starting) && !rules.contains(&stopped), "{rules}");
    for round in 2..5 {
        let begun = Instant::now();
        run(if round == 3 { "nft flush chain bridge triton_guard from_guests" } else { "nft flush ruleset" });
        until("the repair", || numbers.status()["guard_repairs"] == round);
        assert!(run("nft list table bridge triton_guard").contains(&running));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(numbers.status()["guard_in_force"], true);
    drop(guarding);
}

/// net-agent case 77
#[test]
fn kernel_a_table_that_went_with_its_last_nic_is_not_made_again() {
    let node = Node::new();
    let (uuid, link) = node.instance("10.0.0.5", RunPhase::Running, true);
    let numbers = Numbers::default();
    let guarding = Guarding::start(&node.layout, &numbers).unwrap();
    // As a stop does it: the link first, then its guard, then the state.
    run(&format!("ip link delete {link}"));
    triton_guard::Guard::open(&node.layout).unwrap().forget(&[link]).unwrap();
    let (_, other) = node.instance("10.0.0.6", RunPhase::Running, false);
    RunStates::new(&node.layout).update(uuid, |run| run.phase = RunPhase::Stopped).unwrap();
    // The next change of anybody's rules is looked at: nothing is to be guarded then either.
    run("nft add table bridge somebody");
    run("nft delete table bridge somebody");
    assert_eq!(run("nft list ruleset"), "");
    assert_eq!(numbers.status()["guard_repairs"], 1);
    // A link that comes without a guard, and a change: it is guarded.
    run(&format!("ip link add {other} type veth"));
    run("nft add table bridge triton_guard");
    until("the guard of the second", || numbers.status()["guard_repairs"] == 2);
    assert!(run("nft list table bridge triton_guard").contains(&other));
    drop(guarding);
}

/// net-agent section 16, ruling 9
#[test]
fn kernel_elements_that_somebody_added_or_removed_by_hand_are_put_right() {
    let node = Node::new();
    let (_, link) = node.instance("10.0.0.5", RunPhase::Running, true);
    let (_, other) = node.instance("10.0.0.6", RunPhase::Running, true);
    let numbers = Numbers::default();
    let guarding = Guarding::start(&node.layout, &numbers).unwrap();
    let rules = || run("nft list table bridge triton_guard");
    let right = |what: &str, is: &dyn Fn(&str) -> bool| {
        until(what, || is(&rules()));
        assert!(rules().contains(&other), "the other one's entries stay");
    };
    run(&format!("nft delete element bridge triton_guard address4 {{ {link} . 10.0.0.5 }}"));
    right("the address", &|rules| rules.contains(&format!("\"{link}\" . 10.0.0.5")));
    run(&format!("nft add element bridge triton_guard address4 {{ {link} . 10.0.0.66 }}"));
    right("the end of an address that is not the NIC's", &|rules| !rules.contains("10.0.0.66"));
    run(&format!("nft add element bridge triton_guard any_address {{ {link} }}"));
    right("the end of a permission", &|_| !run("nft list set bridge triton_guard any_address").contains(&link));
    run(&format!("nft delete element bridge triton_guard known {{ {link} }}"));
    right("the link", &|_| run("nft list set bridge triton_guard known").contains(&link));
    // A link that is no NIC's gets nothing.
    run("ip link add vtstrange type veth");
    run("nft add element bridge triton_guard known { vtstrange }");
    right("the end of a stranger", &|rules| !rules.contains("vtstrange"));
    assert!(numbers.status()["guard_repairs"].as_u64().unwrap() >= 6);
    drop(guarding);
}

/// ruling 9: the node's own firewall, too, by the platform's own script
#[test]
fn kernel_the_nodes_own_firewall_is_made_anew_after_whatever_others_do_to_it() {
    let node = Node::new();
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../../platform/overlay/usr/triton/bin/host-firewall");
    let script = if std::path::Path::new(ours).exists() { ours } else { "/usr/triton/bin/host-firewall" };
    let place = node.layout.at("/usr/triton/bin/host-firewall");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(script, &place).unwrap();
    let networks = node.layout.at("/etc/triton/admin-networks");
    std::fs::create_dir_all(networks.parent().unwrap()).unwrap();
    std::fs::write(networks, "link admin\nnetwork 10.0.0.0/24\n").unwrap();

    let numbers = Numbers::default();
    let guarding = Guarding::start(&node.layout, &numbers).unwrap();
    let repairs = || numbers.status()["host_firewall_repairs"].as_u64().unwrap();
    let rules = || {
        let output = Command::new("nft").args(["-s", "list", "table", "inet", "triton_host"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    until("the firewall at start", || repairs() == 1);
    let own = rules();
    assert!(own.contains("10.0.0.0/24") && own.contains("\"admin\""), "{own}");
    let by_hand = [
        "nft flush ruleset",
        "nft delete table inet triton_host",
        "nft flush chain inet triton_host input",
        "nft add element inet triton_host admin_links { outside }",
        "nft insert rule inet triton_host input accept",
    ];
    for (before, by_hand) in (1..).zip(by_hand) {
        run(by_hand);
        until(by_hand, || repairs() > before && rules() == own);
    }
    // What it does itself, and what others do elsewhere, is no reason to do it again.
    let before = repairs();
    run("nft add table inet somebody");
    run("nft delete table inet somebody");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(repairs(), before);
    std::fs::write(&place, "#!/bin/sh\necho no >&2\nexit 3\n").unwrap();
    run("nft flush ruleset");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!((repairs(), rules()), (before, String::new()), "a script that fails is tried again, and ends nothing");
    std::fs::copy(script, &place).unwrap();
    until("the firewall once the script is right", || rules() == own);
    drop(guarding);
}

/// design section 10: a node that nobody has configured yet is no hung agent, however long that takes.
#[test]
fn kernel_an_agent_that_waits_for_its_configuration_is_alive_to_the_watchdog() {
    let node = Node::new();
    let path = node.layout.root().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_net-agent"))
        .arg("--root")
        .arg(node.layout.root())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .spawn()
        .unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while said.matches("WATCHDOG=1").count() < 4 && Instant::now() < deadline {
        let Ok(length) = socket.recv(&mut buffer) else { break };
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
        said.push('\n');
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(said.contains("READY=1") && said.contains("waiting for net-agent.config.json"), "{said}");
    assert!(said.matches("WATCHDOG=1").count() >= 4, "{said}");
}
