//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use crate::host;

/// Longest wait: generous, since a loaded machine is slow and a wrong program never gets there. A booted node may be emulated.
fn limit() -> Duration {
    Duration::from_secs(if host::pool().is_some() { 180 } else { 60 })
}

/// Waits until `probe` gives a value.
///
/// # Panics
/// When it has not after some minutes; says what was missing.
pub fn until_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let (begin, limit) = (Instant::now(), limit());
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `probe` is true.
///
/// # Panics
/// As [`until_some`].
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    until_some(what, || probe().then_some(()));
}
