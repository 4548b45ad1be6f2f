//! Processes that are recognised by pid and start time, and signalled without a race.
//!
//! Called by whoever looks at or stops a guest's init, and by the two ends of a guest's serial line, which pass a descriptor.
//! Keeps no state and knows nothing of instances.

mod limit;
mod passing;
mod pidfd;
mod reference;
mod signal;
mod terminal;

pub use limit::limit_locked_memory;
pub use passing::{receive_descriptor, send_descriptor};
pub use pidfd::PidFd;
pub use reference::{is_alive, reference, start_ticks};
pub use signal::{parse_signal, signal_name, takes_signal};
pub use terminal::terminal_of_master;

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use triton_types::ProcessRef;

    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_even_as_a_zombie() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let process = reference(child.id() as i32).unwrap();
        assert!(is_alive(process));
        let pidfd = PidFd::open(process).unwrap();
        assert!(!pidfd.wait(Instant::now()));
        pidfd.signal(libc::SIGKILL).unwrap();
        assert!(pidfd.wait(Instant::now() + Duration::from_secs(10)));
        assert!(!is_alive(process), "a zombie is not alive");
        child.wait().unwrap();
        assert!(PidFd::open(process).is_none());
        assert!(!is_alive(ProcessRef { start_ticks: process.start_ticks + 1, ..process }));
    }

    #[test]
    fn a_handled_signal_is_told_from_a_default_one() {
        let me = std::process::id() as i32;
        assert!(takes_signal(me, libc::SIGSEGV), "the runtime handles stack overflow");
        assert!(!takes_signal(me, libc::SIGPWR));
    }

    /// instances case 56
    #[test]
    fn signals_are_known_by_number_and_name_and_unknown_ones_refused() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(parse_signal(text), Some(9), "{text}");
        }
        assert_eq!(parse_signal("RTMIN+3"), Some(libc::SIGRTMIN() + 3));
        for text in ["", "0", "65", "-9", "SIGWAT", "RTMIN+31", "SIG"] {
            assert_eq!(parse_signal(text), None, "{text}");
        }
        assert_eq!((signal_name(15).as_str(), signal_name(37).as_str()), ("SIGTERM", "37"));
    }
}
