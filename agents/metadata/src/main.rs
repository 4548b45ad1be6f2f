//! `metadata-agent`: see the library.

use clap::Parser;
use metadata_agent::{Args, NAME, serve};
use triton_agent::{AgentExit, Threads, program};

fn main() -> AgentExit {
    program::run(NAME, Threads::Two, &Args::parse().agent, serve)
}
