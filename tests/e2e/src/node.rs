//! One compute node for one test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::fcntl::Flock;
use serde_json::{Value, json};
use triton_cgroup::Cgroups;
use triton_files::{Identity, Layout};
use triton_image::{CancelToken, Images, Quiet};
use triton_instance::Instances;
use triton_link::NetNs;
use triton_storage::Storage;
use triton_types::StorageKind;

use crate::{
    Outcome,
    busybox::{IMAGE_UUID, image_files},
    command::{command, guest_tools},
    host,
};

/// The NIC tag of guests.
pub const EXTERNAL_TAG: &str = "external";

/// A node with a root, a network namespace, storage in directories and the tag [`EXTERNAL_TAG`]. Dropping it removes all.
#[derive(Debug)]
pub struct Node {
    layout: Layout,
    prefix: String,
    host: Option<Host>,
}

/// The machine itself is the node.
#[derive(Debug)]
struct Host {
    pool: String,
    _turn: Flock<fs::File>,
}

impl Node {
    /// A new node without images.
    ///
    /// # Panics
    /// When this is not root on a machine with network namespaces.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(pool) = host::pool() {
            return Self::of_machine(pool);
        }
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = Path::new(NODES).join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).expect("the root can be made");
        let layout = Layout::new(&root);
        layout.prepare().expect("the node's directories can be made");
        let identity = Identity::load_or_create(&layout).expect("the node gets an identity");
        let node = Self { layout, prefix: identity.prefix, host: None };
        Storage::choose(&node.layout, StorageKind::Dir, "zones").expect("storage in directories");
        fs::create_dir_all(node.layout.namespaces()).expect("a directory for namespaces");
        NetNs::create_and_pin(&node.layout.namespaces().join("net")).expect("a network namespace");
        node.write_tags();
        node.install_guest_tools();
        node
    }

    /// What guests see at `/native`.
    fn install_guest_tools(&self) {
        let folder = self.layout.native().join("usr/sbin");
        fs::create_dir_all(&folder).expect("disk");
        fs::create_dir_all(self.layout.native().join(".zonecontrol")).expect("disk");
        fs::copy(guest_tools(), folder.join("mdata")).expect("disk");
        for name in ["mdata-get", "mdata-put", "mdata-delete", "mdata-list"] {
            std::os::unix::fs::symlink("mdata", folder.join(name)).expect("disk");
        }
    }

    /// The booted compute node, emptied.
    fn of_machine(pool: String) -> Self {
        let turn = host::turn(&pool);
        let layout = Layout::new("/");
        host::stop_services();
        host::clear(&layout, &pool);
        layout.prepare().expect("the node's directories can be made");
        let identity = Identity::load_or_create(&layout).expect("the node has an identity");
        Storage::choose(&layout, StorageKind::Zfs, &pool).expect("storage in the pool");
        fs::create_dir_all(layout.namespaces()).expect("a directory for namespaces");
        host::pin_namespace(&layout.namespaces().join("net"));
        let node = Self { layout, prefix: identity.prefix, host: Some(Host { pool, _turn: turn }) };
        node.write_tags();
        node
    }

    /// True when the machine itself is the node: systemd starts monitors, instances are in ZFS.
    pub fn is_machine(&self) -> bool {
        self.host.is_some()
    }

    /// The control group of an instance, from the top of the hierarchy.
    pub fn cgroup(&self, uuid: &str) -> String {
        if self.is_machine() { format!("triton.slice/triton-instance@{uuid}.service") } else { format!("{}/{uuid}", self.prefix) }
    }

    fn write_tags(&self) {
        let tags = json!({"admin_tag": "admin", "datacenter_name": "e2e", "dns_domain": "example.com",
            "nictags": [{"name": EXTERNAL_TAG, "mac": "-", "mtu": 1500}, {"name": "admin", "mac": "-", "mtu": 1500}]});
        fs::write(self.layout.config().join("triton-networking.json"), tags.to_string()).expect("the tags can be written");
    }

    /// A new node with the test image installed.
    ///
    /// # Panics
    /// As [`Node::new`], and when the image cannot be installed.
    pub fn with_image(name: &str) -> Self {
        let node = Self::new(name);
        let (manifest, file) = image_files();
        node.install(&manifest, &file);
        node
    }

    /// Installs an image.
    ///
    /// # Panics
    /// When it cannot be installed.
    pub fn install(&self, manifest: &Value, file: &[u8]) {
        let path = self.layout.at("/var/tmp/image.tar.gz");
        fs::write(&path, file).expect("disk");
        let storage = Arc::new(Storage::open(&self.layout).expect("storage was chosen"));
        let images = Images::open(&self.layout, storage).expect("the image database");
        images.install(manifest, &[path], &CancelToken::default(), &Quiet).expect("the image can be installed");
    }

    /// Installs the test image once more as another one, and returns its uuid.
    ///
    /// # Panics
    /// As [`Node::install`].
    pub fn second_image(&self) -> String {
        let (mut manifest, file) = image_files();
        let uuid = IMAGE_UUID.replace("0001", "0002");
        manifest["uuid"] = uuid.as_str().into();
        manifest["version"] = "2.0.0".into();
        self.install(&manifest, &file);
        uuid
    }

    /// A limit of a running instance: the first of these files that its payload's group has.
    ///
    /// # Panics
    /// When it has none of them.
    pub fn limit(&self, uuid: &str, files: &[&str]) -> String {
        let cgroups = Cgroups::probe().expect("control groups");
        let group = format!("{}/payload", self.cgroup(uuid));
        let found = files.iter().find_map(|file| cgroups.get(&group, file).ok());
        found.unwrap_or_else(|| panic!("{group} has none of {files:?}")).trim().to_owned()
    }

    /// What daemons do at their start and from time to time, in the node's network and not in the machine's.
    ///
    /// # Panics
    /// When an instance cannot be recovered.
    pub fn recover(&self) {
        let namespace = NetNs::open(&self.layout.namespaces().join("net")).expect("the node's namespace");
        let recovery = namespace.run(|| Instances::open(&self.layout).and_then(|instances| instances.recover()));
        let recovery = recovery.expect("the namespace can be entered").expect("the store is there");
        assert!(recovery.failed.is_empty(), "{recovery:?}");
    }

    /// Where the node's files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Prefix of its cgroups.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Runs one of the project's programs on this node.
    pub fn run(&self, name: &str, args: &[&str]) -> Outcome {
        self.command(name, args).output().expect("the program can be run").into()
    }

    /// As [`Node::run`], with text on standard input and further environment.
    pub fn run_with(&self, name: &str, args: &[&str], input: &str, environment: &[(&str, &str)]) -> Outcome {
        use std::io::Write;
        let mut child =
            self.command(name, args).envs(environment.iter().copied()).stdin(Stdio::piped()).spawn().expect("the program can be run");
        let mut stdin = child.stdin.take().expect("it was asked for");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let outcome = child.wait_with_output().expect("the program ends").into();
        writer.join().expect("the writer ends");
        outcome
    }

    /// One of the project's programs on this node, not yet run; its output goes to pipes.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = command(name);
        command.arg("--root").arg(self.layout.root()).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts one of the project's daemons on this node; its output goes to a file below `/var/log`.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn spawn(&self, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Child {
        self.spawn_command(name, self.command(name, args), environment)
    }

    /// As [`Node::spawn`] on a booted node, in the slice that the daemon's unit has there: what it does beside guests and services says
    /// something of the unit then.
    ///
    /// # Panics
    /// As [`Node::spawn`], and when the node has no such unit.
    pub fn spawn_as_unit(&self, name: &str, environment: &[(&str, &str)]) -> Child {
        let unit = format!("triton-{name}.service");
        let shown = Command::new("systemctl").args(["show", "--value", "--property=Slice", &unit]).output().expect("systemctl runs");
        let slice = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        assert!(slice.ends_with(".slice"), "{unit} has no slice: {slice:?}");
        let daemon = self.command(name, &[]);
        let mut scope = Command::new("systemd-run");
        // Of this process itself: it becomes the daemon.
        scope.args(["--scope", "--quiet", "--collect", &format!("--slice={slice}"), "--"]);
        scope.arg(daemon.get_program()).args(daemon.get_args()).stdin(Stdio::null());
        self.spawn_command(name, scope, environment)
    }

    fn spawn_command(&self, name: &str, mut command: Command, environment: &[(&str, &str)]) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.layout.at(&format!("/var/log/{name}.log"))).expect("disk");
        command.envs(environment.iter().copied()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        command.spawn().expect("the daemon can be run")
    }

    /// Runs vmadm.
    pub fn vmadm(&self, args: &[&str]) -> Outcome {
        self.run("vmadm", args)
    }

    /// A payload that creates a running instance with one NIC whose address ends in `host`.
    pub fn payload(&self, host: u8) -> Value {
        json!({
            "brand": "lx",
            "image_uuid": IMAGE_UUID,
            "alias": format!("web{host}"),
            "hostname": format!("web{host}"),
            "dns_domain": "example.com",
            "max_physical_memory": 64,
            "max_swap": 256,
            "cpu_cap": 100,
            "tmpfs": 16,
            "quota": 1,
            "resolvers": ["192.0.2.53"],
            "nics": [{"nic_tag": EXTERNAL_TAG, "mac": format!("02:08:20:00:00:{host:02x}"), "ips": [format!("10.64.0.{host}/24"),
                format!("fd64::{host:x}/64")], "gateways": ["10.64.0.1"], "primary": true}],
        })
    }

    /// Creates an instance and returns its uuid.
    ///
    /// # Panics
    /// When vmadm fails.
    #[track_caller]
    pub fn create(&self, payload: &Value) -> String {
        let outcome = self.run_with("vmadm", &["create"], &payload.to_string(), &[]).ok();
        assert_eq!(outcome.stdout, "", "human messages belong on standard error");
        let line = outcome.last_error();
        line.strip_prefix("Successfully created VM ").unwrap_or_else(|| panic!("unexpected message: {line}")).to_owned()
    }

    /// The VM object.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn get(&self, uuid: &str) -> Value {
        self.vmadm(&["get", uuid]).ok().json()
    }

    /// The state in the VM object.
    #[track_caller]
    pub fn state(&self, uuid: &str) -> String {
        self.get(uuid)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs a command inside a running guest, as its root, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn guest(&self, uuid: &str, command: &str) -> String {
        self.try_guest(uuid, command).ok().stdout
    }

    /// As [`Node::guest`], for commands that may end with their guest.
    ///
    /// # Panics
    /// When the guest does not run.
    #[track_caller]
    pub fn try_guest(&self, uuid: &str, command: &str) -> Outcome {
        let pid = self.get(uuid)["pid"].as_i64().expect("the guest runs").to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-m", "-u", "-n", "-p", "-i", "-U", "-S", "0", "-G", "0", "--", "/bin/sh", "-c", command])
            .env_clear()
            .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
            .output()
            .expect("nsenter can be run");
        Outcome::from(output)
    }

    /// Links of the node's namespace by name, without `lo`.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn links(&self) -> Vec<String> {
        let pin = self.layout.namespaces().join("net");
        let output =
            Command::new("nsenter").arg(format!("--net={}", pin.display())).args(["ip", "-json", "link"]).output().expect("ip runs");
        let links: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let mut names: Vec<String> = links.iter().filter_map(|link| link["ifname"].as_str()).map(str::to_owned).collect();
        names.retain(|name| name != "lo");
        names.sort();
        names
    }

    /// What exists of instances: by kind, for comparison before and after.
    pub fn traces(&self) -> BTreeMap<&'static str, Vec<String>> {
        let names = |path: PathBuf| {
            let mut names: Vec<String> =
                fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let mut cgroups = if self.is_machine() { host::groups() } else { Vec::new() };
        for mount in cgroup_mounts() {
            cgroups.extend(
                names(mount.join(&self.prefix)).into_iter().filter(|name| Path::new(&mount).join(&self.prefix).join(name).is_dir()),
            );
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // The machine's own mounts are not the node's to judge, those in its pool are.
        let root = if self.is_machine() { " /zones/".to_owned() } else { self.layout.root().to_string_lossy().into_owned() };
        BTreeMap::from([
            ("machines", names(self.layout.machines())),
            ("run-states", names(self.layout.run_states())),
            ("runtime", names(self.layout.at("/run/triton/runtime"))),
            // The pool's directory of snapshots stays once it was made; what is in it does not.
            ("pool", names(self.layout.at("/zones")).into_iter().filter(|name| name != ".snapshots").collect()),
            ("snapshots", names(self.layout.at("/zones/.snapshots"))),
            ("guards", names(self.layout.at("/var/tmp")).into_iter().filter(|name| name.starts_with("machine-")).collect()),
            ("veths", self.links().into_iter().filter(|name| name.starts_with("vt")).collect()),
            ("cgroups", cgroups),
            ("mounts", mounts.lines().filter(|line| line.contains(&root) && !line.contains("/ns/")).map(str::to_owned).collect()),
            ("monitors", self.monitors()),
        ])
    }

    /// Command lines of this node's monitors.
    pub fn monitors(&self) -> Vec<String> {
        let root = self.layout.root().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(bytes) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
            if line.contains("instance-monitor") && line.contains(&root) {
                found.push(line);
            }
        }
        found
    }
}

/// Where the roots of all test nodes are.
const NODES: &str = "/var/tmp/triton-e2e";

/// Removes the nodes of tests that were killed and could not do it themselves.
pub fn sweep() {
    for entry in fs::read_dir(NODES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.rsplit('-').nth(1).filter(|pid| !Path::new("/proc").join(pid).exists()) else { continue };
        let layout = Layout::new(entry.path());
        match Identity::load_or_create(&layout) {
            Ok(identity) => drop(Node { layout, prefix: identity.prefix, host: None }),
            Err(error) => eprintln!("the node {name} of the killed test {pid} could not be removed: {error}"),
        }
    }
}

/// Mount points of all cgroup hierarchies.
fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<PathBuf> = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.len() > 2 && fields[2].starts_with("cgroup"))
        .map(|fields| PathBuf::from(fields[1]))
        .collect();
    points.dedup();
    points
}

impl Drop for Node {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            for log in ["vmadm", "cn-agent", "headnode"] {
                if let Ok(text) = fs::read_to_string(self.layout.at(&format!("/var/log/{log}.log"))) {
                    let tail: Vec<&str> = text.lines().rev().take(20).collect();
                    eprintln!("--- {log}.log (newest first)\n{}", tail.join("\n"));
                }
            }
        }
        for entry in fs::read_dir(self.layout.machines()).into_iter().flatten().flatten() {
            if let Some(uuid) = entry.file_name().to_string_lossy().strip_suffix(".json") {
                let _ = self.vmadm(&["delete", uuid]);
            }
        }
        if let Some(host) = &self.host {
            host::clear(&self.layout, &host.pool);
            host::unpin_namespace(&self.layout.namespaces().join("net"));
            return;
        }
        // What a test broke on purpose may have survived vmadm.
        if let Ok(cgroups) = Cgroups::probe() {
            let _ = cgroups.kill(&self.prefix);
            for _ in 0..200 {
                if self.monitors().is_empty() && !cgroups.populated(&self.prefix) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = cgroups.remove(&self.prefix);
        }
        let _ = NetNs::unpin(&self.layout.namespaces().join("net"));
        let _ = fs::remove_dir_all(self.layout.root());
        let _ = fs::remove_dir(NODES);
        if !failed {
            assert!(!self.layout.root().exists(), "the node's files could not be removed");
        }
    }
}

/// Asserts that nothing of any instance is left on `node`, compared with `before`.
///
/// # Panics
/// When something is; says what.
#[track_caller]
pub fn assert_no_trace(node: &Node, before: &BTreeMap<&'static str, Vec<String>>) {
    // A monitor may be about to end.
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while node.traces() != *before && !node.monitors().is_empty() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = node.traces();
    let different: Vec<_> =
        now.iter().filter(|(kind, list)| before.get(*kind) != Some(list)).map(|(kind, list)| (kind, &before[kind], list)).collect();
    assert!(different.is_empty(), "something was left behind, or taken: (kind, before, now) {different:#?}");
}
