//! `metadata-agent`: see the library.

use clap::Parser;
use metadata_agent::{Args, NAME, keep_little, serve};
use triton_agent::{AgentExit, program};

fn main() -> AgentExit {
    keep_little();
    program::run(NAME, &Args::parse().agent, serve)
}
