//! From an instance to its container: limits, mounts, hooks, isolation (instances.md section 7). Pure but for [`Host::look`].

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use triton_files::{FileError, Layout};
use triton_lxc::{
    CgroupDirs, ConsoleLog, ContainerSpec, Device, Hook, Hooks, IdMap, InitUser, Limits, LogFile, Mount, Prlimit, STANDARD_DEVICES,
};
use triton_types::{Filesystem, InstanceUuid, MachineFile, Ownership, VmConfig};

use crate::{
    boot::BootFiles,
    docker,
    guest_files::hostname,
    seed::{self, DataSource},
    zonecontrol,
};

/// What the machine offers to containers.
#[derive(Clone, Debug)]
pub struct Host {
    /// Root of the node, as hooks need it.
    pub root: PathBuf,
    /// The monitor's program.
    pub monitor: PathBuf,
    /// Cgroups are hybrid.
    pub legacy_cgroups: bool,
    /// AppArmor profile to run under; absent where the kernel has no AppArmor.
    pub apparmor: Option<String>,
    /// Seccomp policy, where the kernel filters system calls. [`Host::write_policy`] writes it.
    pub seccomp: Option<PathBuf>,
    /// Limits of processes may be raised (CAP_SYS_RESOURCE).
    pub may_raise_limits: bool,
    /// The directory of the guest's tools, if this node has it.
    pub native: Option<PathBuf>,
    /// The directory that holds those of the instances' metadata sockets.
    pub zonecontrol: PathBuf,
    /// Number of `/dev/zfs`, where it is there.
    pub zfs: Option<(u32, u32)>,
}

/// The profile that the platform image loads at boot (ruling 74).
const APPARMOR_PROFILE: &str = "triton-instance";
/// The profile of guests that manage a dataset: the same, with `/dev/zfs`.
const APPARMOR_PROFILE_ZFS: &str = "triton-instance-zfs";
/// By which datasets are managed.
const ZFS_DEVICE: &str = "/dev/zfs";
/// Where the guest sees its second serial line.
pub(crate) const SERIAL: &str = "dev/ttyS1";
/// The filter of system calls, the same for all guests.
const SECCOMP_POLICY: &str = "/run/triton/guest.seccomp";
/// Capabilities that even the guest's root never has: those that concern the machine.
const DROPPED: [&str; 11] = [
    "mac_admin",
    "mac_override",
    "sys_time",
    "sys_module",
    "sys_rawio",
    "sys_pacct",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_control",
    "audit_read",
];
/// Bytes of a guest's console that are kept.
const CONSOLE_LOG: u64 = 128 << 10;

impl Host {
    /// Looks at the machine.
    pub fn look(layout: &Layout, monitor: &Path, legacy_cgroups: bool) -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
        let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        let ours = loaded.lines().any(|line| line.split(' ').next() == Some(APPARMOR_PROFILE));
        Self {
            root: layout.root().to_owned(),
            monitor: monitor.to_owned(),
            legacy_cgroups,
            apparmor: enabled.then(|| if ours { APPARMOR_PROFILE } else { "unconfined" }.to_owned()),
            seccomp: Path::new("/proc/sys/kernel/seccomp").is_dir().then(|| layout.at(SECCOMP_POLICY)),
            may_raise_limits: may_raise_limits(),
            native: Some(layout.native()).filter(|path| path.is_dir()),
            zonecontrol: layout.at("/var/zonecontrol"),
            zfs: fs::metadata(ZFS_DEVICE).ok().and_then(|device| {
                let number = device.rdev();
                Some((u32::try_from(nix::sys::stat::major(number)).ok()?, u32::try_from(nix::sys::stat::minor(number)).ok()?))
            }),
        }
    }
}

impl Host {
    /// Writes the policy that configs name, if it is not there or is another version's.
    ///
    /// # Errors
    /// When it cannot be written: no guest starts without it.
    pub fn write_policy(&self) -> Result<(), FileError> {
        let Some(path) = &self.seccomp else { return Ok(()) };
        let policy = triton_lxc::seccomp_policy();
        match fs::read(path) {
            Ok(found) if found == policy.as_bytes() => Ok(()),
            _ => triton_files::write_volatile(path, policy.as_bytes(), 0o644),
        }
    }
}

/// CAP_SYS_RESOURCE (24) among the effective capabilities.
pub(crate) fn may_raise_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << 24) != 0)
}

/// How a process is run that takes the place of an init.
#[derive(Clone, Debug)]
pub struct Running {
    /// Who it runs as.
    pub user: InitUser,
    /// Where.
    pub directory: String,
}

/// What keeps a container from being described.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The machine file has no storage record.
    #[error("its machine file has no storage record")]
    NoStorage,
    /// Its root was never completed.
    #[error("its root file system is not complete")]
    NoRoot,
}

/// The container of an instance.
///
/// # Errors
/// When the instance's creation did not get far enough.
pub fn container(file: &MachineFile, files: &BootFiles, host: &Host, process: Option<&Running>) -> Result<ContainerSpec, SpecError> {
    let storage = file.storage.as_ref().ok_or(SpecError::NoStorage)?;
    let ownership = storage.ownership.ok_or(SpecError::NoRoot)?;
    let config = &file.config;
    Ok(ContainerSpec {
        name: config.uuid.to_string(),
        hostname: hostname(config),
        rootfs: files.zonepath.join("root"),
        idmapped: ownership == Ownership::Idmapped,
        ids: IdMap { base: storage.ids.base, size: storage.ids.size },
        // A process and its variables are the boot child's to set: a config cannot hold every text.
        init: match process {
            Some(_) => Vec::new(),
            None => vec![config.init_name.clone().unwrap_or_else(|| "/sbin/init".to_owned())],
        },
        user: process.map(|process| process.user).unwrap_or_default(),
        directory: process.map(|process| process.directory.clone()),
        environment: match process {
            Some(_) => Vec::new(),
            None => {
                let mut environment = vec![("PATH".to_owned(), docker::PATH.to_owned()), ("TERM".to_owned(), "linux".to_owned())];
                if DataSource::chosen(config) == DataSource::OpenStack {
                    // By which cloud-init knows it in a container, where there is no DMI (metadata.md section 6.4).
                    environment.push(("product_name".to_owned(), "OpenStack Nova".to_owned()));
                }
                environment
            }
        },
        limits: limits(config),
        legacy_cgroups: host.legacy_cgroups,
        cgroups: CgroupDirs {
            monitor: format!("{}/monitor", files.cgroup),
            payload: format!("{}/payload", files.cgroup),
            inner: "ns".to_owned(),
            pivot: format!("{}/pivot", files.cgroup),
        },
        devices: STANDARD_DEVICES.iter().copied().chain(zfs_device(config, host)).collect(),
        mounts: mounts(config, files, host),
        seccomp_profile: host.seccomp.clone(),
        apparmor_profile: match host.apparmor.as_deref() {
            Some(APPARMOR_PROFILE) if config.delegate_dataset => Some(APPARMOR_PROFILE_ZFS.to_owned()),
            other => other.map(str::to_owned),
        },
        cap_drop: DROPPED.map(str::to_owned).to_vec(),
        prlimits: prlimits(config, host),
        console: ConsoleLog { file: files.zonepath.join("logs/console.log"), size: CONSOLE_LOG },
        log: LogFile { file: files.log.clone(), level: "WARN".to_owned() },
        halt_signal: "SIGPWR".to_owned(),
        reboot_signal: "SIGINT".to_owned(),
        hooks: hooks(config.uuid, host),
    })
}

/// Limits of the payload (instances.md section 7.1).
fn limits(config: &VmConfig) -> Limits {
    const MIB: u64 = 1 << 20;
    let narrow = |value: Option<u64>| value.filter(|value| *value > 0).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    Limits {
        cpu_cap: narrow(config.cpu_cap),
        cpu_weight: narrow(config.cpu_shares),
        memory: config.max_physical_memory.filter(|mib| *mib > 0).map(|mib| mib.saturating_mul(MIB)),
        memory_and_swap: config.max_swap.map(|mib| mib.saturating_mul(MIB)),
        pids: config.max_lwps.filter(|count| *count > 0),
        io_weight: None,
    }
}

fn prlimits(config: &VmConfig, host: &Host) -> Vec<Prlimit> {
    let memlock = config.max_locked_memory.filter(|_| host.may_raise_limits);
    memlock.map(|mib| Prlimit { name: "memlock".to_owned(), value: Some(mib.saturating_mul(1 << 20)) }).into_iter().collect()
}

/// The way to a guest's own dataset: for those that have one (instances.md section 7.6).
fn zfs_device(config: &VmConfig, host: &Host) -> Option<Device> {
    let (major, minor) = host.zfs.filter(|_| config.delegate_dataset)?;
    Some(Device { kind: 'c', major, minor: Some(minor), access: "rw" })
}

fn mounts(config: &VmConfig, files: &BootFiles, host: &Host) -> Vec<Mount> {
    let mut mounts = control(config.uuid, &files.zonepath.join("root"), host);
    if let Some(mib) = config.tmpfs.filter(|mib| *mib > 0) {
        mounts.push(Mount::tmpfs("tmp", mib));
    }
    let seed_directory = files.zonepath.join("seed");
    if seed_directory.is_dir() && !DataSource::chosen(config).is_http() {
        let mut seed = Mount::bind_directory(&seed_directory.to_string_lossy(), seed::GUEST_PATH, true);
        seed.options.push("optional".to_owned());
        mounts.push(seed);
    }
    mounts.extend(files.serial.iter().map(|device| {
        let options = ["bind", "create=file", "optional"].map(str::to_owned).to_vec();
        Mount { source: device.to_string_lossy().into_owned(), target: SERIAL.to_owned(), kind: "none".to_owned(), options }
    }));
    if zfs_device(config, host).is_some() {
        let options = ["bind", "create=file"].map(str::to_owned).to_vec();
        mounts.push(Mount { source: ZFS_DEVICE.to_owned(), target: "dev/zfs".to_owned(), kind: "none".to_owned(), options });
    }
    mounts.extend(config.filesystems.iter().filter(|fs| fs.kind == "lofs").map(|fs| bind(fs, &host.root)));
    mounts
}

/// The guest's tools, and over them the way to the metadata service. A guest that put something else in the place of a mount's
/// target goes without that mount: it must be able to boot, and nothing is followed. `optional` alone does not do: liblxc opens
/// the target, and waits for ever if that is a named pipe.
fn control(uuid: InstanceUuid, root: &Path, host: &Host) -> Vec<Mount> {
    let mount = |source: &Path, target: &str, more: &[&str]| {
        let mut mount = Mount::bind_directory(&source.to_string_lossy(), target, true);
        mount.options.extend(["nosuid", "nodev", "optional"].iter().chain(more).map(|word| (*word).to_owned()));
        mount
    };
    let directory = host.zonecontrol.join(uuid.to_string());
    let native = host.native.as_ref().filter(|_| may_be_mounted_on(root, zonecontrol::NATIVE));
    // What the guest has below the host's tools is hidden by them.
    let hidden = |target: &str| native.is_some() && Path::new(target).starts_with(zonecontrol::NATIVE);
    let control = zonecontrol::GUEST_PATHS.iter().filter(|target| hidden(target) || may_be_mounted_on(root, target));
    let control = control.map(|target| mount(&directory, target, &["noexec"]));
    native.iter().map(|native| mount(native, zonecontrol::NATIVE, &[])).chain(control).collect()
}

/// True if nothing but directories, or nothing, is where `target` is to be below a guest's root.
fn may_be_mounted_on(root: &Path, target: &str) -> bool {
    let mut path = root.to_owned();
    Path::new(target.trim_start_matches('/')).components().all(|component| {
        path.push(component);
        path.symlink_metadata().map_or(true, |metadata| metadata.is_dir())
    })
}

/// A `lofs` file system: a bind with the options that Linux has a word for (instances.md section 2.5).
/// Its source is a path of the node, below the node's root like every other.
fn bind(filesystem: &Filesystem, root: &Path) -> Mount {
    let source = root.join(filesystem.source.trim_start_matches('/'));
    let mut mount = Mount::bind_directory(&source.to_string_lossy(), &filesystem.target, false);
    for option in &filesystem.options {
        let word = match option.as_str() {
            "ro" => "ro",
            "nodevice" | "nodevices" => "nodev",
            "nosuid" => "nosuid",
            "noexec" => "noexec",
            "noatime" => "noatime",
            _ => continue,
        };
        mount.options.push(word.to_owned());
    }
    mount
}

fn hooks(uuid: InstanceUuid, host: &Host) -> Hooks {
    let hook = |kind: &str| {
        let program = host.monitor.to_string_lossy().into_owned();
        let root = host.root.to_string_lossy().into_owned();
        Some(Hook(vec![program, "hook".to_owned(), kind.to_owned(), "--root".to_owned(), root, uuid.to_string()]))
    };
    Hooks { start_host: hook("start-host"), stop: hook("stop"), post_stop: hook("post-stop") }
}

#[cfg(test)]
mod tests {
    use triton_types::{IdRange, Lifecycle, StorageKind, StorageRecord};

    use super::*;

    fn machine() -> MachineFile {
        let mut config = VmConfig::bare("6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11".parse().unwrap());
        config.hostname = Some("web0".into());
        config.max_physical_memory = Some(256);
        config.max_swap = Some(512);
        config.cpu_cap = Some(150);
        config.cpu_shares = Some(100);
        config.max_lwps = Some(2000);
        config.tmpfs = Some(64);
        let storage =
            StorageRecord { kind: StorageKind::Dir, ids: IdRange { base: 1_000_000, size: 65_536 }, ownership: Some(Ownership::Idmapped) };
        MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: Some(storage), config }
    }

    fn render(file: &MachineFile, legacy_cgroups: bool) -> String {
        let files = BootFiles {
            config: "/run/triton/runtime/u/lxc.conf".into(),
            network: "/run/triton/runtime/u/network.json".into(),
            command: "/run/triton/runtime/u/command.json".into(),
            log: "/run/triton/runtime/u/lxc.log".into(),
            zonepath: "/zones/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11".into(),
            cgroup: "triton/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11".into(),
            serial: Some("/dev/pts/7".into()),
            left_out: Vec::new(),
        };
        let host = Host {
            root: "/".into(),
            monitor: "/usr/triton/bin/instance-monitor".into(),
            legacy_cgroups,
            apparmor: None,
            seccomp: Some("/run/triton/guest.seccomp".into()),
            may_raise_limits: false,
            native: Some("/usr/triton/native".into()),
            zonecontrol: "/var/zonecontrol".into(),
            zfs: Some((10, 249)),
        };
        triton_lxc::render(&container(file, &files, &host, None).unwrap()).unwrap()
    }

    /// instances section 7.6: who manages a dataset reaches ZFS, nobody else does.
    #[test]
    fn the_device_of_zfs_is_for_guests_with_a_dataset() {
        let mut file = machine();
        assert!(!render(&file, false).contains("zfs"));
        file.config.delegate_dataset = true;
        let text = render(&file, false);
        for line in ["lxc.cgroup2.devices.allow = c 10:249 rw", "lxc.mount.entry = /dev/zfs dev/zfs none bind,create=file 0 0"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn limits_of_the_vm_object_reach_the_config() {
        let text = render(&machine(), false);
        for line in [
            "lxc.uts.name = web0",
            "lxc.cgroup2.memory.max = 268435456",
            "lxc.cgroup2.memory.swap.max = 268435456",
            "lxc.cgroup2.cpu.max = 150000 100000",
            "lxc.cgroup2.pids.max = 2000",
            "lxc.monitor.signal.pdeath = 0",
            "lxc.rootfs.options = idmap=container",
            "lxc.net.0.type = empty",
            "lxc.mount.entry = /dev/pts/7 dev/ttyS1 none bind,create=file,optional 0 0",
            "lxc.seccomp.profile = /run/triton/guest.seccomp",
            "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio sys_pacct syslog wake_alarm block_suspend audit_control audit_read",
            "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
            "lxc.cgroup2.devices.deny = a",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("lxc.cgroup.memory"), "no v1 keys on a v2 machine");
        assert!(render(&machine(), true).contains("lxc.cgroup.memory.limit_in_bytes"));
    }

    /// instances case 29
    #[test]
    fn without_a_cap_the_processor_is_not_limited() {
        let mut file = machine();
        file.config.cpu_cap = None;
        let text = render(&file, false);
        assert!(!text.contains("cpu.max") || text.contains("cpu.max = max 100000"), "{text}");
    }

    #[test]
    fn a_file_system_is_a_bind_with_known_options() {
        let mut file = machine();
        file.config.filesystems.push(Filesystem {
            kind: "lofs".into(),
            source: "/opt/data".into(),
            target: "/data".into(),
            raw: None,
            options: vec!["ro".into(), "nodevices".into(), "zonky".into()],
            extra: Default::default(),
        });
        let text = render(&file, false);
        let line = text.lines().find(|l| l.contains("/opt/data")).unwrap();
        assert!(line.contains(" data none ") && line.contains("ro") && line.contains("nodev") && !line.contains("zonky"), "{line}");
    }

    #[test]
    fn a_guest_that_put_something_else_in_the_place_of_a_target_goes_without_that_mount() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for name in ["directory", "directory/below"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("file"), "").unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        for target in ["directory", "/directory/below", "absent", "directory/absent/more"] {
            assert!(may_be_mounted_on(root, target), "{target}");
        }
        for target in ["file", "pipe", "link", "link/tmp", "/pipe/x"] {
            assert!(!may_be_mounted_on(root, target), "{target}");
        }
    }
}
