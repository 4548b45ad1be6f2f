//! On the machine's own tree, and on recorded ones.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    CgroupError, CgroupLayout, Cgroups, MemoryEvents,
    hierarchy::{Hierarchy, Version},
};

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
55 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
";

/// A group of the machine's own tree that is gone after the test.
struct Group {
    cgroups: Cgroups,
    path: String,
}

impl Group {
    fn new(name: &str) -> Self {
        let cgroups = Cgroups::probe().unwrap();
        let path = format!("triton-test-cgroup-{}-{name}", std::process::id());
        cgroups.create(&path).unwrap();
        Self { cgroups, path }
    }

    fn child(&self, below: &str) -> (String, Process) {
        let path = format!("{}/{below}", self.path);
        self.cgroups.create(&path).unwrap();
        let process = Process(Command::new("sleep").arg("600").process_group(0).stdout(Stdio::null()).spawn().unwrap());
        self.cgroups.enter(&path, process.pid()).unwrap();
        (path, process)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.cgroups.kill(&self.path);
        let _ = self.cgroups.remove(&self.path);
    }
}

struct Process(Child);

impl Process {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hierarchies_are_found_once_each_and_unified_first() {
    let found = crate::mounts::hierarchies(HYBRID);
    let mounts: Vec<_> = found.iter().map(|h| h.mount.to_str().unwrap()).collect();
    let expected = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/my memory"];
    assert_eq!(mounts, expected);
    assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
    assert!(found[2].controllers.is_empty());
}

#[test]
fn the_layout_is_hybrid_only_where_v1_has_controllers() {
    assert_eq!(Cgroups::from_mountinfo(HYBRID).unwrap().layout(), CgroupLayout::Hybrid);
    let pure = "24 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    assert_eq!(Cgroups::from_mountinfo(pure).unwrap().layout(), CgroupLayout::V2);
    let named = format!("{pure}40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n");
    assert_eq!(Cgroups::from_mountinfo(&named).unwrap().layout(), CgroupLayout::V2);
    assert!(matches!(Cgroups::from_mountinfo("23 1 0:1 / / rw - ext4 /dev/vda rw\n"), Err(CgroupError::None)));
}

#[test]
fn paths_that_could_name_a_foreign_group_are_refused() {
    let cgroups = Cgroups::from_hierarchies(Vec::new());
    for path in ["", "/", "/triton", "a//b", "a/../b", "..", ".", "a/", "a\nb"] {
        assert!(matches!(cgroups.remove(path), Err(CgroupError::Path { .. })), "{path:?}");
        assert!(matches!(cgroups.kill(path), Err(CgroupError::Path { .. })), "{path:?}");
    }
    assert!(matches!(cgroups.set("a", "../b", ""), Err(CgroupError::Path { .. })));
}

#[test]
fn a_process_enters_in_every_hierarchy_and_is_seen_from_above() {
    let group = Group::new("enter");
    let (leaf, process) = group.child("payload/ns");
    let above = format!("{}/payload", group.path);
    assert!(group.cgroups.populated(&above) && group.cgroups.populated(&leaf));
    assert_eq!(group.cgroups.pids(&above).unwrap(), [process.pid()]);
    let table = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    assert!(table.lines().all(|line| line.ends_with(&format!(":/{leaf}"))), "{table}");
    group.cgroups.leave(process.pid()).unwrap();
    assert!(!group.cgroups.populated(&above));
}

#[test]
fn a_group_that_somebody_else_makes_below_ours_can_be_entered_too() {
    let group = Group::new("foreign");
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(" - cgroup")) {
        let mount = line.split(' ').nth(4).unwrap();
        fs::create_dir_all(PathBuf::from(mount).join(&group.path).join("foreign")).unwrap();
    }
    let process = Process(Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap());
    group.cgroups.enter(&format!("{}/foreign", group.path), process.pid()).unwrap();
}

#[test]
fn a_populated_group_is_not_removed_and_its_process_stays() {
    let group = Group::new("busy");
    let (leaf, process) = group.child("payload");
    let error = group.cgroups.remove(&group.path).unwrap_err();
    assert!(matches!(&error, CgroupError::Group { source, .. } if source.raw_os_error() == Some(libc::EBUSY)), "{error}");
    assert_eq!(group.cgroups.pids(&leaf).unwrap(), [process.pid()]);
}

#[test]
fn killing_ends_all_below_and_removal_leaves_nothing_and_both_can_be_repeated() {
    let group = Group::new("kill");
    let (_, first) = group.child("payload/ns/deep/er");
    let (_, second) = group.child("payload/other");
    let mut watch = group.cgroups.watch(&group.path).unwrap();
    assert!(watch.populated());
    let pids = [first.pid(), second.pid()];
    // Zombies stay listed in v1 until they are reaped.
    let reaper = std::thread::spawn(move || [first, second].map(|mut p| p.0.wait().unwrap()));
    group.cgroups.kill(&group.path).unwrap();
    assert!(watch.wait_empty(Instant::now() + Duration::from_secs(10)));
    let ends = reaper.join().unwrap();
    for (end, pid) in ends.iter().zip(pids) {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(end), Some(libc::SIGKILL), "{pid}");
    }
    assert!(!group.cgroups.populated(&group.path));
    for _ in 0..2 {
        group.cgroups.remove(&group.path).unwrap();
        group.cgroups.kill(&group.path).unwrap();
        assert!(!group.cgroups.exists(&group.path));
    }
    assert!(!watch.populated(), "a removed group is empty");
}

#[test]
fn limits_are_written_to_the_hierarchy_that_has_them_and_read_back() {
    let group = Group::new("limits");
    let (file, value) = match group.cgroups.layout() {
        CgroupLayout::V2 => ("cgroup.max.depth", "3"),
        CgroupLayout::Hybrid => ("pids.max", "17"),
    };
    group.cgroups.set(&group.path, file, value).unwrap();
    assert_eq!(group.cgroups.get(&group.path, file).unwrap(), value);
    let error = group.cgroups.set(&group.path, "no.such.file", "1").unwrap_err().to_string();
    assert!(error.contains("no.such.file"), "{error}");
}

#[test]
fn a_process_killed_for_lack_of_memory_is_counted() {
    let group = Group::new("oom");
    let limit = match group.cgroups.layout() {
        CgroupLayout::V2 => "memory.max",
        CgroupLayout::Hybrid => "memory.limit_in_bytes",
    };
    let leaf = format!("{}/payload", group.path);
    group.cgroups.create(&leaf).unwrap();
    if group.cgroups.layout() == CgroupLayout::V2 {
        // In v2 a parent hands a controller down; for instances liblxc does it, for the top systemd did.
        group.cgroups.set(&group.path, "cgroup.subtree_control", "+memory").unwrap();
    }
    group.cgroups.set(&leaf, limit, "8388608").unwrap();
    assert_eq!(group.cgroups.memory_events(&group.path).unwrap().oom_kill, 0);
    // It waits for its input to close, so that it is in the group before it grows.
    let script = "read line; head -c 200m /dev/zero | tail >/dev/null; exit 0";
    let mut shell = Process(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    group.cgroups.enter(&leaf, shell.pid()).unwrap();
    drop(shell.0.stdin.take());
    shell.0.wait().unwrap();
    assert!(group.cgroups.memory_events(&group.path).unwrap().oom_kill >= 1);
}

#[test]
fn memory_events_are_read_from_a_recorded_v2_tree() {
    let mount = std::env::temp_dir().join(format!("triton-cgroup-fixture-{}", std::process::id()));
    let group = mount.join("triton/x");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("memory.events"), "low 0\nhigh 0\nmax 17\noom 5\noom_kill 4\noom_group_kill 1\n").unwrap();
    fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    let cgroups = Cgroups::from_hierarchies(vec![fixture(&mount)]);
    assert_eq!(cgroups.memory_events("triton/x"), Some(MemoryEvents { max: 17, oom: 5, oom_kill: 4 }));
    assert_eq!(cgroups.memory_events("triton/y"), None);
    assert!(cgroups.populated("triton/x") && !cgroups.populated("triton/y"));
    fs::remove_dir_all(&mount).unwrap();
}

fn fixture(mount: &std::path::Path) -> Hierarchy {
    Hierarchy { version: Version::Unified, mount: PathBuf::from(mount), controllers: Vec::new() }
}
