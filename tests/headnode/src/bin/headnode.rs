//! `headnode`: the stand-in headnode as a program, for `xtask up` and for trying agents by hand.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use headnode_standin::{Clock, Features, Limits, Listeners, Standin, StandinConfig, netns};

/// A stand-in for the headnode: CNAPI, IMGAPI, VMAPI's provisioning, NAPI, FWAPI, and a control service.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of CNAPI.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    cnapi: SocketAddr,
    /// Address of IMGAPI.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    imgapi: SocketAddr,
    /// Address of VMAPI.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082")]
    vmapi: SocketAddr,
    /// Address of NAPI.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8084")]
    napi: SocketAddr,
    /// Address of FWAPI.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8085")]
    fwapi: SocketAddr,
    /// Address of FWAPI's events over FAST.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2020")]
    fast: SocketAddr,
    /// Address of the control service (record, faults, violations).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8083")]
    control: SocketAddr,
    /// Directory with UUID.imgmanifest and UUID.file, .file0, .file1.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// SQLite database that survives a restart; without it all is in memory.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Network namespace of the compute nodes. The addresses above are bound outside of it, those below inside.
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Address of CNAPI inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_cnapi: Vec<SocketAddr>,
    /// Address of IMGAPI inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_imgapi: Vec<SocketAddr>,
    /// Address of VMAPI inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_vmapi: Vec<SocketAddr>,
    /// Address of NAPI inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_napi: Vec<SocketAddr>,
    /// Address of FWAPI inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_fwapi: Vec<SocketAddr>,
    /// Address of FWAPI's events inside the namespace.
    #[arg(long, value_name = "ADDR", requires = "netns")]
    inside_fast: Vec<SocketAddr>,
    /// Name of the data centre.
    #[arg(long, value_name = "NAME", default_value = "standin")]
    datacenter: String,
    /// IMGAPI ignores Range, as if downloads could not be continued.
    #[arg(long)]
    no_range: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).json().init();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("headnode: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut listeners = Listeners {
        cnapi: netns::bind_all(&[args.cnapi])?,
        imgapi: netns::bind_all(&[args.imgapi])?,
        vmapi: netns::bind_all(&[args.vmapi])?,
        napi: netns::bind_all(&[args.napi])?,
        fwapi: netns::bind_all(&[args.fwapi])?,
        fast: netns::bind_all(&[args.fast])?,
        control: netns::bind_all(&[args.control])?,
    };
    // Signals are blocked before there are threads, so that they reach the wait below and nobody else.
    let signals = nix::sys::signal::SigSet::from_iter([nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM]);
    signals.thread_block()?;
    if let Some(path) = &args.netns {
        netns::enter(path).map_err(|error| format!("could not enter the network namespace {}: {error}", path.display()))?;
        listeners.cnapi.extend(netns::bind_all(&args.inside_cnapi)?);
        listeners.imgapi.extend(netns::bind_all(&args.inside_imgapi)?);
        listeners.vmapi.extend(netns::bind_all(&args.inside_vmapi)?);
        listeners.napi.extend(netns::bind_all(&args.inside_napi)?);
        listeners.fwapi.extend(netns::bind_all(&args.inside_fwapi)?);
        listeners.fast.extend(netns::bind_all(&args.inside_fast)?);
    }
    let imgapi_url = args.inside_imgapi.first().map(|address| format!("http://{address}"));
    let standin = Standin::start(StandinConfig {
        listeners,
        images: args.images,
        database: args.db,
        datacenter: args.datacenter,
        imgapi_url,
        limits: Limits::default(),
        features: Features { range: !args.no_range, ..Features::default() },
        clock: Clock::real(),
    })?;
    let ready = serde_json::json!({
        "cnapi": standin.cnapi_url(), "imgapi": standin.imgapi_url(), "vmapi": standin.vmapi_url(), "napi": standin.napi_url(),
        "fwapi": standin.fwapi_url(), "fast": standin.fast_address(), "control": standin.control_url(),
    });
    println!("{ready}");
    signals.wait()?;
    Ok(())
}
