//! Golden configs, refusals, and the real library's judgement.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    CgroupDirs, ConsoleLog, ContainerSpec, Hook, Hooks, IdMap, InitUser, LibLxc, Limits, LogFile, Mount, Prlimit, STANDARD_DEVICES, render,
};

const UUID: &str = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";

fn hook(kind: &str) -> Option<Hook> {
    let words = ["/usr/lib/triton/instance-monitor", "hook", kind, "--root", "/", UUID];
    Some(Hook(words.map(str::to_owned).to_vec()))
}

fn full() -> ContainerSpec {
    ContainerSpec {
        name: UUID.to_owned(),
        hostname: "web-1.example.com".to_owned(),
        rootfs: PathBuf::from(format!("/zones/{UUID}/root")),
        idmapped: true,
        ids: IdMap { base: 1_000_000, size: 65_536 },
        init: vec!["/sbin/init".to_owned()],
        user: InitUser { uid: 33, gid: 44 },
        directory: Some("/srv/a b".to_owned()),
        environment: vec![
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("MOTTO".to_owned(), "a b = \"c\"".to_owned()),
        ],
        limits: Limits {
            cpu_cap: Some(150),
            cpu_weight: Some(100),
            memory: Some(512 << 20),
            memory_and_swap: Some(1024 << 20),
            pids: Some(4000),
            io_weight: Some(100),
        },
        legacy_cgroups: false,
        cgroups: CgroupDirs {
            monitor: format!("triton/{UUID}/monitor"),
            payload: format!("triton/{UUID}/payload"),
            inner: "ns".to_owned(),
            pivot: format!("triton/{UUID}/pivot"),
        },
        devices: STANDARD_DEVICES.to_vec(),
        mounts: vec![Mount::tmpfs("tmp", 64), Mount::bind_directory("/srv/with space", "/mnt/data", true)],
        seccomp_profile: None,
        apparmor_profile: None,
        cap_drop: vec!["sys_module".to_owned(), "sys_time".to_owned()],
        prlimits: vec![Prlimit { name: "memlock".to_owned(), value: Some(512 << 20) }],
        console: ConsoleLog { file: PathBuf::from("/run/triton/runtime/x/console.log"), size: 131_072 },
        log: LogFile { file: PathBuf::from("/run/triton/runtime/x/lxc.log"), level: "INFO".to_owned() },
        halt_signal: "SIGRTMIN+3".to_owned(),
        reboot_signal: "SIGINT".to_owned(),
        hooks: Hooks { start_host: hook("start-host"), stop: hook("stop"), post_stop: hook("post-stop") },
    }
}

fn small() -> ContainerSpec {
    ContainerSpec {
        idmapped: false,
        init: ["/bin/sh", "-c", "echo \"it runs\"; exit 7", ""].map(str::to_owned).to_vec(),
        user: InitUser::default(),
        directory: None,
        environment: Vec::new(),
        limits: Limits { cpu_weight: Some(20_000), memory: Some(64 << 20), memory_and_swap: Some(32 << 20), ..Limits::default() },
        legacy_cgroups: true,
        mounts: Vec::new(),
        cap_drop: Vec::new(),
        prlimits: Vec::new(),
        seccomp_profile: Some(PathBuf::from("/usr/share/triton/seccomp")),
        apparmor_profile: Some("unconfined".to_owned()),
        hooks: Hooks::default(),
        ..full()
    }
}

fn compare(spec: &ContainerSpec, golden: &str) {
    // Recorded on x86_64.
    let text = render(spec).unwrap().replace(&format!("lxc.arch = {}\n", std::env::consts::ARCH), "lxc.arch = x86_64\n");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs from:\n{text}", path.display());
}

#[test]
fn a_full_config_is_rendered_for_v2_as_recorded() {
    compare(&full(), "full-v2.conf");
}

#[test]
fn a_small_config_is_rendered_for_a_hybrid_machine_as_recorded() {
    compare(&small(), "small-hybrid.conf");
}

#[test]
fn the_installed_liblxc_accepts_what_is_rendered_and_refuses_a_broken_copy() {
    let directory = tempfile::tempdir().unwrap();
    let library = LibLxc::load_unchecked().unwrap();
    for (name, mut spec) in [("full", full()), ("small", small())] {
        spec.log.file = directory.path().join("lxc.log");
        // Whether a profile's file can be read is found at load already.
        spec.seccomp_profile = None;
        let file = directory.path().join(format!("{name}.conf"));
        let text = render(&spec).unwrap();
        fs::write(&file, &text).unwrap();
        library.open(name, Path::new("/tmp")).unwrap().load_config(&file).unwrap();
        fs::write(&file, text.replace("lxc.autodev = 1", "lxc.no.such.key = 1")).unwrap();
        library.open(name, Path::new("/tmp")).unwrap().load_config(&file).unwrap_err();
    }
}

#[test]
fn no_value_smuggles_another_key_and_malformed_ones_are_refused_by_name() {
    type Spoil = fn(&mut ContainerSpec);
    let cases: [(&str, Spoil); 25] = [
        ("name", |s| s.name = "a\nlxc.x = 1".to_owned()),
        ("lxc.uts.name", |s| s.hostname = "a\nlxc.hook.pre-start = /bin/evil".to_owned()),
        ("lxc.uts.name", |s| s.hostname = "h".repeat(65)),
        ("lxc.rootfs.path", |s| s.rootfs = PathBuf::from("/zones/a\nb")),
        ("lxc.rootfs.path", |s| s.rootfs = PathBuf::from("zones/root")),
        ("lxc.rootfs.path", |s| s.rootfs = PathBuf::from("/")),
        ("lxc.idmap", |s| s.ids.base = 0),
        ("lxc.idmap", |s| s.ids = IdMap { base: u32::MAX, size: 2 }),
        ("lxc.init.uid", |s| s.user.uid = 65_536),
        ("lxc.init.cwd", |s| s.directory = Some("srv\nlxc.x = 1".to_owned())),
        ("lxc.init.cmd", |s| s.init = vec!["/sbin/init".to_owned(), "a\nb".to_owned()]),
        ("lxc.init.cmd", |s| s.init = vec!["/sbin/init".to_owned(), "both ' and \" here".to_owned()]),
        ("lxc.environment", |s| s.environment = vec![("A".to_owned(), "x\rlxc.y = 1".to_owned())]),
        ("lxc.environment", |s| s.environment = vec![("A=B\n".to_owned(), "x".to_owned())]),
        ("lxc.cgroup.dir.container", |s| s.cgroups.payload = "triton/../../x".to_owned()),
        ("lxc.cgroup.dir.monitor", |s| s.cgroups.monitor = "/triton/x".to_owned()),
        ("lxc.mount.entry", |s| s.mounts = vec![Mount::bind_directory("/srv", "../etc", false)]),
        ("lxc.mount.entry", |s| s.mounts = vec![Mount::bind_directory("/srv\n/x", "mnt", false)]),
        ("lxc.mount.entry", |s| s.mounts = vec![Mount { options: vec!["bind,rw".to_owned()], ..Mount::tmpfs("t", 1) }]),
        ("lxc.signal.halt", |s| s.halt_signal = "SIGNAL".to_owned()),
        ("lxc.signal.reboot", |s| s.reboot_signal = "SIGRTMIN+31".to_owned()),
        ("lxc.prlimit", |s| s.prlimits = vec![Prlimit { name: "memlock\nx".to_owned(), value: None }]),
        ("lxc.hook.stop", |s| s.hooks.stop = Some(Hook(vec!["/bin/true".to_owned(), "$(reboot)".to_owned()]))),
        ("lxc.hook.stop", |s| s.hooks.stop = Some(Hook(vec!["true".to_owned()]))),
        ("lxc.cgroup2.cpu.max", |s| s.limits.cpu_cap = Some(0)),
    ];
    for (key, spoil) in cases {
        let mut spec = full();
        spoil(&mut spec);
        let error = render(&spec).unwrap_err();
        assert_eq!(error.key, key, "{error}");
    }
}
