//! One boot of the guest, from the config to the end of its init.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll, ppoll},
    sys::{
        signal::Signal,
        time::TimeSpec,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use triton_lxc::{ExitOutcome, log_errors};
use triton_process::{PidFd, is_alive};
use triton_types::ProcessRef;

use crate::{boot_child::BootChild, channel::Receiver, hook, note::chain, readiness::ERROR_LIMIT};

/// How long a start may take until init runs; less than starters wait, so that they hear the reason.
const START: Duration = Duration::from_secs(55);
/// Pauses between looks at whether init has become the guest's program, which no event tells.
const LOOKS: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// A boot under way.
pub struct Guest {
    child: BootChild,
    receiver: Receiver,
    init: Option<ProcessRef>,
}

/// How the start went.
pub enum Start {
    /// Init runs.
    Running(Guest, ProcessRef),
    /// Init ran, and has ended already.
    Ended(ProcessRef, ExitOutcome),
    /// It did not start; liblxc's log may say why.
    Failed(String),
}

/// Boots and waits until init runs. The directory holds the config and liblxc's log. `meanwhile` is done beside the boot's first
/// milliseconds, and ends it if it fails.
pub fn start(directory: &Path, config: &Path, name: &str, meanwhile: impl FnOnce() -> Result<(), String>) -> Start {
    let log = directory.join("lxc.log");
    turn_log(&log);
    let of_hook = directory.join(hook::REASON);
    let _ = fs::remove_file(&of_hook);
    let failed = |reason: &str| {
        // The cause of all that liblxc says then.
        if let Ok(text) = fs::read_to_string(&of_hook) {
            return Start::Failed(text.chars().take(ERROR_LIMIT / 4).collect());
        }
        let text = fs::read(&log).unwrap_or_default();
        let errors = log_errors(&String::from_utf8_lossy(&text), ERROR_LIMIT - 256);
        Start::Failed(if errors.is_empty() { reason.to_owned() } else { format!("{reason}: {errors}") })
    };
    let receiver = match Receiver::new(directory) {
        Ok(receiver) => receiver,
        Err(e) => return failed(&format!("could not make the fifo of the monitor: {e}")),
    };
    let child = match BootChild::spawn(config, name) {
        Ok(child) => child,
        Err(e) => return failed(&format!("could not run the boot child: {e}")),
    };
    if let Err(reason) = meanwhile() {
        child.kill();
        return Start::Failed(reason);
    }
    let mut guest = Guest { child, receiver, init: None };
    let deadline = Instant::now() + START;
    match guest.await_program(deadline) {
        Progress::Running(init) => Start::Running(guest, init),
        Progress::ChildEnded => match guest.finish() {
            (Some(init), Ok(outcome)) => Start::Ended(init, outcome),
            (None, Ok(_)) => failed("liblxc ended without running its hooks"),
            (_, Err(reason)) => failed(&reason),
        },
        Progress::TimedOut => {
            guest.child.kill();
            failed(&format!("init did not run within {} s", START.as_secs()))
        }
        Progress::Broken(error) => {
            guest.child.kill();
            failed(&format!("could not follow the start: {error}"))
        }
    }
}

enum Progress {
    Running(ProcessRef),
    ChildEnded,
    TimedOut,
    Broken(io::Error),
}

impl Guest {
    fn await_program(&mut self, deadline: Instant) -> Progress {
        let mut pause = LOOKS.0;
        loop {
            if let Some(init) = self.init.filter(|init| runs_another_program(*init)) {
                return Progress::Running(init);
            }
            let now = Instant::now();
            if now >= deadline {
                return Progress::TimedOut;
            }
            let wait = if self.init.is_some() { pause } else { deadline - now };
            if self.init.is_some() {
                pause = (pause * 2).min(LOOKS.1);
            }
            let mut fds = [PollFd::new(self.child.as_fd(), PollFlags::POLLIN), PollFd::new(self.receiver.as_fd(), PollFlags::POLLIN)];
            let (ended, told) = match ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None) {
                Ok(_) => (ready(&fds[0]), ready(&fds[1])),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Progress::Broken(errno.into()),
            };
            // Both may be there at once: who init was is read first.
            if told && let Some(notice) = self.receiver.receive() {
                self.init = Some(notice.init);
            } else if ended {
                return Progress::ChildEnded;
            }
        }
    }

    /// Waits until the boot is over: init has ended, and liblxc has cleared up after it. `dead` is called between the two, as liblxc takes
    /// its time.
    pub fn wait(self, dead: impl FnOnce()) -> Result<ExitOutcome, String> {
        if let Some(init) = self.init.and_then(PidFd::open) {
            let mut fds = [PollFd::new(self.child.as_fd(), PollFlags::POLLIN), PollFd::new(init.as_fd(), PollFlags::POLLIN)];
            while let Err(Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
            if !ready(&fds[0]) {
                dead();
            }
        }
        let mut fds = [PollFd::new(self.child.as_fd(), PollFlags::POLLIN)];
        while let Err(Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
        self.finish().1
    }

    /// Collects the ended child's result. If it was killed while its guest lives on, the guest's init is now this process's
    /// child and is waited for.
    fn finish(self) -> (Option<ProcessRef>, Result<ExitOutcome, String>) {
        let init = self.init;
        let outcome = match (self.child.finish(), init) {
            (Some(result), _) if result.started => Ok(ExitOutcome::decode(result.error_num)),
            (Some(result), _) => Err(result.error.unwrap_or_else(|| "liblxc did not start the container".to_owned())),
            (None, Some(init)) if is_alive(init) || is_own_child(init) => wait_for_init(init),
            (None, _) => Err("the boot child was killed".to_owned()),
        };
        (init, outcome)
    }
}

fn ready(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|events| !events.is_empty())
}

/// True once init is no more the program that liblxc runs in, which is this one.
fn runs_another_program(init: ProcessRef) -> bool {
    let identity = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    match (identity(&format!("/proc/{}/exe", init.pid)), identity("/proc/self/exe")) {
        (Some(theirs), Some(own)) => theirs != own && is_alive(init),
        _ => false,
    }
}

fn is_own_child(init: ProcessRef) -> bool {
    let parent = fs::read_to_string(format!("/proc/{}/stat", init.pid)).ok().and_then(|stat| {
        let fields = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        fields.parse::<u32>().ok()
    });
    parent == Some(std::process::id())
}

fn wait_for_init(init: ProcessRef) -> Result<ExitOutcome, String> {
    loop {
        match waitpid(Pid::from_raw(init.pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(ExitOutcome::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
            Ok(WaitStatus::Signaled(_, Signal::SIGHUP, _)) => return Ok(ExitOutcome::Rebooted),
            Ok(WaitStatus::Signaled(_, Signal::SIGINT, _)) => return Ok(ExitOutcome::Halted),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(ExitOutcome::Signalled(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("the boot child was killed, and init could not be waited for: {}", chain(&errno))),
        }
    }
}

/// Keeps the log of the boot before this one beside it; liblxc itself only appends.
fn turn_log(log: &Path) {
    let _ = fs::rename(log, log.with_extension("log.1"));
}
