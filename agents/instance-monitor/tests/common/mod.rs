//! A compute node below a temporary root, with one instance whose init is a shell script in a busybox root.
// Each test file uses a part; a panic here is a failed test, with its place.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use triton_cgroup::{CgroupLayout, Cgroups};
use triton_files::{Identity, Layout, write_json};
use triton_lxc::{CgroupDirs, ConsoleLog, ContainerSpec, Hook, Hooks, IdMap, Limits, LogFile, STANDARD_DEVICES, render};
use triton_types::{InstanceUuid, RunPhase, RunState};

/// The program under test.
pub const MONITOR: &str = env!("CARGO_BIN_EXE_instance-monitor");

/// Longer than any step takes on a busy machine; only reached by failures.
const PATIENCE: Duration = Duration::from_secs(50);

pub struct Bed {
    pub directory: TempDir,
    pub layout: Layout,
    pub uuid: InstanceUuid,
    pub cgroups: Cgroups,
    pub prefix: String,
}

impl Bed {
    /// A node with one instance, whose init is `script`.
    pub fn new(script: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::Builder::new().prefix("triton-monitor-").tempdir().unwrap();
        // The guest's mapped root must be able to pass.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let layout = Layout::new(directory.path());
        layout.prepare().unwrap();
        let prefix = format!("triton-test-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        write_json(&layout.identity(), &Identity { override_uuid: None, prefix: prefix.clone() }, 0o644).unwrap();
        let bed = Self { directory, layout, uuid: InstanceUuid::random(), cgroups: Cgroups::probe().unwrap(), prefix };
        bed.make_root(script);
        bed.write_machine();
        bed.write_config();
        bed
    }

    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.prefix, self.uuid)
    }

    pub fn zonepath(&self) -> PathBuf {
        self.layout.at("/zones").join(self.uuid.to_string())
    }

    pub fn root(&self) -> PathBuf {
        self.zonepath().join("root")
    }

    pub fn config(&self) -> PathBuf {
        self.layout.runtime(self.uuid).join("lxc.conf")
    }

    fn make_root(&self, script: &str) {
        let root = self.root();
        for name in ["bin", "sbin", "proc", "sys", "dev", "tmp", "etc", "run", "var"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "poweroff", "reboot", "cat", "tail", "head", "env", "ls", "kill"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let init = root.join("sbin/init");
        fs::write(&init, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn write_machine(&self) {
        let machine = json!({
            "format": 1, "state": "installed", "uuid": self.uuid, "brand": "lx", "zpool": "zones", "hostname": "guest",
            "max_physical_memory": 64, "max_swap": 64, "max_lwps": 200,
            "storage": { "kind": "dir", "ids": { "base": 1_000_000, "size": 65_536 }, "ownership": "idmapped" },
        });
        write_json(&self.layout.machine(self.uuid), &machine, 0o600).unwrap();
    }

    /// A config without network, for `boot` alone.
    fn write_config(&self) {
        let runtime = self.layout.runtime(self.uuid);
        fs::create_dir_all(&runtime).unwrap();
        let root = self.layout.root().to_str().unwrap();
        let hook = |kind: &str| Some(Hook([MONITOR, "hook", kind, "--root", root, &self.uuid.to_string()].map(str::to_owned).to_vec()));
        let cgroup = self.cgroup();
        let spec = ContainerSpec {
            name: self.uuid.to_string(),
            hostname: "guest".to_owned(),
            rootfs: self.root(),
            idmapped: true,
            ids: IdMap { base: 1_000_000, size: 65_536 },
            init: vec!["/sbin/init".to_owned()],
            user: Default::default(),
            directory: None,
            environment: vec![("PATH".to_owned(), "/bin:/sbin".to_owned())],
            limits: Limits { memory: Some(64 << 20), memory_and_swap: Some(64 << 20), pids: Some(200), ..Limits::default() },
            legacy_cgroups: self.cgroups.layout() == CgroupLayout::Hybrid,
            cgroups: CgroupDirs {
                monitor: format!("{cgroup}/monitor"),
                payload: format!("{cgroup}/payload"),
                inner: "ns".to_owned(),
                pivot: format!("{cgroup}/pivot"),
            },
            devices: STANDARD_DEVICES.to_vec(),
            mounts: Vec::new(),
            seccomp_profile: None,
            // Where AppArmor runs, liblxc would take a profile of its own, which a node does not load.
            apparmor_profile: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y'))
                .then(|| "unconfined".to_owned()),
            cap_drop: Vec::new(),
            prlimits: Vec::new(),
            console: ConsoleLog { file: runtime.join("console.log"), size: 65_536 },
            log: LogFile { file: runtime.join("lxc.log"), level: "WARN".to_owned() },
            halt_signal: "SIGPWR".to_owned(),
            reboot_signal: "SIGINT".to_owned(),
            hooks: Hooks { start_host: None, stop: hook("stop"), post_stop: hook("post-stop") },
        };
        fs::write(self.config(), render(&spec).unwrap()).unwrap();
    }

    /// Lets a script that waits for `/NAME` go on.
    pub fn touch(&self, name: &str) {
        fs::write(self.root().join(name), "").unwrap();
    }

    /// Starts a supervisor as the direct launcher does; its answer.
    pub fn launch(&self, verb: &str) -> Value {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.layout.runtime(self.uuid).join("monitor.log")).unwrap();
        let mut child = Command::new(MONITOR)
            .args([verb, "--root"])
            .arg(self.layout.root())
            .args(["--ready-fd", "1", &self.uuid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.logs());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?}\n{}", self.logs()))
    }

    pub fn state(&self) -> RunState {
        let text = fs::read_to_string(self.layout.run_state(self.uuid)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The run-state once it is as wanted.
    pub fn wait_state(&self, what: &str, wanted: impl Fn(&RunState) -> bool) -> RunState {
        self.wait(what, || Some(self.state()).filter(&wanted))
    }

    pub fn wait_stopped(&self) -> RunState {
        let state = self.wait_state("stopped", |state| state.phase == RunPhase::Stopped);
        self.wait("supervisor gone", || (!self.cgroups.populated(&self.prefix)).then_some(()));
        state
    }

    pub fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn logs(&self) -> String {
        let runtime = self.layout.runtime(self.uuid);
        let read = |path: PathBuf| format!("--- {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default());
        let files = ["monitor.log", "lxc.log", "console.log"].map(|name| read(runtime.join(name)));
        let console = read(self.zonepath().join("logs/console.log"));
        format!("{}\n{console}\n{}", files.join("\n"), fs::read_to_string(self.layout.run_state(self.uuid)).unwrap_or_default())
    }

    pub fn last_exited(&self) -> Option<String> {
        let text = fs::read_to_string(self.zonepath().join("lastexited")).ok()?;
        text.split_whitespace().nth(1).map(str::to_owned)
    }

    /// The guest's init among the payload's processes.
    pub fn find_init(&self) -> Option<i32> {
        let pids = self.cgroups.pids(&format!("{}/payload", self.cgroup())).unwrap();
        pids.into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).map(str::to_owned).unwrap_or_default();
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            inner.split_whitespace().last() == Some("1") && !exe.ends_with("instance-monitor")
        })
    }

    /// The process in which liblxc runs.
    pub fn boot_child(&self) -> i32 {
        self.cgroups.pids(&format!("{}/monitor", self.cgroup())).unwrap()[0]
    }

    /// Nothing of the instance is left on the machine but its files.
    pub fn assert_clean(&self) {
        assert!(!self.cgroups.exists(&self.cgroup()), "a control group is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.uuid.to_string()), "a mount is left");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.cgroups.kill(&self.prefix);
        let _ = self.cgroups.remove(&self.prefix);
        // Where liblxc keeps lock files by the path of the container.
        let mut lock = Path::new("/run/lxc/lock").join(self.layout.at("/run/triton/runtime").strip_prefix("/").unwrap());
        let _ = fs::remove_dir_all(&lock);
        while lock.pop() && lock != Path::new("/run/lxc") && fs::remove_dir(&lock).is_ok() {}
    }
}

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}
