//! The calls that have no safe form. All of them are made by the helper, which has one thread.
#![allow(unsafe_code)]

use std::process;

use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask},
    },
    unistd::{ForkResult, Gid, Uid, fork as fork_process, setgroups, setresgid, setresuid},
};

/// Nobody but root of the host may look into this process, and it leaves no core.
pub(super) fn hide() -> Result<(), Errno> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Takes over the resource limits of process `pid`, as far as this process may: one that is higher than its own needs a capability.
pub(super) fn limits_of(pid: i32) -> Result<(), Errno> {
    for resource in 0..=libc::RLIMIT_RTTIME {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one limit, and reads none.
        Errno::result(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit) })?;
        // SAFETY: the kernel reads one limit, and writes none.
        match Errno::result(unsafe { libc::prlimit(0, resource, &raw const limit, std::ptr::null_mut()) }) {
            Ok(_) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Forks. The helper has one thread, so its child may do whatever it could.
pub(super) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: this process has one thread: no lock can be held by another one that the child lacks.
    unsafe { fork_process() }
}

/// Becomes root of the user namespace that was entered.
pub(super) fn become_root() -> Result<(), Errno> {
    setgroups(&[])?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    // Changing users may have made it visible again.
    prctl::set_dumpable(false)
}

/// Gives up all capabilities beside `kept`, for whatever is executed too.
pub(super) fn bound(kept: u64) -> Result<(), Errno> {
    for capability in 0..64_u64 {
        // SAFETY: prctl with PR_CAPBSET_READ and PR_CAPBSET_DROP takes integers and touches no memory.
        let had = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if had < 0 {
            // The kernel has no more.
            break;
        }
        if had == 1 && kept & (1 << capability) == 0 {
            // SAFETY: as above.
            Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct` of version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// One half of a set of capabilities: the low or the high 32.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Has no capabilities but `kept`, all below 32, from now on.
pub(super) fn keep_only(kept: u64) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    bound(kept)?;
    let low = u32::try_from(kept).map_err(|_| Errno::EINVAL)?;
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let none = CapabilityHalf { effective: 0, permitted: 0, inheritable: 0 };
    let sets = [CapabilityHalf { effective: low, permitted: low, inheritable: 0 }, none];
    // SAFETY: the kernel reads a header and, for version 3, two halves; both live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
}

/// Refuses the system calls that LXC's common profile refuses to guests, and forced unmounting.
#[cfg(target_arch = "x86_64")]
pub(super) fn filter() -> Result<(), Errno> {
    const ARCH_64: u32 = 0xc000_003e;
    const ARCH_32: u32 = 0x4000_0003;
    /// Calls of the third kind, of which guests have none.
    const X32: u32 = 0x4000_0000;
    /// kexec_load, kexec_file_load, open_by_handle_at, init_module, finit_module, delete_module; umount2.
    const CALLS_64: ([u32; 6], u32) = ([246, 320, 304, 175, 313, 176], 166);
    const CALLS_32: ([u32; 6], u32) = ([283, 0xffff_ffff, 342, 128, 350, 129], 52);
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_K;
    let refuse = |errno: i32| (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
    let allow = (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW);
    let mut program: Vec<(u32, u8, u8, u32)> = Vec::new();
    for (arch, (calls, unmount)) in [(ARCH_64, CALLS_64), (ARCH_32, CALLS_32)] {
        let mut part = vec![(LOAD, 0, 0, 0)];
        // Jumps count the instructions to skip; each check is followed by its verdict.
        part.extend([(JUMP | libc::BPF_JGE, 0, 1, X32), refuse(libc::EPERM)]);
        for call in calls {
            part.extend([(JUMP | libc::BPF_JEQ, 0, 1, call), refuse(libc::EPERM)]);
        }
        part.extend([(JUMP | libc::BPF_JEQ, 0, 3, unmount), (LOAD, 0, 0, 24)]);
        part.extend([(JUMP | libc::BPF_JSET, 0, 1, libc::MNT_FORCE.unsigned_abs()), refuse(libc::EACCES), allow]);
        let length = u8::try_from(part.len()).map_err(|_| Errno::E2BIG)?;
        program.extend([(LOAD, 0, 0, 4), (JUMP | libc::BPF_JEQ, 0, length, arch)]);
        program.extend(part);
    }
    program.push(refuse(libc::EPERM));
    let mut program: Vec<libc::sock_filter> = program
        .into_iter()
        .map(|(code, jt, jf, k)| libc::sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k })
        .collect();
    let length = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let description = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const description) }).map(drop)
}

/// On other machines there are no numbers of calls yet: better nothing than a guest that can do more.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn filter() -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

/// Makes standard input the controlling terminal of this session.
pub(super) fn own_terminal() -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer and touches no memory.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Nothing but the standard streams is left open when a program is executed.
pub(super) fn close_others_on_exec() -> Result<(), Errno> {
    // SAFETY: close_range takes integers; with this flag it closes nothing now.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Signals are as a program expects them: none blocked, none ignored.
pub(super) fn usual_signals() {
    for kind in Signal::iterator() {
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { signal(kind, SigHandler::SigDfl) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Ends this process by a signal, as a child of it was. Gives words if that cannot be.
pub(super) fn end_by(kind: Signal) -> String {
    // SAFETY: as above.
    let _ = unsafe { signal(kind, SigHandler::SigDfl) };
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    let _ = raise(kind);
    format!("process {} was to end by {kind}", process::id())
}

#[cfg(test)]
mod kernel_tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    /// Runs `work` in a child, whose status is 0 if it gives true.
    fn in_child(work: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls only what takes no lock, and leaves at once.
        match unsafe { fork_process() }.unwrap() {
            ForkResult::Child => {
                let code = i32::from(!work());
                // SAFETY: nothing of the parent's may run at its end.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => waitpid(child, None) == Ok(WaitStatus::Exited(child, 0)),
        }
    }

    #[test]
    fn the_filter_refuses_what_guests_may_not_call_and_nothing_else() {
        assert!(in_child(|| {
            if filter().is_err() {
                return false;
            }
            // SAFETY: calls that are refused before they look at anything.
            let refused = |call: i64| unsafe { libc::syscall(call, 0, 0, 0, 0) == -1 && Errno::last() == Errno::EPERM };
            let forced = || {
                // SAFETY: the path is static.
                let result = unsafe { libc::umount2(c"/nowhere".as_ptr(), libc::MNT_FORCE) };
                result == -1 && Errno::last() == Errno::EACCES
            };
            let plain = || {
                // SAFETY: as above.
                let result = unsafe { libc::umount2(c"/nowhere".as_ptr(), 0) };
                result == -1 && Errno::last() == Errno::ENOENT
            };
            [libc::SYS_kexec_load, libc::SYS_open_by_handle_at, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module]
                .into_iter()
                .all(refused)
                && forced()
                && plain()
                && nix::unistd::getppid().as_raw() > 0
        }));
    }

    #[test]
    fn capabilities_that_are_not_kept_are_gone() {
        assert!(in_child(|| {
            let own = || nix::unistd::chown("/proc/self", Some(Uid::from_raw(0)), None);
            keep_only(1).is_ok() && nix::unistd::chroot("/") == Err(Errno::EPERM) && own() != Err(Errno::EINVAL)
        }));
    }
}
