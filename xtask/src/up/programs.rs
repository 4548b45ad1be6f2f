//! The programs: built, put below the node's root, started in a session of their own, stopped.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::libc::{SIGKILL, SIGTERM};
use triton_files::Layout;
use triton_process::PidFd;
use triton_types::ProcessRef;

use super::{
    state::{Program, State},
    wait::{Look, until},
};
use crate::{
    guest_tools, run,
    say::Progress,
    workspace::{self, cargo},
};

/// Packages and what they are built into.
const BUILT: [(&str, &[&str]); 8] = [
    ("triton-cli", &["vmadm", "imgadm", "nictagadm", "fwadm", "sysinfo"]),
    ("cn-agent", &["cn-agent"]),
    ("vm-agent", &["vm-agent"]),
    ("net-agent", &["net-agent"]),
    ("firewaller", &["firewaller"]),
    ("metadata-agent", &["metadata-agent"]),
    ("instance-monitor", &["instance-monitor"]),
    ("headnode-standin", &["headnode"]),
];

/// Where the node's programs are.
pub fn folder(layout: &Layout) -> PathBuf {
    layout.at("/usr/triton/bin")
}

/// Where programs that `up` starts write what they say.
pub fn log(layout: &Layout, name: &str) -> PathBuf {
    layout.at("/var/log/triton").join(format!("{name}.log"))
}

/// Builds the programs and puts them below the root; returns the names of those that are new there.
pub fn install(layout: &Layout, release: bool, progress: &mut Progress) -> Result<Vec<String>> {
    let mut build = cargo();
    build.args(["build", "--locked"]);
    for (package, names) in BUILT {
        build.args(["--package", package]).args(names.iter().flat_map(|name| ["--bin", name]));
    }
    if release {
        build.arg("--release");
    }
    run::succeed(build, Duration::from_secs(3600), progress).context("could not build the programs")?;
    let target = workspace::target_folder()?.join(if release { "release" } else { "debug" });
    let to = folder(layout);
    fs::create_dir_all(&to)?;
    let mut changed = Vec::new();
    for name in BUILT.iter().flat_map(|(_, names)| names.iter()) {
        let bytes = fs::read(target.join(name)).with_context(|| format!("could not read the program {name}"))?;
        let file = to.join(name);
        if fs::read(&file).is_ok_and(|old| old == bytes) {
            continue;
        }
        // Replaced, not overwritten: the old one may be running.
        triton_files::write_atomic(&file, &bytes, 0o755)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        changed.push((*name).to_owned());
    }
    install_guest_tools(layout, progress)?;
    Ok(changed)
}

/// Puts what guests see at `/native` in its place.
fn install_guest_tools(layout: &Layout, progress: &mut Progress) -> Result<()> {
    let bytes = fs::read(guest_tools::build(progress)?).context("could not read the guest's tools")?;
    let folder = layout.native().join("usr/sbin");
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(layout.native().join(".zonecontrol"))?;
    let program = folder.join(guest_tools::PROGRAM);
    if !fs::read(&program).is_ok_and(|old| old == bytes) {
        triton_files::write_atomic(&program, &bytes, 0o755)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    for name in guest_tools::NAMES {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(guest_tools::PROGRAM, link)?;
        }
    }
    Ok(())
}

/// Starts `name` unless it runs with these arguments and this program already; records it. Returns true if it was started.
pub fn start(layout: &Layout, state: &mut State, name: &str, arguments: Vec<String>, renewed: bool) -> Result<bool> {
    if let Some(running) = state.running(name) {
        if running.arguments == arguments && !renewed {
            return Ok(false);
        }
        stop(running)?;
    }
    let path = log(layout, name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("could not open {}", path.display()))?;
    // `setsid` becomes the program: no terminal's end reaches it.
    let child = Command::new("setsid")
        .arg(folder(layout).join(name))
        .args(&arguments)
        .env_clear()
        .env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", folder(layout).display()))
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("could not start {name}"))?;
    let process = i32::try_from(child.id()).ok().and_then(triton_process::reference);
    let process = process.with_context(|| format!("{name} ended at once; its log is {}", path.display()))?;
    state.programs.retain(|program| program.name != name);
    state.programs.push(Program { name: name.to_owned(), process, arguments });
    state.save(layout)?;
    Ok(true)
}

/// Waits until an agent says that it is ready.
pub fn wait_for_ready(layout: &Layout, state: &State, name: &str, progress: &mut Progress) -> Result<()> {
    until(Duration::from_secs(60), progress, |_| {
        if state.running(name).is_none() {
            bail!("it ended: {}", last_words(&log(layout, name)));
        }
        let output = Command::new(folder(layout).join(name)).arg("--root").arg(layout.root()).args(["status", "-j"]).output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(if status["ready"] == true { Look::There(()) } else { Look::Missing("it has not compared yet".to_owned()) })
    })
    .with_context(|| format!("{name} is not in service"))
}

/// Asks a program to end, waits, then ends it. That it has ended already is no error.
pub fn stop(program: &Program) -> Result<()> {
    end(program.process, Duration::from_secs(20)).with_context(|| format!("could not stop {}", program.name))
}

/// SIGTERM, at most `patience`, SIGKILL.
pub fn end(process: ProcessRef, patience: Duration) -> Result<()> {
    let Some(pidfd) = PidFd::open(process) else { return Ok(()) };
    for (signal, patience) in [(SIGTERM, patience), (SIGKILL, Duration::from_secs(20))] {
        if pidfd.signal(signal).is_err() || pidfd.wait(Instant::now() + patience) {
            return Ok(());
        }
    }
    bail!("process {} did not end after SIGKILL", process.pid)
}

/// The end of a program's log, for an error.
pub fn last_words(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n    ")
}
