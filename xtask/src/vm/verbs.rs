//! The verbs of `xtask vm`, one function each.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    args::{SnapshotVerb, VmArgs, VmVerb},
    node::BED,
    qemu::{self, BOOTED, Life},
    qmp,
    ssh::{Ssh, quoted},
    state::State,
    testing,
    up::{self, Place},
};
use crate::{
    platform, run,
    say::{self, Progress},
};

/// Runs a verb.
pub fn vm(args: &VmArgs) -> Result<ExitCode> {
    let base = std::path::absolute(&args.dir)?;
    let place = if args.second { Place::first(&base).second() } else { Place::first(&base) };
    let dir = place.dir.clone();
    match &args.verb {
        VmVerb::Up(up_args) => {
            let mut progress = Progress::new(up::STEPS);
            let state = up::up(&place, up_args, Life::Own, &mut progress).map_err(|error| {
                progress.clear();
                error.context(format!("the step \"{}\" failed", progress.current()))
            })?;
            say::line(format_args!(
                "the node runs ({}); ssh on 127.0.0.1:{}, cn-agent on 127.0.0.1:{}",
                state.accel, state.ssh_port, state.agent_port
            ));
            let which = if args.second { " --second" } else { "" };
            say::line(format_args!("enter      cargo xtask vm{which} ssh\nend        cargo xtask vm{which} down"));
            Ok(ExitCode::SUCCESS)
        }
        VmVerb::Down => down(&place),
        VmVerb::Status => status(&dir),
        VmVerb::Ssh { command } => {
            let words = if command.is_empty() { String::new() } else { quoted(command) };
            let error = Ssh::new(&dir, &running(&dir)?).terminal(&words).exec();
            bail!("could not run ssh: {error}")
        }
        VmVerb::Exec { command } => {
            let error = Ssh::new(&dir, &running(&dir)?).command(&quoted(command)).exec();
            bail!("could not run ssh: {error}")
        }
        VmVerb::Push { files } => push(&dir, files),
        VmVerb::Log { follow } => log(&dir, *follow),
        VmVerb::Snapshot { verb } => snapshot(&dir, verb),
        VmVerb::Test { tests } => {
            let counts = testing::run(&base, tests)?;
            say::line(format_args!("{} passed, {} failed", counts.passed, counts.failed));
            Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// The machine, which must run.
pub fn running(dir: &Path) -> Result<State> {
    let state =
        State::load(dir)?.with_context(|| format!("there is no machine in {}: start one with `cargo xtask vm up`", dir.display()))?;
    ensure!(state.running().is_some(), "the machine in {} does not run: start it with `cargo xtask vm up`", dir.display());
    Ok(state)
}

fn down(place: &Place) -> Result<ExitCode> {
    if place.dir.exists() {
        remove_at(place)?;
    } else {
        say::line("there is no machine");
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the machines below `base` and removes all that is theirs.
pub fn remove(base: &Path) -> Result<()> {
    remove_at(&Place::first(base))
}

/// Ends the machines of the tests below `base`; the folder goes with them if nothing else is in it.
pub fn remove_tests(base: &Path) -> Result<()> {
    let place = Place::of_tests(base);
    if place.dir.exists() {
        remove_at(&place)?;
    }
    let alone = fs::read_dir(base).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == up::MARKER));
    if alone { fs::remove_dir_all(base).with_context(|| format!("could not remove {}", base.display())) } else { Ok(()) }
}

fn remove_at(place: &Place) -> Result<()> {
    let dir = &place.dir;
    // With the first one go all others: their folders are below its own.
    let all = Place::all(&place.base);
    let going: Vec<&Place> = all.iter().filter(|other| other.dir.starts_with(dir) && other.dir.exists()).collect();
    let _locks = going.iter().map(|other| up::claim(other)).collect::<Result<Vec<_>>>()?;
    for other in going {
        if let Some(state) = State::load(&other.dir)? {
            Ssh::new(&other.dir, &state).forget();
            qemu::kill(&state)?;
        }
    }
    fs::remove_dir_all(dir).with_context(|| format!("could not remove {}", dir.display()))?;
    say::line(format_args!("the machine in {} is gone; images stay in {}", dir.display(), platform::cache_folder().display()));
    Ok(())
}

fn status(dir: &Path) -> Result<ExitCode> {
    let Some(state) = State::load(dir)? else {
        say::line("there is no machine");
        return Ok(ExitCode::from(3));
    };
    let process = state.running();
    let word = process.map_or_else(|| "does not run".to_owned(), |process| format!("runs as process {}", process.pid));
    say::line(format_args!("machine    {word} ({}, {} MiB, {} processors)", state.accel, state.memory, state.cpus));
    say::line(format_args!("image      {}", state.image.display()));
    say::line(format_args!("ssh        127.0.0.1:{}\ncn-agent   127.0.0.1:{}", state.ssh_port, state.agent_port));
    say::line(format_args!("saved      {}", if state.saved { BOOTED } else { "nothing" }));
    say::line(format_args!("console    {}", qemu::log(dir).display()));
    Ok(ExitCode::from(u8::from(process.is_none())))
}

fn push(dir: &Path, files: &[PathBuf]) -> Result<ExitCode> {
    let state = running(dir)?;
    let mut progress = Progress::new(2);
    if files.is_empty() {
        push_programs(&Ssh::new(dir, &state), &mut progress)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some((folder, files)) = files.split_last().filter(|(_, files)| !files.is_empty()) else {
        bail!("which files, and into which folder of the node? Example: cargo xtask vm push notes.txt /root");
    };
    Ssh::new(dir, &state).push(files, &folder.display().to_string(), &mut progress)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs, replaces those on the node, and restarts the agents that run; guests go on.
pub fn push_programs(ssh: &Ssh, progress: &mut Progress) -> Result<Vec<PathBuf>> {
    progress.begin("programs");
    let programs = platform::programs(false, progress)?;
    progress.done("built");
    progress.begin("programs on the node");
    let folder = format!("{BED}/new");
    ssh.run(&format!("rm -rf {folder} && mkdir -p {folder}"), Duration::from_secs(120), progress)?;
    ssh.push(&programs, &format!("{folder}/"), progress)?;
    // Links stay links in an archive only. Modes and owners are the image's, not those of this clone.
    let archive = platform::cache_folder().join("overlay.tar");
    let mut pack = std::process::Command::new("tar");
    pack.args(["--owner=0", "--group=0", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(platform::overlay())
        .args(["etc/systemd/system", "usr/triton/bin"]);
    run::succeed(pack, Duration::from_secs(60), progress)?;
    ssh.push(&[archive], &format!("{BED}/overlay.tar"), progress)?;
    // Renamed into place: the old ones may be running.
    let script = format!(
        "set -e; for f in {folder}/*; do n=$(basename $f); cp $f /usr/triton/bin/.$n && chmod 755 /usr/triton/bin/.$n && mv /usr/triton/bin/.$n /usr/triton/bin/$n; done; \
         rm -rf {folder}; tar -xf {BED}/overlay.tar -C / --no-overwrite-dir; systemctl daemon-reload; systemctl try-restart triton-cn-agent.service"
    );
    ssh.run(&script, Duration::from_secs(180), progress)?;
    progress.done("replaced; running agents were restarted");
    Ok(programs)
}

fn log(dir: &Path, follow: bool) -> Result<ExitCode> {
    let path = qemu::log(dir);
    ensure!(path.is_file(), "there is no log: {} is missing", path.display());
    if follow {
        let error = std::process::Command::new("tail").args(["-n", "+1", "-F"]).arg(&path).exec();
        bail!("could not run tail: {error}");
    }
    let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let _ = std::io::stdout().write_all(&bytes);
    Ok(ExitCode::SUCCESS)
}

fn snapshot(dir: &Path, verb: &SnapshotVerb) -> Result<ExitCode> {
    let state = running(dir)?;
    let ssh = Ssh::new(dir, &state);
    match verb {
        SnapshotVerb::Save { name } => {
            ssh.forget();
            qemu::save(dir, name)?;
        }
        SnapshotVerb::Restore { name } => {
            let mut progress = Progress::new(1);
            ssh.forget();
            qemu::restore(dir, name)?;
            ssh.wait(&state, Duration::from_secs(300), &mut progress)?;
            ssh.set_clock(&mut progress)?;
        }
        SnapshotVerb::List => say::line(qmp::monitor(&qemu::socket(dir), "info snapshots")?),
        SnapshotVerb::Remove { name } => qmp::silent(&qemu::socket(dir), &format!("delvm {name}"))?,
    }
    Ok(ExitCode::SUCCESS)
}
