//! The allocator's ways, for a process that lives long and at times needs much: a list of all instances, or a document of a guest, which is
//! some mebibytes, many times over while it is read, on whatever thread that is. The FFI of this crate.
//!
//! What was measured: with 2,000 instances at rest net-agent has 7 MiB in use, and kept 40 with mimalloc, 26 with glibc's allocator alone.
#![allow(unsafe_code)]

use std::time::Duration;

use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, c_int, malloc_trim, mallopt};

/// Heaps, which each keep what was once needed.
const HEAPS: c_int = 2;
/// Bytes from which on a piece is the kernel's again as soon as it is free. Set, the allocator does not raise it by itself.
const LARGE: c_int = 128 << 10;
/// What was freed goes back this often.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// The first time, after what a start needs.
pub(crate) const FIRST: Duration = Duration::from_secs(10);

/// Lets the allocator keep little of what is free. Call it before other threads run. What it refuses costs memory, nothing else.
pub fn keep_little() {
    for (option, value) in [(M_ARENA_MAX, HEAPS), (M_MMAP_THRESHOLD, LARGE)] {
        // SAFETY: sets a number of the allocator; both are options that may be set at any time.
        let set = unsafe { mallopt(option, value) };
        if set != 1 {
            tracing::debug!(option, "the allocator does not know an option");
        }
    }
}

/// Gives pages that nothing uses back to the kernel, for as long as the runtime lives: the allocator does so by itself only at a heap's end.
pub(crate) async fn give_back(first: Duration, every: Duration) {
    let mut pause = first;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        // It takes milliseconds, in which no worker is to stand still.
        // SAFETY: looks through the allocator's own books under their locks; it may be called at any time and on any thread.
        let trim = || unsafe { malloc_trim(0) };
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[tokio::test]
    async fn what_was_freed_between_what_is_kept_goes_back() {
        let before = resident_kib();
        let mut pieces: Vec<Option<Vec<u8>>> = (0..64 << 10).map(|_| Some(vec![1; 1 << 10])).collect();
        let full = resident_kib();
        // Every hundredth stays, and with it the heap's end.
        for (number, piece) in pieces.iter_mut().enumerate() {
            if number % 100 != 99 {
                *piece = None;
            }
        }
        assert!(full > before + (60 << 10), "{before} {full}");
        let moment = Duration::from_millis(10);
        let back = tokio::spawn(give_back(moment, moment));
        let is_back = async {
            while resident_kib() > before + (16 << 10) {
                tokio::time::sleep(moment).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(30), is_back).await.is_ok(),
            "{before} {full} {}: kept for nothing",
            resident_kib()
        );
        back.abort();
        drop(pieces);
    }
}
