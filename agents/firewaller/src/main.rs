//! `firewaller`: see the library.

use clap::Parser;
use firewaller::{Args, NAME, serve};
use triton_agent::{AgentExit, program};

fn main() -> AgentExit {
    program::run(NAME, &Args::parse().agent, serve)
}
