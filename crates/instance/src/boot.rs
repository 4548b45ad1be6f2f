//! The files of one boot: the container's config and the network plan, rendered anew for every boot (design section 4).
//!
//! Derived from the machine file alone, so the monitor calls it at a guest's reboot without any lock.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, Serialize};
use triton_cgroup::{CgroupLayout, Cgroups};
use triton_files::{FileError, Identity, Layout, SafeRoot, read_json, remove_if_present, write_json_volatile, write_volatile};
use triton_nictag::NicTags;
use triton_types::{InstanceUuid, MachineFile, VmConfig};

use crate::{
    InstanceError, Machines,
    docker::Process,
    instances::cgroup_path,
    launch::monitor_program,
    mount_targets,
    network::{self, NetworkError},
    seed,
    spec::{self, Host, Running},
    zonecontrol,
};

/// Where the files of a boot are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The container's config for liblxc.
    pub config: PathBuf,
    /// The network plan.
    pub network: PathBuf,
    /// The [`Command`] of a guest that has a process instead of an init; else there is no such file.
    pub command: PathBuf,
    /// liblxc's log of this boot.
    pub log: PathBuf,
    /// `/<pool>/<uuid>` below the node's root.
    pub zonepath: PathBuf,
    /// The instance's cgroup: `supervisor`, `monitor` and `payload` are below it.
    pub cgroup: String,
    /// The device that the guest gets as its second serial line.
    pub serial: Option<PathBuf>,
    /// Targets in the guest at which something is that nothing can be mounted on: it goes without those mounts.
    pub left_out: Vec<String>,
}

impl BootFiles {
    /// The places for `uuid`, whether the files are there or not.
    ///
    /// # Errors
    /// When the instance cannot be read.
    pub fn of(layout: &Layout, uuid: InstanceUuid) -> Result<Self, InstanceError> {
        let file = Machines::new(layout).read_alone(uuid)?;
        let identity = Identity::load_or_create(layout)?;
        let runtime = layout.runtime(uuid);
        Ok(Self {
            config: runtime.join("lxc.conf"),
            network: runtime.join("network.json"),
            command: command_path(&runtime.join("lxc.conf")),
            log: runtime.join("lxc.log"),
            zonepath: Machines::new(layout).zonepath(&file),
            cgroup: cgroup_path(layout, &identity, uuid),
            serial: None,
            left_out: Vec::new(),
        })
    }
}

/// What the boot child gives to liblxc beside the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables.
    pub environment: Vec<(String, String)>,
}

impl Command {
    /// The command beside a container's config, if it has one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn beside(config: &Path) -> Result<Option<Self>, FileError> {
        read_json(&command_path(config))
    }
}

fn command_path(config: &Path) -> PathBuf {
    config.with_file_name("command.json")
}

/// Describes the process of a guest that has no init, for the config and for the boot child.
fn process(file: &MachineFile, files: &BootFiles) -> Result<Option<(Command, Running)>, InstanceError> {
    let uuid = file.config.uuid;
    let Some(process) = Process::of(&file.config).map_err(InstanceError::step("describe the process of", uuid))? else { return Ok(None) };
    // Read only, so whose the files are does not matter.
    let root = SafeRoot::open(&files.zonepath.join("root"), (0, 0)).map_err(InstanceError::step("open the root of", uuid))?;
    let user = process.ids(&root).map_err(InstanceError::step("find the user of the process of", uuid))?;
    let running = Running { user, directory: process.directory };
    Ok(Some((Command { argv: process.argv, environment: process.environment }, running)))
}

/// Renders the files for the next boot, in which `serial` is the guest's second serial line. A config that differs from the
/// last one replaces it only after the real liblxc has loaded it (ruling 47). They are derived and lie below `/run`: nothing
/// waits for the disk.
///
/// # Errors
/// NIC tags that are missing, values that no config can hold, liblxc's reason for refusing it. The old files are then still there.
pub fn prepare(layout: &Layout, uuid: InstanceUuid, serial: Option<&Path>) -> Result<BootFiles, InstanceError> {
    let machines = Machines::new(layout);
    let file = machines.read(uuid)?.file;
    let mut files = BootFiles::of(layout, uuid)?;
    files.serial = serial.map(Path::to_owned);
    let seed_directory = files.zonepath.join("seed");
    if let Some(storage) = file.storage.filter(|_| seed_directory.is_dir()) {
        seed::write(&seed_directory, &file.config, storage.ids).map_err(InstanceError::step("write the seed of", uuid))?;
    }
    if let Some(storage) = file.storage {
        zonecontrol::ensure(layout, uuid, storage.ids)?;
    }
    let runtime = layout.runtime(uuid);
    make_directory(&runtime)?;
    make_directory(&files.zonepath.join("logs"))?;
    let plan = plan_network(layout, uuid, &file.config)?;
    let legacy = Cgroups::probe().is_ok_and(|cgroups| cgroups.layout() == CgroupLayout::Hybrid);
    let host = Host::look(layout, &monitor_program(), legacy);
    host.write_policy()?;
    let (command, running) = process(&file, &files)?.unzip();
    let mut spec =
        spec::container(&file, &files, &host, running.as_ref()).map_err(InstanceError::step("describe the container of", uuid))?;
    (spec.mounts, files.left_out) = mount_targets::possible(&spec.rootfs, spec.mounts);
    let text = triton_lxc::render(&spec).map_err(InstanceError::step("render the config of", uuid))?;
    let old = fs::read_to_string(&files.config).ok();
    if old.as_deref() != Some(text.as_str()) {
        let candidate = runtime.join("lxc.conf.candidate");
        write_volatile(&candidate, text.as_bytes(), 0o600)?;
        // Without an old one there is nothing to spare: the boot itself loads it first, and says why it is refused.
        // Another number of a pseudo terminal is nothing that liblxc could refuse.
        if old.is_some_and(|old| !same_but_for_serial(&old, &text)) {
            check(&candidate).map_err(|reason| InstanceError::Step { action: "load the config of", uuid, source: reason.into() })?;
        }
        fs::rename(&candidate, &files.config).map_err(|e| FileError::new("replace", &files.config, e))?;
    }
    write_json_volatile(&files.network, &plan, 0o600)?;
    match command {
        Some(command) => write_json_volatile(&files.command, &command, 0o600)?,
        None => remove_if_present(&files.command)?,
    }
    Ok(files)
}

fn same_but_for_serial(one: &str, other: &str) -> bool {
    let rest = |line: &&str| !line.contains(spec::SERIAL);
    one.lines().filter(rest).eq(other.lines().filter(rest))
}

fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| FileError::new("create directory", path, e))
}

/// Lets the real liblxc load a config, in a process of its own.
fn check(config: &Path) -> Result<(), String> {
    let monitor = monitor_program();
    let output = std::process::Command::new(&monitor)
        .arg("check")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("could not run {}: {e}", monitor.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.trim().chars().take(2048).collect())
}

fn plan_network(layout: &Layout, uuid: InstanceUuid, config: &VmConfig) -> Result<network::NetworkPlan, InstanceError> {
    let tags = NicTags::load(layout).map_err(InstanceError::step("read the NIC tags for", uuid))?;
    network::plan(config, &tags).map_err(|error| match error {
        NetworkError::Tags(_) => InstanceError::NicTags(error.to_string()),
        other => InstanceError::Step { action: "plan the network of", uuid, source: other.into() },
    })
}

/// Checks that this node has every NIC tag of `config`.
///
/// # Errors
/// [`InstanceError::NicTags`] names those that it lacks.
pub(crate) fn check_tags(layout: &Layout, config: &VmConfig) -> Result<(), InstanceError> {
    plan_network(layout, config.uuid, config).map(drop)
}

/// Makes the bridges of this node's NIC tags, where they are missing.
///
/// # Errors
/// When the tags cannot be read or the kernel refuses a bridge.
pub(crate) fn ensure_bridges(layout: &Layout) -> Result<(), triton_nictag::NicTagError> {
    NicTags::load(layout)?.ensure_bridges().map(drop)
}
