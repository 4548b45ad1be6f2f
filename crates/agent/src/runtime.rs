//! Small tokio runtimes: an agent that waits should cost a few MB, not a thread per core.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::memory;

/// Blocking calls (the model layer) that may run at once in an agent; more wait their turn.
pub const MAX_BLOCKING: usize = 32;

/// How many threads an agent's asynchronous work has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One: for agents that report. From an event to the request that tells of it, as few threads as can be wait for each other.
    One,
    /// Two: for agents that serve. One slow poll does not stop the others.
    Two,
}

/// One thread, for tools.
///
/// # Errors
/// When the kernel gives no event descriptor.
pub fn current_thread() -> io::Result<Runtime> {
    build(&mut Builder::new_current_thread())
}

/// For an agent. Memory that is free goes back to the machine. `name` is shown by `ps -L`.
///
/// # Errors
/// As [`current_thread`].
pub fn of_agent(name: &str, threads: Threads) -> io::Result<Runtime> {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Two => Builder::new_multi_thread(),
    };
    let runtime = build(builder.worker_threads(2).thread_name(name))?;
    runtime.spawn(memory::give_back(memory::FIRST, memory::EVERY));
    Ok(runtime)
}

fn build(builder: &mut Builder) -> io::Result<Runtime> {
    builder.enable_all().max_blocking_threads(MAX_BLOCKING).thread_stack_size(STACK).build()
}

/// Stack of each thread. Address space only: pages are used when touched.
const STACK: usize = 2 << 20;
