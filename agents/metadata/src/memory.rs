//! The allocator's ways, for a process that lives long and at times needs much: a document of a guest is some mebibytes, many times over
//! while it is read, on whatever thread that is. The FFI of this agent.
#![allow(unsafe_code)]

use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, c_int, mallopt};

/// Heaps, which each keep what was once needed.
const HEAPS: c_int = 2;
/// Bytes from which on a piece is the kernel's again as soon as it is free. Set, the allocator does not raise it by itself.
const LARGE: c_int = 128 << 10;

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
