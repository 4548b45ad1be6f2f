//! `vm-agent`: see the library.

use clap::Parser;
use triton_agent::{AgentExit, Allocator, program};
use vm_agent::{Args, NAME, serve};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> AgentExit {
    program::run(NAME, &Args::parse().agent, serve)
}
