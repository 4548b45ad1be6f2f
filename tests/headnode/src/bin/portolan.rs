//! `portolan`: the stand-in for portolan as a program, for nodes of the test bed. Standard input says where addresses are, a line each:
//!
//! - `node UNDERLAY`: a node with this underlay address;
//! - `place VNET VLAN MAC UNDERLAY IP...`: a NIC of an overlay network is at this node;
//! - `remove VNET VLAN MAC`: it is no more.
//!
//! Each line is answered by `done`. It ends with its standard input, and fails if a node did what the protocol forbids.

use std::{
    io::{BufRead, Write, stdin, stdout},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
};

use clap::Parser;
use headnode_standin::portolan::Portolan;

/// A stand-in for portolan: where the addresses of overlay networks are
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to serve SVP at.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portolan: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let portolan = Portolan::start(TcpListener::bind(args.listen)?)?;
    for line in stdin().lock().lines() {
        let line = line?;
        told(&portolan, &line).map_err(|error| format!("{line:?}: {error}"))?;
        writeln!(stdout(), "done")?;
    }
    match portolan.violations().as_slice() {
        [] => Ok(()),
        violations => Err(violations.join("; ").into()),
    }
}

fn told(portolan: &Portolan, line: &str) -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["node", underlay] => portolan.node(underlay.parse::<Ipv4Addr>()?),
        ["place", vnet, vlan, mac, underlay, ips @ ..] => {
            let ips = ips.iter().map(|ip| ip.parse()).collect::<Result<Vec<IpAddr>, _>>()?;
            portolan.place(vnet.parse()?, vlan.parse()?, address(mac)?, &ips, underlay.parse()?);
        }
        ["remove", vnet, vlan, mac] => portolan.remove(vnet.parse()?, vlan.parse()?, address(mac)?),
        _ => return Err("no such command".into()),
    }
    Ok(())
}

fn address(mac: &str) -> Result<[u8; 6], Box<dyn std::error::Error>> {
    let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
    Ok(bytes.try_into().map_err(|_| "a MAC address has six bytes")?)
}
