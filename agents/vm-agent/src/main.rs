//! `vm-agent`: see the library.

use clap::Parser;
use triton_agent::{AgentExit, program};
use vm_agent::{Args, NAME, serve};

fn main() -> AgentExit {
    program::run(NAME, &Args::parse().agent, serve)
}
