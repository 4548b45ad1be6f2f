//! Attempts to get out of a guest, one a call: what the test `escape` runs as root inside a confined guest.
//!
//! `escape-probe VECTOR [HOST-PID HOST-PATH]` prints how the attempt ended: `closed: ...` with exit status 0 when something stood
//! against it, `OPEN: ...` with exit status 1 when nothing did. It does no harm where it succeeds.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // a panic is a failed attempt, and is reported as such

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{Error, Read, Write},
    os::fd::AsRawFd,
    process::ExitCode,
};

/// `Ok` says what was reached, `Err` what stood against it.
type Attempt = Result<String, String>;

fn text(path: &str) -> CString {
    CString::new(path).unwrap()
}

fn system(what: &str, result: i64) -> Attempt {
    if result >= 0 { Ok(format!("{what} gave {result}")) } else { Err(format!("{what}: {}", Error::last_os_error())) }
}

/// A system call with up to five arguments.
fn call(what: &str, number: i64, arguments: [usize; 5]) -> Attempt {
    let [a, b, c, d, e] = arguments;
    // SAFETY: every pointer among the arguments is null or outlives the call; what the kernel makes of the rest is the question.
    system(what, unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// The first that succeeds, or all that stood against them.
fn any(attempts: impl IntoIterator<Item = Attempt>) -> Attempt {
    let mut reasons = Vec::new();
    for attempt in attempts {
        match attempt {
            Ok(reached) => return Ok(reached),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

fn open_write(path: &str) -> Attempt {
    match OpenOptions::new().write(true).open(path) {
        Ok(_) => Ok(format!("{path} is writable")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn read_one(path: &str) -> Attempt {
    let mut byte = [0];
    match File::open(path).and_then(|mut file| file.read_exact(&mut byte)) {
        Ok(()) => Ok(format!("{path} is readable")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Attempt {
    let (source_c, target_c, kind_c, data_c) = (text(source), text(target), text(kind), text(data));
    // SAFETY: four C strings that outlive the call.
    let result = unsafe { libc::mount(source_c.as_ptr(), target_c.as_ptr(), kind_c.as_ptr(), flags, data_c.as_ptr().cast()) };
    system(&format!("mount of {kind} {source} on {target}"), result.into())
}

/// Makes a device node and opens it.
fn device(kind: u32, major: u32, minor: u32) -> Attempt {
    let path = format!("/probe-{kind}-{major}-{minor}");
    let path_c = text(&path);
    // SAFETY: a C string that outlives the call.
    system("mknod", unsafe { libc::mknod(path_c.as_ptr(), kind | 0o600, libc::makedev(major, minor)) }.into())?;
    let opened = File::open(&path).map(|_| format!("device {major}:{minor} was made and opened")).map_err(|e| format!("{path}: {e}"));
    let _ = fs::remove_file(&path);
    opened
}

fn cgroup_v1(controller: &str) -> Attempt {
    let target = format!("/probe-cgroup-{controller}");
    fs::create_dir_all(&target).unwrap();
    mount("cgroup", &target, "cgroup", 0, controller)?;
    let reached = open_write(&format!("{target}/release_agent"));
    let limit = any(["memory.limit_in_bytes", "pids.max"].map(|file| {
        let path = format!("{target}/{file}");
        fs::write(&path, "-1").map(|()| format!("{path} was written")).map_err(|error| format!("{path}: {error}"))
    }));
    any([reached, limit])
}

fn cgroup_v2() -> Attempt {
    let target = "/probe-cgroup2";
    fs::create_dir_all(target).unwrap();
    let mounted = mount("cgroup2", target, "cgroup2", 0, "");
    let places = [target, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let write = |place: &str, file: &str| {
        let path = format!("{place}/{file}");
        fs::write(&path, "max").map(|()| format!("{path} was written")).map_err(|error| format!("{path}: {error}"))
    };
    let attempts = places.iter().flat_map(|place| ["memory.max", "pids.max", "cpu.max"].map(|file| write(place, file)));
    any(attempts.chain([mounted.and(Err("its own part of the hierarchy can be mounted".to_owned()))]))
}

/// Takes away what the container's set-up put over `/proc/sys` and tries again: ownership must hold.
fn uncovered_sysctl() -> Attempt {
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/sys/net"] {
        let path_c = text(path);
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(path_c.as_ptr(), libc::MNT_DETACH) };
        let _ = mount("none", path, "none", libc::MS_REMOUNT | libc::MS_BIND, "");
    }
    fs::create_dir_all("/probe-proc").unwrap();
    let _ = mount("proc", "/probe-proc", "proc", 0, "");
    any(["/proc", "/probe-proc"].iter().flat_map(|proc| {
        ["sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/vm/panic_on_oom", "sysrq-trigger", "sys/kernel/panic"]
            .map(|file| open_write(&format!("{proc}/{file}")))
    }))
}

fn chroot_breakout(canary: &str) -> Attempt {
    let root = File::open("/").unwrap();
    fs::create_dir_all("/probe-jail").unwrap();
    let (jail, up, here) = (text("/probe-jail"), text(".."), text("."));
    // SAFETY: C strings and a descriptor that outlive the calls.
    unsafe {
        system("chroot", libc::chroot(jail.as_ptr()).into())?;
        libc::fchdir(root.as_raw_fd());
        for _ in 0..64 {
            libc::chdir(up.as_ptr());
        }
        libc::chroot(here.as_ptr());
    }
    fs::metadata(canary).map(|_| format!("{canary} of the host is there")).map_err(|error| format!("{canary}: {error}"))
}

fn read_only_binds() -> Attempt {
    let paths = ["/native", "/.zonecontrol", "/native/.zonecontrol"];
    for path in paths {
        let _ = mount("none", path, "none", libc::MS_REMOUNT | libc::MS_BIND, "");
    }
    any(paths.iter().flat_map(|path| {
        let new = format!("{path}/probe");
        let made = fs::write(&new, "x").map(|()| format!("{new} was made")).map_err(|error| format!("{new}: {error}"));
        [made, open_write(&format!("{path}/usr/sbin/mdata"))]
    }))
}

/// An overlay over the tools of the host may exist; what is written must stay in the guest. The test looks at the host's side.
fn overlay() -> Attempt {
    for directory in ["/tmp/probe-upper", "/tmp/probe-work", "/tmp/probe-merged"] {
        fs::create_dir_all(directory).unwrap();
    }
    let data = "lowerdir=/native,upperdir=/tmp/probe-upper,workdir=/tmp/probe-work,userxattr";
    mount("overlay", "/tmp/probe-merged", "overlay", 0, data)?;
    any([open_write("/tmp/probe-merged/usr/sbin/mdata")])
}

fn setns(host_pid: &str) -> Attempt {
    let pid: usize = host_pid.parse().unwrap();
    let namespaces = ["mnt", "net", "pid", "user", "ipc"].map(|kind| {
        let path = format!("/proc/{pid}/ns/{kind}");
        File::open(&path).map(|_| format!("{path} can be opened")).map_err(|error| format!("{path}: {error}"))
    });
    any(namespaces.into_iter().chain([
        call("pidfd_open", libc::SYS_pidfd_open, [pid, 0, 0, 0, 0]),
        call("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, pid, 0, 0, 0]),
        call("kill", libc::SYS_kill, [pid, 0, 0, 0, 0]),
        call("process_vm_readv", libc::SYS_process_vm_readv, [pid, 0, 0, 0, 0]),
    ]))
}

fn file_handle() -> Attempt {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let (path, mut id) = (text("/"), 0i32);
    let arguments = [libc::AT_FDCWD as usize, path.as_ptr() as usize, &raw mut handle as usize, &raw mut id as usize, 0];
    let _ = call("name_to_handle_at", libc::SYS_name_to_handle_at, arguments);
    let root = File::open("/").unwrap();
    call("open_by_handle_at", libc::SYS_open_by_handle_at, [root.as_raw_fd() as usize, &raw mut handle as usize, 0, 0, 0])
}

fn abstract_socket(name: &str) -> Attempt {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    UnixStream::connect_addr(&address).map(|_| format!("the host's socket {name} answers")).map_err(|error| error.to_string())
}

fn scheduling() -> Attempt {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: a structure that outlives the call; the rest are numbers.
    any([
        system("SCHED_FIFO", unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) }.into()),
        system("a nice value of -20", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) }.into()),
        fs::write("/proc/self/oom_score_adj", "-1000")
            .map(|()| "the OOM killer was told to spare it".to_owned())
            .map_err(|e| e.to_string()),
    ])
}

/// What of the host's network and machine is seen at all.
fn sight() -> Attempt {
    let links = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let foreign =
        links.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).find(|name| !matches!(*name, "lo" | "eth0"));
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    match foreign {
        Some(link) => Ok(format!("link {link} is seen")),
        None if processes > 30 => Ok(format!("{processes} processes are seen")),
        None => Err(format!("it sees eth0 and {processes} processes")),
    }
}

fn write_devices() -> Attempt {
    let allowed = [
        "null",
        "zero",
        "full",
        "tty",
        "console",
        "ptmx",
        "random",
        "urandom",
        "fd",
        ".lxc-boot-id",
        "ttyS1",
        "stdin",
        "stdout",
        "stderr",
        "pts",
        "shm",
        "mqueue",
        "log",
        "initctl",
        "core",
    ];
    let names = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let foreign: Vec<String> = names.filter(|name| !allowed.contains(&name.as_str())).collect();
    if foreign.is_empty() { Err("only the standard devices are there".to_owned()) } else { Ok(format!("/dev has {foreign:?}")) }
}

fn attempt(vector: &str, host_pid: &str, canary: &str) -> Attempt {
    let now = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let clock = &raw const now as usize;
    let attr = [0u64; 16];
    let zeros = attr.as_ptr() as usize;
    let name = c"probe".as_ptr() as usize;
    match vector {
        "mknod-disk" => any([device(libc::S_IFBLK, 8, 0), device(libc::S_IFBLK, 254, 0), device(libc::S_IFBLK, 7, 0)]),
        "mknod-memory" => {
            any([device(libc::S_IFCHR, 1, 1), device(libc::S_IFCHR, 1, 2), device(libc::S_IFCHR, 1, 4), device(libc::S_IFCHR, 1, 11)])
        }
        "dev-zfs" => any([device(libc::S_IFCHR, 10, 249), device(libc::S_IFCHR, 10, 54), read_one("/dev/zfs")]),
        "dev-fuse-kvm-tun" => any([device(libc::S_IFCHR, 10, 229), device(libc::S_IFCHR, 10, 232), device(libc::S_IFCHR, 10, 200)]),
        "dev-list" => write_devices(),
        "host-memory" => any(["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore", "/dev/kmsg", "/proc/kmsg"].map(read_one)),
        "sysrq" => open_write("/proc/sysrq-trigger"),
        "modules" => any([
            call("init_module", libc::SYS_init_module, [zeros, 8, name, 0, 0]),
            call("finit_module", libc::SYS_finit_module, [0, name, 0, 0, 0]),
            call("delete_module", libc::SYS_delete_module, [name, 0, 0, 0, 0]),
        ]),
        "kexec" => any([
            call("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0, 0]),
            call("kexec_file_load", libc::SYS_kexec_file_load, [0, 0, 0, name, 0]),
        ]),
        "mount-host-disk" => any(["/dev/sda", "/dev/vda", "/dev/loop0", "/dev/nvme0n1"].map(|disk| mount(disk, "/tmp", "ext4", 0, ""))),
        "mount-kernel" => any(["devtmpfs", "debugfs", "tracefs", "securityfs", "pstore", "efivarfs", "configfs"]
            .map(|kind| mount("none", "/tmp", kind, 0, ""))),
        "proc-sys" => any([
            "kernel/modprobe",
            "kernel/panic",
            "kernel/kptr_restrict",
            "kernel/perf_event_paranoid",
            "vm/drop_caches",
            "vm/overcommit_memory",
            "fs/suid_dumpable",
            "fs/file-max",
            "kernel/yama/ptrace_scope",
        ]
        .map(|key| open_write(&format!("/proc/sys/{key}")))),
        "core-pattern" => open_write("/proc/sys/kernel/core_pattern"),
        "binfmt" => any([open_write("/proc/sys/fs/binfmt_misc/register"), open_write("/proc/sys/fs/binfmt_misc/status")]),
        "uncovered-proc-sys" => uncovered_sysctl(),
        "sys-writes" => any([
            "kernel/uevent_helper",
            "kernel/uevent_seqnum",
            "power/state",
            "kernel/mm/transparent_hugepage/enabled",
            "module/kernel/parameters/panic",
            "kernel/debug/tracing/trace",
            "firmware/efi/vars",
        ]
        .map(|key| open_write(&format!("/sys/{key}")))),
        "cgroup-v1" => any(["memory", "pids", "devices", "cpu"].map(cgroup_v1)),
        "cgroup-v2" => cgroup_v2(),
        "keyring" => any([
            call("add_key", libc::SYS_add_key, [c"user".as_ptr() as usize, name, name, 5, -3isize as usize]),
            call("keyctl", libc::SYS_keyctl, [0, -3isize as usize, 1, 0, 0]),
            call("request_key", libc::SYS_request_key, [c"user".as_ptr() as usize, name, 0, -3isize as usize, 0]),
        ]),
        "host-process" => setns(host_pid),
        "file-handle" => file_handle(),
        "userfaultfd" => call("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        "bpf" => call("bpf", libc::SYS_bpf, [0, zeros, 72, 0, 0]),
        "perf" => call("perf_event_open", libc::SYS_perf_event_open, [zeros, 0, -1isize as usize, -1isize as usize, 0]),
        "io-uring" => call("io_uring_setup", libc::SYS_io_uring_setup, [1, zeros, 0, 0, 0]),
        "kernel-log" => call("syslog", libc::SYS_syslog, [10, 0, 0, 0, 0]),
        "clock" => any([
            call("clock_settime", libc::SYS_clock_settime, [0, clock, 0, 0, 0]),
            call("settimeofday", libc::SYS_settimeofday, [clock, 0, 0, 0, 0]),
        ]),
        "swap-and-accounting" => any([
            call("swapon", libc::SYS_swapon, [name, 0, 0, 0, 0]),
            call("swapoff", libc::SYS_swapoff, [name, 0, 0, 0, 0]),
            call("acct", libc::SYS_acct, [0, 0, 0, 0, 0]),
        ]),
        "ports" => any([call("iopl", libc::SYS_iopl, [3, 0, 0, 0, 0]), call("ioperm", libc::SYS_ioperm, [0, 8, 1, 0, 0])]),
        "vsock" => call("socket(AF_VSOCK)", libc::SYS_socket, [libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize, 0, 0, 0]),
        "abstract-socket" => abstract_socket("triton-escape-test"),
        "scheduling" => scheduling(),
        "chroot-breakout" => chroot_breakout(canary),
        "read-only-binds" => read_only_binds(),
        "overlay-on-native" => overlay(),
        "foreign-ids" => any([
            call("setuid", libc::SYS_setuid, [65_536, 0, 0, 0, 0]),
            call("chown", libc::SYS_chown, [c"/tmp".as_ptr() as usize, 100_000, 0, 0, 0]),
        ]),
        "sight" => sight(),
        other => Ok(format!("there is no vector {other:?}")),
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (vector, host_pid, canary) = (word(), word(), word());
    let (line, code) = match attempt(&vector, &host_pid, &canary) {
        Ok(reached) => (format!("OPEN: {reached}"), ExitCode::FAILURE),
        Err(reason) => (format!("closed: {reason}"), ExitCode::SUCCESS),
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    code
}
