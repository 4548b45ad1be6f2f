//! `net-agent`: see the library.

use clap::Parser;
use net_agent::{Args, NAME, serve};
use triton_agent::{AgentExit, program};

fn main() -> AgentExit {
    program::run(NAME, &Args::parse().agent, serve)
}
