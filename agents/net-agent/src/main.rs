//! `net-agent`: see the library.

use clap::Parser;
use net_agent::{Args, NAME, Verb, serve};
use triton_agent::{AgentExit, chain, enter_namespaces, logs, metrics, runtime};

fn main() -> AgentExit {
    let args = Args::parse();
    let layout = args.common.layout();
    if let Some(Verb::Status { json }) = args.verb {
        return match metrics::print_status(&layout, NAME, json, &mut std::io::stdout().lock()) {
            Ok(()) => AgentExit::Stopped,
            Err(error) => {
                eprintln!("{NAME}: no agent answers below {}: {error}", layout.root().display());
                AgentExit::Unavailable
            }
        };
    }
    logs::init(NAME, logs::parse_level(&args.log_level), logs::Output::Stdout);
    if let Err(error) = enter_namespaces(&layout) {
        tracing::error!(error = %chain(&error), "the agent cannot go on");
        return AgentExit::Unavailable;
    }
    let runtime = match runtime::two_workers(NAME) {
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
