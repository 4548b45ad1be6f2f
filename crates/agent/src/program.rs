//! The head that agents share: their arguments, the `status` verb, logs, namespaces, runtime and exit code.

use std::error::Error;

use clap::Subcommand;
use triton_files::Layout;

use crate::{
    AgentExit, CommonArgs, chain, enter_namespaces, keep_little, logs, metrics,
    runtime::{self, Threads},
};

/// The arguments of an agent that has none of its own; flattened into those that do.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    /// Where the node is.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Least severe level that is logged: trace, debug, info, warn, error
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// What to do instead of the agent's work.
    #[command(subcommand)]
    pub verb: Option<AgentVerb>,
}

/// What an operator may ask.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentVerb {
    /// Show what the running agent is doing
    Status {
        /// As JSON
        #[arg(long, short)]
        json: bool,
    },
}

/// Runs the agent `name` until `serve` ends, or shows its status.
pub fn run<E: Error + 'static>(
    name: &str,
    threads: Threads,
    args: &AgentArgs,
    serve: impl AsyncFnOnce(&Layout) -> Result<(), E>,
) -> AgentExit {
    keep_little();
    let layout = args.common.layout();
    if let Some(AgentVerb::Status { json }) = args.verb {
        return match metrics::print_status(&layout, name, json, &mut std::io::stdout().lock()) {
            Ok(()) => AgentExit::Stopped,
            Err(error) => {
                eprintln!("{name}: no agent answers below {}: {error}", layout.root().display());
                AgentExit::Unavailable
            }
        };
    }
    logs::init(name, logs::parse_level(&args.log_level), logs::Output::Stdout);
    if let Err(error) = enter_namespaces(&layout) {
        tracing::error!(error = %chain(&error), "the agent cannot go on");
        return AgentExit::Unavailable;
    }
    let runtime = match runtime::of_agent(name, threads) {
        Ok(runtime) => runtime,
        Err(error) => return AgentExit::from_error(&error),
    };
    let exit = match runtime.block_on(serve(&layout)) {
        Ok(()) => AgentExit::Stopped,
        Err(error) => AgentExit::from_error(&error),
    };
    runtime.shutdown_background();
    exit
}
