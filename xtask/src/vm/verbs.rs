//! The verbs of `xtask vm`, one function each.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::{
    accel,
    args::{SnapshotVerb, UpArgs, VmArgs, VmVerb},
    disk,
    node::{self, BED},
    qemu::{self, BOOTED},
    qmp,
    ssh::{Ssh, quoted},
    state::State,
    testing,
};
use crate::{
    platform::{self, ImageArgs},
    run,
    say::{self, Progress},
};

/// From power on to a shell, under emulation on a busy machine.
const BOOT: Duration = Duration::from_secs(900);

/// Runs a verb.
pub fn vm(args: &VmArgs) -> Result<ExitCode> {
    let dir = std::path::absolute(&args.dir)?;
    match &args.verb {
        VmVerb::Up(up_args) => {
            let mut progress = Progress::new(platform::STEPS + 4);
            let state = up(&dir, up_args, &mut progress).map_err(|error| {
                progress.clear();
                error.context(format!("the step \"{}\" failed", progress.current()))
            })?;
            say::line(format_args!(
                "the node runs ({}); ssh on 127.0.0.1:{}, cn-agent on 127.0.0.1:{}",
                state.accel, state.ssh_port, state.agent_port
            ));
            say::line("enter      cargo xtask vm ssh\ntest       cargo xtask vm test\nend        cargo xtask vm down");
            Ok(ExitCode::SUCCESS)
        }
        VmVerb::Down => down(&dir),
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
        VmVerb::Test { filter, matrix } => {
            let counts = testing::run(&dir, filter.as_deref(), *matrix)?;
            say::line(format_args!("{} passed, {} failed", counts.passed, counts.failed));
            Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Boots or restores the machine; leaves alone one that runs.
pub fn up(dir: &Path, args: &UpArgs, progress: &mut Progress) -> Result<State> {
    let _lock = claim(dir)?;
    let known = State::load(dir)?;
    if let Some(state) = known.as_ref().filter(|state| state.running().is_some()) {
        if !state.saved {
            bail!("the machine in {} was not set up to its end: look at it with `vm ssh` and `vm log`, then `vm down`", dir.display());
        }
        return Ok(state.clone());
    }
    crate::packages::ensure(&[crate::packages::Purpose::Machine], progress)?;
    let built = platform::ensure(&ImageArgs { release: args.release, ..ImageArgs::default() }, progress)?;

    progress.begin("disks, key, acceleration");
    let medium = disk::medium(&built, progress)?;
    disk::ensure(dir, progress)?;
    let chosen = accel::choose(&built.file("vmlinuz"), || progress.turn("probing KVM"))?;
    let uuid = known.as_ref().map_or_else(|| triton_types::ServerUuid::random().to_string(), |state| state.uuid.clone());
    let mut state = State::new(built.folder.clone(), chosen, args.memory, args.cpus, qemu::free_ports()?, uuid);
    // A saved state belongs to an image and a machine: it is used only where nothing differs.
    let same = known.is_some_and(|known| {
        known.saved && known.image == state.image && known.accel == state.accel && (known.memory, known.cpus) == (state.memory, state.cpus)
    });
    let restore = same && !args.boot;
    progress.done(format_args!("{}, {}", state.accel, medium.display()));

    progress.begin(if restore { "the saved state" } else { "boot (1 to 3 minutes under emulation)" });
    let ssh = Ssh::new(dir, &state);
    ssh.forget();
    if let Err(error) = qemu::start(dir, &mut state, restore.then_some(BOOTED), progress).and_then(|()| ssh.wait(&state, BOOT, progress)) {
        qemu::kill(&state)?;
        return Err(error);
    }
    progress.done("the node lets us in");

    progress.begin("pool, datasets, configuration");
    ssh.set_clock(progress)?;
    state.saved = same;
    if restore {
        progress.done("as they were saved");
    } else {
        node::set_up(&ssh, progress)?;
        progress.done("zones");
    }

    progress.begin("saved state");
    if restore {
        progress.done(BOOTED);
    } else {
        ssh.forget();
        qemu::save(dir, BOOTED)?;
        state.saved = true;
        progress.done(format_args!("{BOOTED}: the next `up` has it back in seconds"));
    }
    state.save(dir)?;
    Ok(state)
}

/// One verb at a time changes the machine; the folder is ours or new.
fn claim(dir: &Path) -> Result<Flock<fs::File>> {
    let foreign = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) && !dir.join(".triton-vm").exists();
    ensure!(!foreign, "{} holds files that `vm up` did not make: choose another folder with --dir", dir.display());
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let file = fs::File::create(dir.join(".triton-vm"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => bail!("another xtask works on the machine in {}", dir.display()),
    }
}

/// The machine, which must run.
pub fn running(dir: &Path) -> Result<State> {
    let state =
        State::load(dir)?.with_context(|| format!("there is no machine in {}: start one with `cargo xtask vm up`", dir.display()))?;
    ensure!(state.running().is_some(), "the machine in {} does not run: start it with `cargo xtask vm up`", dir.display());
    Ok(state)
}

fn down(dir: &Path) -> Result<ExitCode> {
    if !dir.exists() {
        say::line("there is no machine");
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = claim(dir)?;
    if let Some(state) = State::load(dir)? {
        Ssh::new(dir, &state).forget();
        qemu::kill(&state)?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("could not remove {}", dir.display()))?;
    say::line(format_args!("the machine in {} is gone; images stay in {}", dir.display(), platform::cache_folder().display()));
    Ok(ExitCode::SUCCESS)
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
