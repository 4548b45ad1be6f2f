//! What a container should be: everything that a config says.

use std::path::PathBuf;

/// A container, complete. [`crate::render()`] makes its config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name: for the comment at the top; liblxc is told the name at start.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Directory of the root file system.
    pub rootfs: PathBuf,
    /// The root is shown through an idmapped mount (real ids on disk) instead of being shifted on disk.
    pub idmapped: bool,
    /// Its range of host ids.
    pub ids: IdMap,
    /// Command of init, first an absolute path inside the root. Empty when the starter gives liblxc the command itself.
    pub init: Vec<String>,
    /// Who init runs as, if not the guest's root.
    pub user: InitUser,
    /// Working directory of init.
    pub directory: Option<String>,
    /// Environment of init; `PATH` should be in it, since nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
    /// Write v1 keys beside the v2 ones: the machine is hybrid.
    pub legacy_cgroups: bool,
    /// Control groups, relative to the roots of the hierarchies.
    pub cgroups: CgroupDirs,
    /// Devices that may be used; all others may not.
    pub devices: Vec<Device>,
    /// Mounts beside `/proc`, `/sys` and `/dev`.
    pub mounts: Vec<Mount>,
    /// Seccomp profile, if its file is there.
    pub seccomp_profile: Option<PathBuf>,
    /// Name of a loaded AppArmor profile, or `unconfined`; absent where the kernel has no AppArmor.
    pub apparmor_profile: Option<String>,
    /// Capabilities that even the guest's root never has.
    pub cap_drop: Vec<String>,
    /// Limits of processes.
    pub prlimits: Vec<Prlimit>,
    /// Record of the guest's console.
    pub console: ConsoleLog,
    /// liblxc's own log.
    pub log: LogFile,
    /// Signal that asks init to halt (`SIGPWR`, `SIGRTMIN+3`).
    pub halt_signal: String,
    /// Signal that asks init to reboot.
    pub reboot_signal: String,
    /// Commands on the host.
    pub hooks: Hooks,
}

/// Ids inside the guest. liblxc gives supplementary groups to privileged containers only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Guest id `n` is host id `base + n`, for users and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// Host id of the guest's root. Never 0: such a container would be privileged.
    pub base: u32,
    /// Number of ids.
    pub size: u32,
}

/// Limits of the payload's group; an absent one is none (instances.md section 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Percent of one processor.
    pub cpu_cap: Option<u32>,
    /// Weight against others, 100 is usual; clamped to 1..=10000.
    pub cpu_weight: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; less than [`Limits::memory`] means no swap. Needs `memory`.
    pub memory_and_swap: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// Weight of I/O against others, 1..=10000.
    pub io_weight: Option<u32>,
}

/// Where the container's processes are kept, relative to the roots of the hierarchies. LXC refuses leaves that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirs {
    /// Of the process that runs liblxc.
    pub monitor: String,
    /// Carries the limits.
    pub payload: String,
    /// Name below `payload` where the guest's processes are, so that a guest cannot change its own limits.
    pub inner: String,
    /// Where the monitor goes when its group is removed; it makes `lxc.pivot` below.
    pub pivot: String,
}

/// A device that the guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number, or all.
    pub minor: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub access: &'static str,
}

const fn character(major: u32, minor: u32) -> Device {
    Device { kind: 'c', major, minor: Some(minor), access: "rwm" }
}

/// null, zero, full, tty, console, ptmx, random, urandom and the slaves of pseudo terminals (instances.md section 7.2).
pub const STANDARD_DEVICES: [Device; 9] = [
    character(1, 3),
    character(1, 5),
    character(1, 7),
    character(5, 0),
    character(5, 1),
    character(5, 2),
    character(1, 8),
    character(1, 9),
    Device { kind: 'c', major: 136, minor: None, access: "rwm" },
];

/// A line of `lxc.mount.entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What: a path on the host, or the name of a file system type.
    pub source: String,
    /// Where, relative to the guest's root, without `..`.
    pub target: String,
    /// File system type; `none` for binds.
    pub kind: String,
    /// Options, LXC's own (`create=dir`, `optional`) included.
    pub options: Vec<String>,
}

impl Mount {
    /// A tmpfs of `mib` MiB at `target`, writable for everybody as `/tmp` is (instances.md section 7.1).
    pub fn tmpfs(target: &str, mib: u64) -> Self {
        let options = ["rw", "nosuid", "nodev", &format!("size={mib}m"), "mode=1777", "create=dir"].map(str::to_owned).to_vec();
        Self { source: "tmpfs".to_owned(), target: target.to_owned(), kind: "tmpfs".to_owned(), options }
    }

    /// The directory `source` of the host at `target`.
    pub fn bind_directory(source: &str, target: &str, read_only: bool) -> Self {
        let mut options = vec!["bind".to_owned(), "create=dir".to_owned()];
        if read_only {
            options.push("ro".to_owned());
        }
        Self { source: source.to_owned(), target: target.trim_start_matches('/').to_owned(), kind: "none".to_owned(), options }
    }
}

/// A limit of each process, as setrlimit(2): raising one above the monitor's own needs CAP_SYS_RESOURCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prlimit {
    /// Lower-case name without `RLIMIT_`: `memlock`.
    pub name: String,
    /// The value for both bounds; `None` is unlimited.
    pub value: Option<u64>,
}

/// Record of a guest's console, bounded: the file has at most `size` bytes, and one older file of that size is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleLog {
    /// The file.
    pub file: PathBuf,
    /// Bytes; liblxc rounds up to a power of two.
    pub size: u64,
}

/// A log of liblxc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The file. liblxc appends and never rotates.
    pub file: PathBuf,
    /// `TRACE`, `DEBUG`, `INFO`, `NOTICE`, `WARN` or `ERROR`.
    pub level: String,
}

/// A command on the host with its arguments. liblxc gives it to a shell: only plain characters are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook(pub Vec<String>);

/// Commands on the host at points of the container's life; `LXC_PID` and `LXC_TARGET` are in their environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before init runs, namespaces exist. Failure ends the start.
    pub start_host: Option<Hook>,
    /// After init ended, its groups still exist.
    pub stop: Option<Hook>,
    /// At the end. Failure at a reboot ends the container instead (ruling 70).
    pub post_stop: Option<Hook>,
}
