//! `net-agent`: see the library.

use clap::Parser;
use net_agent::{Args, NAME, serve};
use triton_agent::{AgentExit, Threads, program};

fn main() -> AgentExit {
    program::run(NAME, Threads::One, &Args::parse().agent, serve)
}
