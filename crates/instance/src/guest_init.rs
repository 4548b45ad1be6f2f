//! Asking a guest's init to halt or reboot: which signal it understands, and that it is not lost.
//!
//! A signal sent before init has a handler is lost (ruling 39): it is sent once init takes it, and again until the end.

use std::{
    fs,
    time::{Duration, Instant},
};

use triton_process::{PidFd, takes_signal};

/// What init is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Shut the guest down.
    Halt,
    /// Boot it again.
    Reboot,
}

/// How often a request is repeated while init lives.
const REPEAT: Duration = Duration::from_secs(5);
/// How often init is looked at while it has no handler yet.
const LOOK: Duration = Duration::from_millis(10);

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

/// Asks until init has ended; false at the deadline.
pub fn ask(pid: i32, init: &PidFd, request: Request, deadline: Instant) -> bool {
    loop {
        let now = Instant::now();
        if now >= deadline {
            return init.wait(now);
        }
        // A guest can name its init as it likes: that only decides which signal its own init gets.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let pause = match signals(&exe, request).into_iter().find(|signal| takes_signal(pid, *signal)) {
            Some(signal) => {
                let _ = init.signal(signal);
                REPEAT
            }
            None => LOOK,
        };
        if init.wait(deadline.min(now + pause)) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use triton_process::reference;

    use super::*;

    #[test]
    fn each_init_gets_the_signal_that_it_understands() {
        assert_eq!(signals("/usr/lib/systemd/systemd", Request::Halt), [libc::SIGRTMIN() + 4]);
        assert_eq!(signals("/bin/busybox", Request::Reboot), [libc::SIGTERM]);
        assert_eq!(signals("/sbin/init", Request::Halt), [libc::SIGPWR, libc::SIGTERM]);
    }

    #[test]
    fn a_process_without_a_handler_is_not_signalled_and_the_deadline_holds() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = reference(child.id() as i32).unwrap();
        let fd = PidFd::open(process).unwrap();
        assert!(!ask(process.pid, &fd, Request::Halt, Instant::now() + Duration::from_millis(40)));
        assert!(triton_process::is_alive(process));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
