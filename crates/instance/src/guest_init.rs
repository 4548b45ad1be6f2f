//! Asking a guest's init to halt or reboot: which signal it understands, and that it is not lost.
//!
//! A signal sent before init has a handler is lost (ruling 39): it is sent once init takes it, and again until the end.

use std::{
    fs,
    time::{Duration, Instant},
};

use triton_process::{PidFd, takes_signal};

use crate::initctl;

/// What init is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Shut the guest down.
    Halt,
    /// Boot it again.
    Reboot,
}

/// Pauses between repetitions: short at first, since init may not have been ready, then long.
const REPEAT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The signals that the program at `exe` takes for `request`, in the order in which they are tried.
fn signals(exe: &str, request: Request) -> Vec<i32> {
    let name = exe.rsplit('/').next().unwrap_or(exe);
    match (name, request) {
        ("systemd", Request::Halt) => vec![libc::SIGRTMIN() + 4],
        ("systemd", Request::Reboot) => vec![libc::SIGRTMIN() + 5],
        ("busybox" | "busybox.static", Request::Halt) => vec![libc::SIGUSR2],
        ("busybox" | "busybox.static", Request::Reboot) => vec![libc::SIGTERM],
        // SysV init and OpenRC; an application as init understands SIGTERM.
        (_, Request::Halt) => vec![libc::SIGPWR, libc::SIGTERM],
        (_, Request::Reboot) => vec![libc::SIGINT],
    }
}

/// System V's init, which calls itself by that name only.
fn is_sysv(exe: &str) -> bool {
    exe.rsplit('/').next() == Some("init")
}

/// Asks until init has ended; false at the deadline. `signal` is the only one that is sent, if it is given.
///
/// A signal without a handler is dropped by the kernel, because init is process 1 of its namespace: repeating does no harm.
pub fn ask(pid: i32, init: &PidFd, request: Request, signal: Option<i32>, deadline: Instant) -> bool {
    let mut pause = REPEAT.0;
    loop {
        let now = Instant::now();
        if now >= deadline {
            return init.wait(now);
        }
        // A guest can name its init as it likes: that only decides which signal its own init gets.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let by_request = signal.is_none() && is_sysv(&exe) && initctl::ask(pid, request).is_ok();
        let candidates = signal.map_or_else(|| signals(&exe, request), |signal| vec![signal]);
        // Inits that wait for signals instead of handling them (busybox) show nothing: the first candidate is theirs.
        let signal = candidates.iter().find(|signal| takes_signal(pid, **signal)).or(candidates.first());
        if let Some(signal) = signal.filter(|_| !by_request) {
            let _ = init.signal(*signal);
        }
        if init.wait(deadline.min(now + pause)) {
            return true;
        }
        pause = (pause * 2).min(REPEAT.1);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    use triton_process::reference;

    use super::*;

    #[test]
    fn each_init_gets_the_signal_that_it_understands() {
        assert_eq!(signals("/usr/lib/systemd/systemd", Request::Halt), [libc::SIGRTMIN() + 4]);
        assert_eq!(signals("/bin/busybox", Request::Reboot), [libc::SIGTERM]);
        assert_eq!(signals("/sbin/init", Request::Halt), [libc::SIGPWR, libc::SIGTERM]);
    }

    #[test]
    fn a_process_that_does_not_listen_is_given_up_at_the_deadline() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' PWR TERM; echo ready; while :; do sleep 0.1; done"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        let process = reference(child.id() as i32).unwrap();
        let fd = PidFd::open(process).unwrap();
        assert!(!ask(process.pid, &fd, Request::Halt, None, Instant::now() + Duration::from_millis(120)));
        assert!(triton_process::is_alive(process));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
