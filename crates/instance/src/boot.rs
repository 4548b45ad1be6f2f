//! The files of one boot: the container's config and the network plan, rendered anew for every boot (design section 4).
//!
//! Derived from the machine file alone, so the monitor calls it at a guest's reboot without any lock.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use triton_cgroup::{CgroupLayout, Cgroups};
use triton_files::{FileError, Identity, Layout, write_json_volatile, write_volatile};
use triton_nictag::NicTags;
use triton_types::{InstanceUuid, VmConfig};

use crate::{
    InstanceError, Machines,
    instances::cgroup_path,
    launch::monitor_program,
    network::{self, NetworkError},
    seed,
    spec::{self, Host},
    zonecontrol,
};

/// Where the files of a boot are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The container's config for liblxc.
    pub config: PathBuf,
    /// The network plan.
    pub network: PathBuf,
    /// liblxc's log of this boot.
    pub log: PathBuf,
    /// `/<pool>/<uuid>` below the node's root.
    pub zonepath: PathBuf,
    /// The instance's cgroup: `supervisor`, `monitor` and `payload` are below it.
    pub cgroup: String,
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
            log: runtime.join("lxc.log"),
            zonepath: Machines::new(layout).zonepath(&file),
            cgroup: cgroup_path(layout, &identity, uuid),
        })
    }
}

/// Renders the files for the next boot. A config that differs from the last one replaces it only after the real liblxc
/// has loaded it (ruling 47). They are derived and lie below `/run`: nothing waits for the disk.
///
/// # Errors
/// NIC tags that are missing, values that no config can hold, liblxc's reason for refusing it. The old files are then still there.
pub fn prepare(layout: &Layout, uuid: InstanceUuid) -> Result<BootFiles, InstanceError> {
    let machines = Machines::new(layout);
    let file = machines.read(uuid)?.file;
    let files = BootFiles::of(layout, uuid)?;
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
    let spec = spec::container(&file, &files, &host).map_err(InstanceError::step("describe the container of", uuid))?;
    let text = triton_lxc::render(&spec).map_err(InstanceError::step("render the config of", uuid))?;
    if fs::read(&files.config).ok().as_deref() != Some(text.as_bytes()) {
        let candidate = runtime.join("lxc.conf.candidate");
        write_volatile(&candidate, text.as_bytes(), 0o600)?;
        // Without an old one there is nothing to spare: the boot itself loads it first, and says why it is refused.
        if files.config.exists() {
            check(&candidate).map_err(|reason| InstanceError::Step { action: "load the config of", uuid, source: reason.into() })?;
        }
        fs::rename(&candidate, &files.config).map_err(|e| FileError::new("replace", &files.config, e))?;
    }
    write_json_volatile(&files.network, &plan, 0o600)?;
    Ok(files)
}

fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| FileError::new("create directory", path, e))
}

/// Lets the real liblxc load a config, in a process of its own.
fn check(config: &Path) -> Result<(), String> {
    let monitor = monitor_program();
    let output = Command::new(&monitor)
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
