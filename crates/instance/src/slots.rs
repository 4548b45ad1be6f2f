//! So many guests of a node boot at a time, whoever starts them.
//!
//! A boot costs processors more than time. Of fifty at once none gets anywhere, and the last ones run out of the time that
//! each has; in turn they are through sooner. A slot is a file lock, so a killed process gives its slot back.

use std::time::{Duration, Instant};

use triton_files::{FileError, Layout, Lock, LockError};

/// Longest time to wait for a slot: hundreds of guests may be before this one.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pauses between rounds; a boot takes about as long as the first.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// How many boot at a time: some of a boot is waiting, for the kernel's grace periods above all.
fn count() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get() * 2)
}

/// Waits until this process may boot a guest; it may while it has the lock.
///
/// # Errors
/// When all slots stay taken: who has one of them, and since when.
pub(crate) fn take(layout: &Layout) -> Result<Lock, LockError> {
    take_one_of(layout, count(), PATIENCE)
}

fn take_one_of(layout: &Layout, count: usize, patience: Duration) -> Result<Lock, LockError> {
    let folder = layout.locks();
    std::fs::create_dir_all(&folder).map_err(|error| FileError::new("create directory", &folder, error))?;
    let begun = Instant::now();
    let mut pause = PAUSES.0;
    // Not all begin at the same one.
    let first = std::process::id() as usize;
    loop {
        let mut refused = None;
        for number in 0..count {
            let path = folder.join(format!("boot-{}.lock", (first + number) % count));
            match Lock::take(&path, "boot a guest", Duration::ZERO) {
                Err(error @ LockError::Held { .. }) => refused = Some(error),
                other => return other,
            }
        }
        match refused {
            Some(error) if begun.elapsed() >= patience => return Err(error),
            _ => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_have_a_slot_and_one_that_is_given_back_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let mut held: Vec<Lock> = (0..3).map(|_| take_one_of(&layout, 3, Duration::ZERO).unwrap()).collect();
        let refused = take_one_of(&layout, 3, Duration::from_millis(30)).unwrap_err();
        assert!(refused.to_string().contains("boot a guest"), "{refused}");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take_one_of(&layout, 3, Duration::from_secs(20)).map(drop));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            held.pop();
            waiting.join().unwrap().unwrap();
        });
    }
}
