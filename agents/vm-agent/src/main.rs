//! `vm-agent`: see the library.

use clap::Parser;
use triton_agent::{AgentExit, Threads, program};
use vm_agent::{Args, NAME, serve};

fn main() -> AgentExit {
    program::run(NAME, Threads::One, &Args::parse().agent, serve)
}
