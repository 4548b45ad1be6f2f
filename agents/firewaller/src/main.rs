//! `firewaller`: see the library.

use clap::Parser;
use firewaller::{Args, NAME, serve};
use triton_agent::{AgentExit, Threads, program};

fn main() -> AgentExit {
    program::run(NAME, Threads::Two, &Args::parse().agent, serve)
}
