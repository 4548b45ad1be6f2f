//! `sysinfo`: prints what this compute node is, as the headnode and its tools read it (cn-agent.md section 7.3).

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
};

use clap::Parser;
use triton_agent::{CommonArgs, chain, enter_namespaces};
use triton_sysinfo::{Sysinfo, SysinfoOptions};

/// Print a JSON document that describes this compute node
#[derive(Debug, Parser)]
#[command(name = "sysinfo", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Accepted for the sake of scripts, without effect: there is no cache to force
    #[arg(short = 'f')]
    force: bool,
    /// Accepted for the sake of scripts, without effect: there is no cache to update
    #[arg(short = 'u')]
    update: bool,
    /// Accepted for the sake of scripts, without effect
    #[arg(short = 'p')]
    parsable: bool,
    /// The admin address, instead of the one that is found
    #[arg(long, value_name = "ADDRESS", env = "ADMIN_IP")]
    admin_ip: Option<Ipv4Addr>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let layout = args.common.layout();
    enter_namespaces(&layout).map_err(|error| format!("sysinfo: {}", chain(&error)))?;
    let options = SysinfoOptions { admin_ip: args.admin_ip, ..SysinfoOptions::default() };
    let document = Sysinfo::collect(&layout, &options).map_err(|error| chain(&error).to_string())?;
    let text = serde_json::to_string_pretty(&document).map_err(|error| format!("sysinfo: {error}"))?;
    let result = writeln!(io::stdout(), "{text}");
    match result {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| format!("sysinfo: could not write: {error}")),
    }
}
