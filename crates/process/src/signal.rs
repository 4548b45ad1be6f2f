//! Signals by name, and whether a process would notice one.

use std::fs;

use nix::sys::signal::Signal;

/// True if the process has a handler for `signal`, or takes it another way (blocked for `signalfd`), so that it is not lost.
pub fn takes_signal(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let mask = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    let bit = 1u64 << (signal - 1);
    (mask("SigCgt:").unwrap_or(0) | mask("SigBlk:").unwrap_or(0)) & bit != 0
}

/// The number of a signal given as a number, a name, or a name with `SIG` (instances.md section 5.4); `RTMIN+n` too.
pub fn parse_signal(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(libc::SIGRTMIN() + offset);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

/// `SIGKILL` for 9: the name of a signal, or its number where it has none.
pub fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}
