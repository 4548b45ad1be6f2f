//! `xtask up`, `down` and `status`: a compute node with a stand-in headnode on this machine (design section 7, ruling 46).
//!
//! Everything that is made lies below one root, in namespaces and control groups of its own; `down` takes it away again. Each step of
//! `up` looks first and does what is missing, so a second `up` repairs and a right one changes nothing.

mod args;
mod down;
mod guest;
mod headnode;
mod http;
mod machine;
mod namespaces;
mod network;
mod node;
mod programs;
mod provision;
mod site;
pub mod state;
mod status;
mod wait;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use triton_files::Layout;

pub use args::{DownArgs, HoldArgs, RootArgs, StatusArgs, UpArgs};
pub use down::down;
pub use namespaces::hold as hold_namespaces;
pub use status::status;

use crate::{
    image,
    packages::{self, Purpose},
    run,
    say::{self, Progress},
};
use state::State;

/// Where the node's programs are.
pub fn programs_folder(layout: &Layout) -> PathBuf {
    programs::folder(layout)
}

/// Name of the agent.
const AGENT: &str = "cn-agent";
/// Those that keep the node and VMAPI, NAPI, FWAPI in step.
const REPORTERS: [&str; 3] = ["vm-agent", "net-agent", "firewaller"];

/// Name of the metadata service.
const METADATA: &str = "metadata-agent";

/// Steps of `up`, for the counter.
const STEPS: usize = 12;

/// Brings everything up. On failure says which step, and removes what this run began, unless told to keep it.
pub fn up(args: &UpArgs) -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "`up` makes namespaces, links and containers: run it as root");
    if let Some(dir) = &args.vm {
        let report = machine::up(dir, args)?;
        say::line(if args.json { serde_json::to_string_pretty(&report)? } else { machine::tell(&report) });
        return Ok(ExitCode::SUCCESS);
    }
    let layout = crate::layout(&args.root)?;
    let mut progress = Progress::new(STEPS);
    let mut fresh = false;
    match bring_up(args, &layout, &mut progress, &mut fresh) {
        Ok(report) => {
            progress.clear();
            if args.json {
                say::line(serde_json::to_string_pretty(&report)?);
            } else {
                tell(&layout, args, &report)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            progress.clear();
            eprintln!("xtask: `up` failed at: {}\n    {error:#}", progress.current());
            clean_up(&layout, args, fresh);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// After a failure: what this run began goes, its logs stay; a node that was there before is left alone.
fn clean_up(layout: &Layout, args: &UpArgs, fresh: bool) {
    if args.keep || !fresh {
        eprintln!("xtask: left as it is; logs are below {}", layout.at("/var/log").display());
        return;
    }
    let kept = image::cache_folder().join("failed-up");
    let saved = down::save_logs(layout, &kept);
    match down::take_down(layout, &mut Progress::new(down::STEPS)) {
        Ok(()) => eprintln!("xtask: cleaned up; `up --keep` leaves a failed node to be looked at"),
        Err(error) => eprintln!("xtask: could not clean up: {error:#}\n    try `cargo xtask down`"),
    }
    match saved {
        Ok(true) => eprintln!("xtask: logs were moved to {}", kept.display()),
        Ok(false) => {}
        Err(error) => eprintln!("xtask: logs could not be kept: {error:#}"),
    }
}

fn bring_up(args: &UpArgs, layout: &Layout, progress: &mut Progress, fresh: &mut bool) -> Result<Value> {
    progress.begin("Debian packages");
    packages::ensure(&[Purpose::Build, Purpose::Node], progress)?;
    progress.done("present");

    progress.begin("root of the node");
    let (mut state, new) = node::claim(layout)?;
    *fresh = new;
    progress.done(layout.root().display());

    progress.begin("programs");
    let changed = programs::install(layout, args.release, progress)?;
    progress.done(if changed.is_empty() { "as before".to_owned() } else { format!("built {}", changed.join(", ")) });

    progress.begin("image");
    let built = image::ensure(&image::cache_folder(), progress)?;
    headnode::publish(layout, &built)?;
    state.image = Some(built.uuid);
    state.save(layout)?;
    progress.done(format_args!("{} ({})", built.uuid, if built.cached { "cached" } else { "built from Debian packages" }));

    progress.begin("state and configuration");
    let server = node::prepare(layout, args)?;
    progress.done(format_args!("server {server}"));

    progress.begin("namespaces and networks");
    namespaces::ensure(layout)?;
    network::ensure(layout)?;
    progress.done(format_args!("tags {} and {}", site::ADMIN.tag, site::EXTERNAL.tag));

    progress.begin("stand-in headnode");
    let renewed = |name: &str| changed.iter().any(|one| one == name);
    let (urls, started) = headnode::start(layout, &mut state, renewed(headnode::NAME), progress)?;
    headnode::networks(&urls)?;
    progress.done(format_args!("{} on {}", if started { "started" } else { "runs" }, urls.cnapi));

    progress.begin("cn-agent");
    let arguments = vec!["--root".to_owned(), layout.root().to_string_lossy().into_owned()];
    let started = programs::start(layout, &mut state, AGENT, arguments, renewed(AGENT))?;
    let ended = || state.running(AGENT).is_none().then(|| programs::last_words(&programs::log(layout, AGENT)));
    headnode::wait_for_node(&urls, server, ended, progress)?;
    progress.done(if started { "started, registered and placeable" } else { "runs, registered and placeable" });

    progress.begin("vm-agent, net-agent and firewaller");
    for name in REPORTERS {
        let arguments = vec!["--root".to_owned(), layout.root().to_string_lossy().into_owned()];
        programs::start(layout, &mut state, name, arguments, renewed(name))?;
        programs::wait_for_ready(layout, &state, name, progress)?;
    }
    progress.done("compared with VMAPI, NAPI and FWAPI");

    progress.begin("metadata service");
    let arguments = vec!["--root".to_owned(), layout.root().to_string_lossy().into_owned()];
    let started = programs::start(layout, &mut state, METADATA, arguments, renewed(METADATA))?;
    progress.done(if started { "started" } else { "runs" });

    progress.begin("instances");
    for number in state.instances.len()..usize::from(args.instances) {
        state.instances.push(provision::plan(number));
    }
    state.save(layout)?;
    let (created, booted) = provision::ensure(&guest::states(layout)?, &urls, &state.instances, built.uuid, progress)?;
    progress.done(format_args!("{} in all, {created} provisioned, {booted} started", state.instances.len()));

    progress.begin("a look from inside");
    let mut instances = Vec::new();
    for instance in &state.instances {
        progress.turn(&instance.alias);
        let pid = guest::verify(layout, instance, &state.instances)?;
        instances.push(json!({"uuid": instance.uuid, "alias": instance.alias, "state": "running", "ip": instance.address, "pid": pid}));
    }
    progress.done("host name, address, route, resolvers, user namespace, first process, pings, metadata");
    Ok(json!({
        "root": layout.root(), "server_uuid": server, "headnode": urls, "image_uuid": built.uuid, "instances": instances,
    }))
}

/// The table, and what to do next.
fn tell(layout: &Layout, args: &UpArgs, report: &Value) -> Result<()> {
    let table = run::answer(guest::vmadm(layout).args(["list", "-o", "uuid,type,ram,state,alias"]))?;
    let default = layout.root() == std::path::Path::new("/var/lib/triton-up");
    let root = if default { String::new() } else { format!(" --root {}", args.root.root.display()) };
    let first = report["instances"][0]["uuid"].as_str().unwrap_or("UUID");
    let headnode = &report["headnode"];
    let url = |service: &str| headnode[service].as_str().unwrap_or_default().to_owned();
    say::line(format_args!("\n{}", table.trim_end()));
    say::line(format_args!("\nenter      cargo xtask exec{root} -- vmadm console {first}      (leave with Ctrl-])"));
    say::line(format_args!("list       cargo xtask exec{root} -- vmadm list"));
    say::line(format_args!("stop       cargo xtask exec{root} -- vmadm stop {first}"));
    say::line(format_args!(
        "by HTTP    curl {}/servers/{}  |  {}/vms",
        url("cnapi"),
        report["server_uuid"].as_str().unwrap_or_default(),
        url("vmapi")
    ));
    say::line(format_args!("firewall   curl {}/rules  |  cargo xtask exec{root} -- fwadm list", url("fwapi")));
    say::line(format_args!("record     curl {}/record", url("control")));
    say::line(format_args!("look       cargo xtask status{root}"));
    say::line(format_args!("take down  cargo xtask down{root}"));
    Ok(())
}

/// The node of a verb that needs one.
fn existing(layout: &Layout) -> Result<State> {
    match State::load(layout)? {
        Some(state) => Ok(state),
        None => bail!("no node is up below {}", layout.root().display()),
    }
}

/// How long an operator's tool may take when everything is taken down.
const PATIENCE: Duration = Duration::from_secs(120);

/// A context that names a folder.
fn at(path: &std::path::Path) -> impl FnOnce() -> String + '_ {
    move || format!("in {}", path.display())
}

/// Copies the files of `from` into `to`, folders included; links are left out.
fn copy_tree(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(at(to))?;
    for entry in std::fs::read_dir(from).with_context(at(from))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).with_context(at(&target))?;
        }
    }
    Ok(())
}
