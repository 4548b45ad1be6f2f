//! Small tokio runtimes: an agent that waits should cost a few MB, not a thread per core.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::memory;

/// Blocking calls (the model layer) that may run at once in an agent; more wait their turn.
pub const MAX_BLOCKING: usize = 32;

/// One thread, for tools and for agents that only forward.
///
/// # Errors
/// When the kernel gives no event descriptor.
pub fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(MAX_BLOCKING).thread_stack_size(STACK).build()
}

/// Two worker threads, for agents that serve: one slow poll does not stop the others. Memory that is free goes back to the
/// machine. `name` is shown by `ps -L`.
///
/// # Errors
/// As [`current_thread`].
pub fn two_workers(name: &str) -> io::Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name(name)
        .thread_stack_size(STACK)
        .enable_all()
        .build()?;
    runtime.spawn(memory::give_back(memory::FIRST, memory::EVERY));
    Ok(runtime)
}

/// Stack of each thread. Address space only: pages are used when touched.
const STACK: usize = 2 << 20;
