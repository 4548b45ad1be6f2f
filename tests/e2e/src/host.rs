//! The machine itself as the node: a compute node booted from the platform image, with its ZFS pool and its systemd.
//!
//! Chosen by `TRITON_E2E_POOL`, the pool's name, which `xtask vm test` sets. There is one such node, so tests take turns, and
//! each finds it empty. Nothing is done on a machine whose pool lacks the marker of a system pool and the test bed's dataset.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
};
use triton_files::Layout;

/// The pool, when the machine is the node.
pub fn pool() -> Option<String> {
    std::env::var("TRITON_E2E_POOL").ok().filter(|pool| !pool.is_empty())
}

/// Waits for other tests to end, and refuses machines that are no test bed.
///
/// # Panics
/// On any other machine.
pub fn turn(pool: &str) -> Flock<fs::File> {
    for proof in [format!("/{pool}/.system_pool"), format!("/{pool}/testbed")] {
        assert!(Path::new(&proof).exists(), "TRITON_E2E_POOL is set on a machine that is no test bed: {proof} is missing");
    }
    let file = fs::File::create("/run/triton-e2e.lock").expect("/run can be written");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("the turn comes")
}

/// Services of the node that a scenario starts by itself, those that it needs.
const SERVICES: [&str; 5] = [
    "triton-metadata-agent.service",
    "triton-net-agent.service",
    "triton-firewaller.service",
    "triton-vm-agent.service",
    "triton-cn-agent.service",
];

/// Stops the node's own services until the next boot: two of a kind would take each other's sockets.
pub fn stop_services() {
    let _ = Command::new("systemctl").arg("stop").args(SERVICES).output();
}

/// Pins the machine's own network namespace where a node that is not the whole machine has its own.
///
/// # Panics
/// When it cannot be mounted.
pub fn pin_namespace(pin: &Path) {
    unpin_namespace(pin);
    fs::write(pin, "").expect("/run can be written");
    mount(Some("/proc/1/ns/net"), pin, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("the namespace can be pinned");
}

/// Undoes [`pin_namespace`].
pub fn unpin_namespace(pin: &Path) {
    let _ = nix::mount::umount2(pin, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_file(pin);
}

/// Ends units of instances that vmadm could not, and destroys every dataset that is named like an instance or an image.
pub fn clear(layout: &Layout, pool: &str) {
    let _ = Command::new("systemctl").args(["kill", "--signal=KILL", "triton-instance@*.service"]).output();
    let _ = fs::write("/sys/fs/cgroup/triton.slice/cgroup.kill", "1");
    let _ = Command::new("systemctl").args(["stop", "triton-instance@*.service"]).output();
    let _ = Command::new("systemctl").args(["reset-failed", "triton-instance@*.service"]).output();
    let listed =
        Command::new("zfs").args(["list", "-H", "-o", "name", "-d", "1", pool]).output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    // Images have clones: everything below them goes with them.
    for name in listed.lines().filter(|name| is_ours(name.strip_prefix(&format!("{pool}/")).unwrap_or_default())) {
        let _ = Command::new("zfs").args(["release", "-r", "do_not_destroy", &format!("{name}@install")]).output();
        let _ = Command::new("zfs").args(["destroy", "-R", "-f", name]).output();
    }
    for folder in [layout.machines(), layout.run_states(), layout.at("/run/triton/runtime"), layout.locks(), layout.imgadm()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let _ = if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
    for entry in fs::read_dir(layout.at("/var/tmp")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("machine-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A uuid, or a uuid with what an unfinished dataset has behind it.
fn is_ours(leaf: &str) -> bool {
    leaf.get(..36).is_some_and(|text| text.parse::<uuid::Uuid>().is_ok())
}

/// Folders of control groups of instances: their units.
pub fn groups() -> Vec<String> {
    let folder = PathBuf::from("/sys/fs/cgroup/triton.slice");
    let names = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("triton-instance@"));
    names.sort();
    names
}
