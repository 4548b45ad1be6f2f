//! Named steps of changes, so that tests can kill a program between any two of them.
//!
//! In debug builds, `TRITON_STEP_TRACE=FILE` appends each step's name to FILE, and `TRITON_STEP_KILL=NAME[:N]` ends the
//! process with SIGKILL the first (or Nth) time that step is reached. Release builds contain none of it.

/// Marks that the step `name` was reached: everything before it is done, nothing after it has begun.
#[inline]
pub fn reached(name: &str) {
    #[cfg(debug_assertions)]
    debug::reached(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// What a program that this one starts on its own account is to be told of steps: `TRITON_CHILD_STEP_TRACE` and
/// `TRITON_CHILD_STEP_KILL` of this process become its `TRITON_STEP_*`. Nothing in release builds.
pub fn environment_of_child() -> Vec<(&'static str, String)> {
    let mut environment = Vec::new();
    if cfg!(debug_assertions) {
        for (ours, theirs) in [("TRITON_CHILD_STEP_TRACE", "TRITON_STEP_TRACE"), ("TRITON_CHILD_STEP_KILL", "TRITON_STEP_KILL")] {
            environment.extend(std::env::var(ours).ok().map(|value| (theirs, value)));
        }
    }
    environment
}

#[cfg(debug_assertions)]
mod debug {
    use std::{
        fs::OpenOptions,
        io::Write,
        sync::atomic::{AtomicU32, Ordering},
    };

    static SEEN: AtomicU32 = AtomicU32::new(0);

    pub(super) fn reached(name: &str) {
        if let Ok(path) = std::env::var("TRITON_STEP_TRACE")
            && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = writeln!(file, "{name}");
        }
        let Ok(wanted) = std::env::var("TRITON_STEP_KILL") else { return };
        let (wanted, count) = match wanted.rsplit_once(':') {
            Some((wanted, count)) => (wanted.to_owned(), count.parse().unwrap_or(1)),
            None => (wanted, 1),
        };
        if wanted == name && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == count {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
