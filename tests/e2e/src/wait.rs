//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Longest wait: generous, since a loaded machine is slow and a wrong program never gets there.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value.
///
/// # Panics
/// When it has not after a minute; says what was missing.
pub fn until_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} in vain for: {what}");
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
