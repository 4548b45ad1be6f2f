//! The way into a guest that runs, and what is shed on it.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal, stat::Mode, wait::WaitStatus, wait::waitpid},
    unistd::{ForkResult, Pid, close, getppid},
};
use triton_cgroup::Cgroups;
use triton_process::PidFd;
use triton_types::ProcessRef;

use super::{Action, Entry, ffi, files, program, stopped};

/// What the guest's init has, and so may have whoever is like it.
pub(super) struct Likeness {
    /// Capabilities that are never had.
    bounding: u64,
    /// System calls are filtered.
    filtered: bool,
    /// Its AppArmor profile, if it has one.
    profile: Option<String>,
    /// The host's `/proc`, through which a profile is asked for.
    proc: OwnedFd,
}

impl Likeness {
    fn of(init: ProcessRef) -> Result<Self, String> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", init.pid));
        let status = read("status").map_err(|error| format!("its init cannot be looked at: {error}"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        let bounding =
            field("CapBnd").and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or("the capabilities of its init are not known")?;
        let profile = read("attr/apparmor/current").or_else(|_| read("attr/current")).unwrap_or_default();
        let profile = profile.trim_end_matches(['\n', '\0']).rsplit_once(" (").map(|(name, _)| name.to_owned());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).map_err(|errno| format!("/proc cannot be opened: {errno}"))?;
        Ok(Self { bounding, filtered: field("Seccomp").is_some_and(|mode| mode != "0"), profile, proc })
    }

    /// Becomes like it, as far as that does not depend on what is executed. In the guest.
    fn adopt(&self) -> Result<(), String> {
        ffi::bound(self.bounding).map_err(|errno| format!("capabilities cannot be given up: {errno}"))?;
        if self.filtered {
            ffi::filter().map_err(|errno| format!("system calls cannot be filtered: {errno}"))?;
        }
        if let Some(profile) = &self.profile {
            let name = "thread-self/attr/exec";
            let file = openat(&self.proc, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            let written =
                file.map_err(std::io::Error::from).and_then(|file| File::from(file).write_all(format!("exec {profile}").as_bytes()));
            written.map_err(|error| format!("the AppArmor profile {profile} cannot be had: {error}"))?;
        }
        Ok(())
    }
}

/// Enters the guest and does what is to be done; the helper ends with the status that is given.
pub(super) fn enter(entry: &Entry) -> Result<ExitCode, String> {
    ffi::hide().map_err(|errno| format!("the helper cannot be hidden from the guest: {errno}"))?;
    let detached = matches!(&entry.action, Action::Run(run) if run.detached);
    if !detached {
        let parent = getppid();
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| format!("the helper cannot be bound to the agent: {errno}"))?;
        if getppid() != parent {
            return Err("the agent has ended".to_owned());
        }
    }
    let Some(init) = entry.place.init else { return stopped::enter(entry) };
    let pidfd = PidFd::open(init).ok_or("it has ended")?;
    let likeness = Likeness::of(init)?;
    share_limits(init)?;
    ffi::limits_of(init.pid).map_err(|errno| format!("the limits of its init cannot be had: {errno}"))?;
    if pidfd.wait(Instant::now()) {
        // What was read may have been another process's.
        return Err("it has ended".to_owned());
    }
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    setns(pidfd.as_fd(), namespaces).map_err(|errno| format!("its namespaces cannot be entered: {errno}"))?;
    // Only a child is in the pid namespace.
    in_child(detached, move || {
        ffi::become_root().map_err(|errno| format!("its root cannot be had: {errno}"))?;
        likeness.adopt()?;
        act(&entry.action)
    })
}

/// What the helper uses counts as the guest's, and it can be the first to be ended for lack of memory as well as any of the guest's.
fn share_limits(init: ProcessRef) -> Result<(), String> {
    if let Ok(score) = fs::read_to_string(format!("/proc/{}/oom_score_adj", init.pid)) {
        let _ = fs::write("/proc/self/oom_score_adj", score.trim());
    }
    let text =
        fs::read_to_string(format!("/proc/{}/cgroup", init.pid)).map_err(|error| format!("its control group is not known: {error}"))?;
    let unified = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let any = || text.lines().find_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix('/'));
    let path = unified.filter(|path| !path.is_empty()).or_else(any).ok_or("it has no control group")?;
    let own = Pid::this().as_raw();
    let entered = Cgroups::probe().and_then(|cgroups| cgroups.enter(path, own));
    entered.map_err(|error| format!("its control group cannot be entered: {}", triton_agent::chain(&error)))
}

/// Runs `work` in a child and ends as it does.
pub(super) fn in_child(detached: bool, work: impl FnOnce() -> Result<ExitCode, String>) -> Result<ExitCode, String> {
    match ffi::fork().map_err(|errno| format!("there can be no process more: {errno}"))? {
        ForkResult::Parent { child } => attend(child),
        ForkResult::Child => {
            if !detached {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            }
            let code = work().unwrap_or_else(|error| {
                eprintln!("cannot enter the guest: {error}");
                ExitCode::from(super::NOT_ENTERED)
            });
            Ok(code)
        }
    }
}

/// Waits for the child that does the work, and ends as it does.
pub(super) fn attend(child: Pid) -> Result<ExitCode, String> {
    // The child alone holds the streams: their end is its end.
    for stream in 0..=1 {
        let _ = close(stream);
    }
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Err(ffi::end_by(signal)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("the end of the helper is not known: {errno}")),
        }
    }
}

/// Does what is to be done, inside.
pub(super) fn act(action: &Action) -> Result<ExitCode, String> {
    let _ = std::env::set_current_dir("/");
    match action {
        Action::Run(run) => program::run(run),
        Action::Look { path } => files::look(path),
        Action::Read { path } => files::read(path),
        Action::Write { path, keep_directories } => files::write(path, *keep_directories),
    }
}
