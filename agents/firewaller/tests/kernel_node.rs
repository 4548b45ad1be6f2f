//! The program on a real kernel, in a network namespace of its own: a bridge with two guests (namespaces with a link each), machine files
//! that say so, and a stand-in headnode. Packets say what is in force.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use headnode_standin::{Standin, StandinConfig};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use triton_files::Layout;
use triton_instance::{Machines, firewall::local_vms};
use triton_link::NetNs;
use triton_types::{IdRange, InstanceUuid, Lifecycle, Mac, MachineFile, Nic, Ownership, StorageKind, StorageRecord, VmConfig};

const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";
const CLIENT: &str = "10000000-0000-4000-8000-000000000001";
const WEB: &str = "10000000-0000-4000-8000-000000000002";

fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `test` in a new network namespace, which ends with it.
fn kernel(test: impl FnOnce() + Send + 'static) {
    let run_it = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        test();
    };
    if let Err(panic) = std::thread::spawn(run_it).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A guest: a namespace, and a process that keeps it for `ip`.
struct Guest {
    netns: NetNs,
    holder: Child,
}

impl Guest {
    /// Its link is a port of `br0`.
    fn new(link: &str, address: &str, mac: &str) -> Self {
        let netns = NetNs::create().unwrap();
        let holder = netns.run(|| Command::new("sleep").arg("1000").spawn().unwrap()).unwrap();
        run(&format!("ip link add {link} type veth peer name eth0 address {mac} netns {}", holder.id()));
        run(&format!("ip link set {link} master br0"));
        run(&format!("ip link set {link} up"));
        netns
            .run(|| {
                run("ip link set lo up");
                run(&format!("ip address add {address}/24 dev eth0"));
                run("ip link set eth0 up");
            })
            .unwrap();
        Self { netns, holder }
    }

    /// Whether a connection gets so far that the other end refuses it: nobody listens there.
    fn reaches(&self, to: &str, port: u16) -> bool {
        let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
        let result = self.netns.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(700))).unwrap();
        result.unwrap_err().kind() == std::io::ErrorKind::ConnectionRefused
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

struct Node {
    layout: Layout,
    standin: Standin,
    guests: Vec<Guest>,
    agent: Option<Child>,
    _root: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Ok(text) = fs::read_to_string(self.layout.at("/agent.log"))
        {
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            eprintln!("--- agent.log (newest first)\n{}", tail.join("\n"));
        }
    }
}

impl Node {
    /// Two instances of one owner with their firewalls on; `web` has the tag role = web.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        let machines = Machines::new(&layout);
        for (number, (uuid, tags)) in (5_u8..).zip([(CLIENT, json!({})), (WEB, json!({"role": "web"}))]) {
            let mut config = VmConfig::bare(uuid.parse().unwrap());
            config.zpool = Some("zones".to_owned());
            config.owner_uuid = Some(OWNER.to_owned());
            config.firewall_enabled = true;
            config.tags.extend(tags.as_object().unwrap().clone());
            let mut nic = Nic::new("net0", Mac([2, 8, 0x20, 0, 0, number]), "external".parse().unwrap());
            nic.ips = vec![format!("10.64.0.{number}/24").parse().unwrap()];
            config.nics.push(nic);
            let ids = IdRange { base: 1_000_000 * u32::from(number), size: 65_536 };
            let storage = StorageRecord { kind: StorageKind::Dir, ids, ownership: Some(Ownership::Idmapped) };
            fs::create_dir_all(layout.at(&format!("/zones/{uuid}/root"))).unwrap();
            let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: Some(storage), config };
            machines.write(&file).unwrap();
            machines.write_documents(&file).unwrap();
        }
        run("ip link add br0 type bridge mcast_snooping 0");
        run("ip link set br0 up");
        let mut locals = local_vms(&layout).unwrap();
        locals.sort_by_key(|vm| vm.facts.uuid);
        let ends = [("10.64.0.5", "02:08:20:00:00:05"), ("10.64.0.6", "02:08:20:00:00:06")];
        let guests = locals.iter().zip(ends).map(|(vm, (address, mac))| Guest::new(&vm.ports[0].link, address, mac)).collect();
        let standin = Standin::start(StandinConfig::loopback(root.path().join("images")).unwrap()).unwrap();
        let node = Self { layout, standin, guests, agent: None, _root: root };
        let (host, port) = node.standin.fast_address().rsplit_once(':').unwrap();
        let config = json!({"fwapi": {"url": node.standin.fwapi_url(), "fast": {"host": host, "port": port.parse::<u16>().unwrap()}},
            "vmapi": {"url": node.standin.vmapi_url()}, "syncJitter": 0});
        let path = node.layout.at("/opt/smartdc/agents/etc/firewaller.config.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, config.to_string()).unwrap();
        node
    }

    fn run(&mut self, environment: &[(&str, &str)]) {
        let log = fs::File::options().create(true).append(true).open(self.layout.at("/agent.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_firewaller"));
        command.arg("--root").arg(self.layout.root()).env("ADMIN_IP", "127.0.0.1").envs(environment.iter().copied());
        self.agent = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn status(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firewaller"));
        let output = command.arg("--root").arg(self.layout.root()).args(["status", "-j"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.status()[name].as_u64().unwrap_or_default()
    }

    /// Starts it, and waits until it is in step with FWAPI, subscribed and in step with it again: what a test edits by hand after
    /// this no comparison undoes that was due anyhow.
    fn start(&mut self) {
        self.run(&[]);
        until("firewaller is ready, subscribed and has compared since", || {
            let status = self.status();
            status["ready"] == true && status["subscribed"] == true && status["syncs"].as_u64() >= Some(2)
        });
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// Waits until a step has killed it.
    fn killed(&mut self) {
        let mut agent = self.agent.take().unwrap();
        let mut status = None;
        until("the step kills it", || {
            status = agent.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().signal(), Some(9));
    }

    /// Asks FWAPI or the agent; status and body.
    fn ask(&self, base: &str, method: http::Method, path: &str, body: Option<&Value>) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = triton_headnode::HttpClient::new(triton_headnode::HttpOptions::new("test"));
        let mut call = triton_headnode::Call::new(method, path);
        call.body = body.map(|body| body.to_string().into_bytes().into());
        let reply = runtime.block_on(client.call(&base.parse().unwrap(), call)).unwrap();
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// A rule in FWAPI; its uuid.
    fn rule(&self, text: &str) -> String {
        let rule = json!({"rule": text, "owner_uuid": OWNER, "enabled": true});
        let made = self.ask(self.standin.fwapi_url(), http::Method::POST, "/rules", Some(&rule));
        made["uuid"].as_str().unwrap().to_owned()
    }

    fn change(&self, uuid: &str, fields: &Value) {
        self.ask(self.standin.fwapi_url(), http::Method::PUT, &format!("/rules/{uuid}"), Some(fields));
    }

    /// Whether the client reaches the web server's port.
    fn to(&self, port: u16) -> bool {
        self.guests[0].reaches("10.64.0.6", port)
    }

    /// The chain of what an instance may receive.
    fn chain(&self, uuid: &str) -> String {
        let listed = run("nft list table bridge triton_fw");
        listed.split_whitespace().find(|word| word.starts_with(&format!("in_{uuid}_"))).unwrap().to_owned()
    }
}

/// Issue 7; rulings 1 and 9: from a rule at FWAPI to a packet; edits by hand of the table and of files; stopping leaves rules in force.
#[test]
fn kernel_what_fwapi_says_is_in_force_whoever_edits_or_stops_what() {
    kernel(|| {
        let mut node = Node::new();
        node.start();
        assert!(!node.to(22), "nothing comes in by default");
        let first = node.rule("FROM any TO tag \"role\" = \"web\" ALLOW tcp PORT 22");
        until("the rule is in force", || node.to(22));
        assert!(!node.to(23));
        node.change(&first, &json!({"rule": "FROM any TO tag \"role\" = \"web\" ALLOW tcp PORT 23"}));
        until("the change is in force", || node.to(23) && !node.to(22));
        node.rule(&format!("FROM vm {CLIENT} TO vm {WEB} ALLOW tcp PORT 24"));
        until("the other end counts", || node.to(24));
        let shown = node.ask("http://127.0.0.1:2021", http::Method::GET, &format!("/rules/{first}"), None);
        assert_eq!(shown["created_by"], "fwapi");

        // The table by hand: all of it, and the line that drops what nobody allows.
        let repairs = node.number("table_repairs");
        run("nft flush ruleset");
        until("the table is back", || node.number("table_repairs") > repairs && node.to(23) && !node.to(25));
        let repairs = node.number("table_repairs");
        let chain = node.chain(WEB);
        let listed = run(&format!("nft -a list chain bridge triton_fw {chain}"));
        let last = listed.lines().filter_map(|line| Some(line.rsplit_once("# handle ")?.1)).next_back().unwrap();
        run(&format!("nft delete rule bridge triton_fw {chain} handle {last}"));
        until("the line is back", || node.number("table_repairs") > repairs && !node.to(25) && node.to(24));

        // A file by hand, then damaged: FWAPI has what it said.
        let file = node.layout.at(&format!("/var/fw/rules/{first}.json"));
        let text = fs::read_to_string(&file).unwrap();
        // In its place and at once: a file that was empty for a moment would be a damaged one.
        let mut edited = fs::OpenOptions::new().write(true).open(&file).unwrap();
        edited.write_all(text.replace("PORT 23", "PORT 25").as_bytes()).unwrap();
        drop(edited);
        until("the file's text is in force", || node.to(25) && !node.to(23));
        fs::write(&file, "{ half").unwrap();
        until("FWAPI's rule is back", || {
            fs::read_to_string(&file).is_ok_and(|text| text.contains("PORT 23")) && node.to(23) && !node.to(25)
        });
        until("nothing is damaged any more", || node.number("damaged_files") == 0);
        // Again, while what the agent remembers of it is what FWAPI says: the file is written anew all the same.
        fs::write(&file, "{ half").unwrap();
        until("FWAPI's rule is back once more", || fs::read_to_string(&file).is_ok_and(|text| text.contains("PORT 23")));
        until("nothing is damaged once more", || node.number("damaged_files") == 0);
        assert!(node.to(23) && !node.to(25));

        // An instance by hand: it loses its tag.
        let machines = Machines::new(&node.layout);
        let web: InstanceUuid = WEB.parse().unwrap();
        let mut machine = machines.read_alone(web).unwrap();
        machine.config.tags.clear();
        machines.write_documents(&machine).unwrap();
        machines.write(&machine).unwrap();
        until("the tag counts no more", || !node.to(23) && node.to(24));

        // Stopped, killed: what is in force stays; what changed meanwhile is made up for.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(node.agent.as_ref().unwrap().id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(node.agent.take().unwrap().wait().unwrap().success());
        assert!(node.to(24) && !node.to(26), "stopped");
        node.rule("FROM any TO all vms ALLOW tcp PORT 26");
        let files = fs::read_dir(node.layout.at("/var/fw/rules")).unwrap().flatten().map(|entry| entry.path());
        let damaged = files.into_iter().find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("PORT 24"))).unwrap();
        fs::write(&damaged, "{ half").unwrap();
        node.start();
        assert!(node.to(26) && node.to(24));
        until("what was damaged meanwhile is whole", || fs::read_to_string(&damaged).is_ok_and(|text| text.contains("PORT 24")));
        until("nothing is damaged at the end", || node.number("damaged_files") == 0);
        node.kill();
        assert!(node.to(24) && node.to(26) && !node.to(27), "killed");
        assert_eq!(node.standin.violations(), []);
    });
}

/// Issue 7: kill -9 at every step of a change, and a change that the kernel refuses, leave what was in force; the next start ends it.
#[test]
fn kernel_a_kill_at_any_step_or_a_refusal_leaves_the_old_rules_or_the_new_ones() {
    kernel(|| {
        let mut node = Node::new();
        let rules = [node.rule("FROM any TO all vms ALLOW tcp PORT 100"), node.rule("FROM any TO all vms ALLOW tcp PORT 101")];
        node.start();
        assert!(node.to(100) && node.to(101));
        node.kill();
        let mut port = 100;
        for step in ["journal", "file", "file:2", "stored", "before-commit", "before-commit:2", "committed", "committed:2"] {
            // Both rules change while the agent is away, so that its first comparison changes two files.
            for (uuid, new) in rules.iter().zip([port + 2, port + 3]) {
                node.change(uuid, &json!({"rule": format!("FROM any TO all vms ALLOW tcp PORT {new}")}));
            }
            node.run(&[("TRITON_STEP_KILL", &format!("firewall.{step}"))]);
            node.killed();
            let feel = [0, 1, 2, 3].map(|more| node.to(port + more));
            assert!([[true, true, false, false], [false, false, true, true]].contains(&feel), "killed at {step}: {feel:?}");
            // Whoever looks at the files finds all of a change or nothing, whoever was killed.
            let mut firewall = triton_firewall::Firewall::open(&node.layout).unwrap();
            let stored: Vec<String> = firewall.load().unwrap().rules.values().map(|rule| rule.spec.to_string()).collect();
            let old = stored.iter().filter(|text| (port..port + 2).any(|port| text.ends_with(&format!("PORT {port}")))).count();
            assert!(stored.len() == 2 && old != 1, "killed at {step}: half of a change is stored: {stored:?}");
            port += 2;
            node.start();
            assert!(node.to(port) && node.to(port + 1) && !node.to(port - 1) && !node.to(port - 2), "after a kill at {step}");
            node.kill();
        }

        // A chain that should go is named by somebody else's rule: the kernel refuses, and what was in force stays.
        let chain = node.chain(WEB);
        run(&format!("nft add rule bridge triton_fw answers ip saddr 192.0.2.1 jump {chain}"));
        let mut firewall = triton_firewall::Firewall::open(&node.layout).unwrap();
        let rule = json!({"rule": "FROM any TO all vms ALLOW tcp PORT 999", "global": true, "enabled": true, "created_by": "fwapi"});
        let rule = triton_fwrule::Rule::from_json(&rule, &triton_fwrule::Options::default()).unwrap();
        let change =
            triton_firewall::Change::Replace { rules: vec![rule.clone()], remote_vms: vec![], no_rules: vec![], no_remote_vms: vec![] };
        let error = firewall.change(&change, || local_vms(&node.layout)).unwrap_err();
        assert!(matches!(error, triton_firewall::FirewallError::Rules(_)), "{error:?}");
        assert!(node.to(port) && node.to(port + 1) && !node.to(999), "what was in force still is");
        // The agent puts it right; FWAPI does not know the rule, which goes with the first comparison.
        node.start();
        assert!(node.to(port) && !node.to(999) && !run("nft list table bridge triton_fw").contains("192.0.2.1"));
        node.kill();
        assert_eq!(node.standin.violations(), []);
    });
}
