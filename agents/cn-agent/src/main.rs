//! `cn-agent`: see the library.

use std::process::{ExitCode, Termination};

use clap::Parser;
use cn_agent::{Args, StartError, Verb, print_status, real};
use triton_agent::{AgentExit, Threads, chain, enter_namespaces, keep_little, logs, runtime};

fn main() -> ExitCode {
    // A helper inside a guest: nothing of the agent's is read or begun.
    if let Some(code) = cn_agent::guest::entry() {
        return code;
    }
    agent().report()
}

fn agent() -> AgentExit {
    keep_little();
    let args = Args::parse();
    let layout = args.common.layout();
    if let Some(Verb::Status { json }) = args.verb {
        return match print_status(&layout, json, &mut std::io::stdout().lock()) {
            Ok(()) => AgentExit::Stopped,
            Err(error) => {
                eprintln!("cn-agent: no agent answers below {}: {error}", layout.root().display());
                AgentExit::Unavailable
            }
        };
    }
    let name = if args.update_twin { cn_agent::TWIN } else { cn_agent::NAME };
    logs::init(name, logs::parse_level(&args.log_level), logs::Output::Stdout);
    if !args.update_twin {
        cn_agent::successor::hand_over(&layout);
    }
    if let Err(error) = enter_namespaces(&layout) {
        tracing::error!(error = %chain(&error), "the agent cannot go on");
        return AgentExit::Unavailable;
    }
    let runtime = match runtime::of_agent(cn_agent::NAME, Threads::Two) {
        Ok(runtime) => runtime,
        Err(error) => return AgentExit::from_error(&error),
    };
    let exit = match runtime.block_on(real::serve(&args, &layout)) {
        Ok(()) => AgentExit::Stopped,
        Err(error) => {
            let exit = AgentExit::from_error(&error);
            // Without CNAPI's URL a restart does not help either.
            if matches!(error, StartError::Cnapi(_)) { AgentExit::BadConfiguration } else { exit }
        }
    };
    // Calls that block cannot be broken off: the process ends without them, as after a crash, which every change survives.
    runtime.shutdown_background();
    exit
}
