//! `cn-setup`: from a booted machine to a compute node, without a headnode (platform.md sections 4.6 and 4.8).
//!
//! Decides everything before it changes anything, and says what it decided. The files that it writes are those that a headnode
//! would have given; a boot cannot tell the difference.

mod args;
mod choice;
mod disks;
mod layout;
mod network;
mod node;
mod pool;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use args::{Args, Setup, Verb};
use choice::Choice;
use disks::{Disk, State};
use network::Network;
use pool::Found;

/// What was asked for cannot be had; nothing was changed.
const REFUSED: u8 = 2;

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Verb::Completion { shell }) = args.verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "cn-setup", &mut script);
        let _ = io::stdout().write_all(&script);
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(reasons)) => {
            for reason in reasons {
                say(&format!("cn-setup: {reason}"));
            }
            say("cn-setup: nothing was changed");
            ExitCode::from(REFUSED)
        }
        Err(Failure::Failed(step, error)) => {
            say(&format!("cn-setup: could not {step}: {error}"));
            say("cn-setup: run it again to go on from here");
            ExitCode::FAILURE
        }
    }
}

/// Why the node is not set up.
#[derive(Debug)]
enum Failure {
    /// Before anything was changed.
    Refused(Vec<String>),
    /// In the middle: what, and why.
    Failed(&'static str, String),
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Refused(vec![reason.into()]))
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn print(text: &str) {
    // A reader that has seen enough is no failure.
    let _ = writeln!(io::stdout(), "{text}");
}

fn run(args: &Args) -> Result<(), Failure> {
    let (layout, setup) = (args.common.layout(), &args.setup);
    if !layout.is_host() && !setup.dry_run {
        return refused("a pool belongs to the whole machine: --root is for --dry-run only");
    }
    if !setup.dry_run && !nix::unistd::geteuid().is_root() {
        return refused("it makes a pool: run it as root, or with --dry-run");
    }
    let found = if layout.is_host() { pool::find() } else { Ok(Found::Nothing) };
    let found = match found {
        Ok(found) => found,
        // Without ZFS a dry run still shows the disks.
        Err(error) if setup.dry_run => {
            say(&format!("cn-setup: {error}"));
            Found::Nothing
        }
        Err(error) => return refused(error),
    };
    if found == Found::Complete {
        print("this node is set up: nothing to do (sdc-factoryreset makes it as if it had never been)");
        return Ok(());
    }
    let network = Network::of(&layout, &network::nics(&setup.sysfs), setup);
    let choice = if found == Found::Begun { None } else { Some(look(setup)) };
    let mut reasons: Vec<String> = Vec::new();
    let choice = match choice {
        Some(Err(more)) => {
            reasons.extend(more);
            None
        }
        Some(Ok(choice)) => Some(choice),
        None => None,
    };
    let network = match network {
        Ok(network) => network,
        Err(more) => {
            reasons.extend(more);
            Network::default()
        }
    };
    if !reasons.is_empty() {
        return Err(Failure::Refused(reasons));
    }
    tell(choice.as_ref(), &network);
    if setup.dry_run {
        print("nothing was changed (--dry-run)");
        return Ok(());
    }
    if !setup.yes {
        agreed(choice.as_ref())?;
    }
    apply(&layout, choice.as_ref(), &network, setup)
}

/// Lists the disks and chooses.
fn look(setup: &Setup) -> Result<Choice, Vec<String>> {
    let all = disks::list(&setup.sysfs, &setup.dev)
        .map_err(|error| vec![format!("could not list the disks in {}: {error}", setup.sysfs.join("block").display())])?;
    let choice = Choice::of(&all, setup);
    print("disks:");
    for disk in &all {
        let taken = choice.as_ref().is_ok_and(|choice| choice.disks.iter().any(|one| one.name == disk.name));
        let words = match (&disk.state, taken) {
            (State::Holds(what), true) => format!("holds {what}, which is DESTROYED"),
            (State::Empty, true) => "is empty: used".to_owned(),
            (state, _) => state.why(&disk.name),
        };
        print(&format!("  {:<10} {:>10}  {:<24} {words}", disk.name, size(disk), disk.model));
    }
    choice
}

fn size(disk: &Disk) -> String {
    let tenths = disk.size * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn tell(choice: Option<&Choice>, network: &Network) {
    match choice {
        Some(choice) => {
            print(&format!("pool {}: {}", pool::POOL, choice.layout.name()));
            for disk in &choice.disks {
                print(&format!("  {}", disk.path.display()));
            }
            if choice.layout == layout::PoolLayout::Single {
                print("  one disk: when it fails, everything on it is lost");
            }
            let (smallest, largest) =
                choice.disks.iter().fold((u64::MAX, 0), |(least, most), disk| (least.min(disk.size), most.max(disk.size)));
            if choice.disks.len() > 1 && smallest < largest / 20 * 19 {
                print("  the disks differ in size: of each group only as much as its smallest has is used");
            }
        }
        None => print(&format!("pool {}: its set-up was cut off and goes on", pool::POOL)),
    }
    print("datasets: zones/config, zones/cores, zones/cores/global (10 GiB), zones/opt, zones/var");
    print(&format!("network: {}", network.words));
}

/// Asks, on a terminal.
fn agreed(choice: Option<&Choice>) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return refused("there is nobody to ask: say --yes");
    }
    let erased: Vec<&str> = choice.into_iter().flat_map(Choice::erased).map(|disk| disk.name.as_str()).collect();
    let question = if erased.is_empty() {
        "set this node up? (yes/no) ".to_owned()
    } else {
        format!("destroy what is on {} and set this node up? (yes/no) ", erased.join(", "))
    };
    let _ = write!(io::stdout(), "{question}");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    if answer.trim() == "yes" { Ok(()) } else { refused("the answer was not yes") }
}

fn apply(layout: &triton_files::Layout, choice: Option<&Choice>, network: &Network, setup: &Setup) -> Result<(), Failure> {
    let step = |what: &'static str| move |error: String| Failure::Failed(what, error);
    if let Some(choice) = choice {
        print("making the pool");
        pool::create(choice).map_err(step("make the pool"))?;
    }
    print("making the datasets");
    pool::datasets().map_err(step("make the datasets"))?;
    print("writing the configuration");
    node::configure(layout, network, setup.hostname.as_deref()).map_err(step("write the configuration"))?;
    pool::complete().map_err(step("mark the pool"))?;
    node::begin(layout).map_err(step("begin to use the pool"))?;
    print("this node is set up; its network and its services begin with the next boot (systemctl reboot)");
    Ok(())
}
