//! `xtask down`: takes away everything that `up` made, from whatever state it is in, and looks whether anything is left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use triton_cgroup::Cgroups;
use triton_files::{Identity, Layout};
use triton_process::PidFd;

use super::{AGENT, PATIENCE, REPORTERS, args::DownArgs, copy_tree, guest, machine, namespaces, programs, state::State};
use crate::{run, say, say::Progress};

/// Steps, for the counter.
pub const STEPS: usize = 6;

/// Takes the node down.
pub fn down(args: &DownArgs) -> Result<ExitCode> {
    let layout = crate::layout(&args.root)?;
    let vm = std::path::absolute(&args.vm)?;
    if machine::is_up(&vm) {
        machine::down(&vm)?;
        if !layout.root().exists() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if !layout.root().exists() {
        say::line(format_args!("nothing is up below {}", layout.root().display()));
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "`down` removes namespaces and containers: run it as root");
    take_down(&layout, &mut Progress::new(STEPS))?;
    say::line("nothing is left: no process, mount, link, control group or file (Debian packages and the cache of images stay)");
    Ok(ExitCode::SUCCESS)
}

/// Removes everything. Every part is tried, whatever became of the part before it; what could not be removed is the error.
pub fn take_down(layout: &Layout, progress: &mut Progress) -> Result<()> {
    // Only a root that `up` claimed is ours to remove.
    let state = super::existing(layout).with_context(|| format!("{} is not a root that `up` made", layout.root().display()))?;
    let mut problems = Problems::default();
    let prefix = prefix(layout);

    progress.begin("agent");
    // cn-agent first: nobody asks for instances any more.
    for name in [&[AGENT][..], &REPORTERS].concat() {
        if let Some(agent) = state.programs.iter().find(|program| program.name == name) {
            problems.keep(programs::stop(agent));
        }
    }
    progress.done("stopped");

    progress.begin("instances");
    let stopped = stop_instances(layout, &mut problems, progress);
    progress.done(format_args!("{stopped} stopped"));

    progress.begin("other processes");
    for program in state.programs.iter().rev() {
        problems.keep(programs::stop(program));
    }
    let cgroups = Cgroups::probe().ok().zip(prefix);
    if let Some((cgroups, prefix)) = &cgroups
        && cgroups.exists(prefix)
    {
        problems.keep(cgroups.kill(prefix).context("could not end the processes in the node's control groups"));
    }
    problems.keep(end_processes(layout));
    progress.done("none left");

    progress.begin("control groups");
    if let Some((cgroups, prefix)) = &cgroups {
        problems.keep(cgroups.remove(prefix).with_context(|| format!("could not remove the control group {prefix}")));
    }
    progress.done("removed");

    progress.begin("namespaces, links and mounts");
    problems.keep(namespaces::remove(layout));
    problems.keep(unmount(layout.root()));
    progress.done("removed");

    progress.begin("files");
    // Never through a mount: that would be somebody else's files.
    match namespaces::mounts_below(layout.root()) {
        Ok(mounts) if mounts.is_empty() => {
            problems.keep(fs::remove_dir_all(layout.root()).with_context(|| format!("could not remove {}", layout.root().display())));
        }
        Ok(mounts) => problems.add(format!("still mounted: {mounts:?}")),
        Err(error) => problems.add(format!("{error:#}")),
    }
    if let Some((cgroups, prefix)) = &cgroups
        && cgroups.exists(prefix)
    {
        problems.add(format!("the control group {prefix} is still there"));
    }
    problems.result()?;
    progress.done("removed");
    Ok(())
}

/// What went wrong so far, all of it.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn keep<T>(&mut self, result: Result<T>) {
        if let Err(error) = result {
            self.add(format!("{error:#}"));
        }
    }

    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    fn result(self) -> Result<()> {
        if !self.0.is_empty() {
            bail!("not everything could be taken down:\n    {}", self.0.join("\n    "));
        }
        Ok(())
    }
}

/// The name of the node's control groups, if it came so far as to have one.
fn prefix(layout: &Layout) -> Option<String> {
    let identity: Identity = triton_files::read_json(&layout.identity()).ok()??;
    // The real node's name is never a made node's.
    (identity.prefix != "triton" && !identity.prefix.is_empty()).then_some(identity.prefix)
}

/// Stops running instances; with a pool, destroys them and their images, which `rm` does not reach.
fn stop_instances(layout: &Layout, problems: &mut Problems, progress: &mut Progress) -> usize {
    let vmadm = programs::folder(layout).join("vmadm");
    if !vmadm.is_file() || !layout.machines().is_dir() {
        return 0;
    }
    let zfs = triton_storage::Storage::open(layout).is_ok_and(|storage| storage.kind() == triton_types::StorageKind::Zfs);
    let states = match guest::states(layout) {
        Ok(states) => states,
        Err(error) => {
            // In plain folders, ending the processes and removing the files is enough; in a pool it is not.
            if zfs {
                problems.add(format!("{error:#}"));
            }
            return 0;
        }
    };
    let mut stopped = 0;
    for (uuid, state) in states {
        progress.turn(&uuid.to_string());
        let uuid = uuid.to_string();
        if state != "stopped" && !zfs {
            let mut stop = guest::vmadm(layout);
            stop.args(["stop", "-F", &uuid]);
            // What does not stop this way is ended with its control group.
            if run::succeed(stop, PATIENCE, progress).is_ok() {
                stopped += 1;
            }
        } else if zfs {
            let mut delete = guest::vmadm(layout);
            delete.args(["delete", &uuid]);
            problems.keep(run::succeed(delete, PATIENCE, progress));
            stopped += 1;
        }
    }
    if zfs && let Ok(Some(State { image: Some(image), .. })) = State::load(layout) {
        let mut delete = std::process::Command::new(programs::folder(layout).join("imgadm"));
        delete.arg("--root").arg(layout.root()).args(["delete", &image.to_string()]);
        problems.keep(run::succeed(delete, PATIENCE, progress));
    }
    stopped
}

/// Ends every process in the node's namespaces. They are its own: nobody else's process is started there.
fn end_processes(layout: &Layout) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pids = namespaces::processes(layout)?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("these processes do not end: {pids:?}");
        }
        for pid in pids {
            let Some(pidfd) = triton_process::reference(pid).and_then(PidFd::open) else { continue };
            // It may have been replaced since the list was made.
            if namespaces::processes(layout)?.contains(&pid) && pidfd.signal(nix::libc::SIGKILL).is_ok() {
                pidfd.wait(Instant::now() + Duration::from_secs(5));
            }
        }
        // A zombie is nobody's process any more, but still listed.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Unmounts what is mounted below the root, innermost first.
fn unmount(root: &Path) -> Result<()> {
    for _ in 0..16 {
        let mut mounts: Vec<PathBuf> = namespaces::mounts_below(root)?;
        if mounts.is_empty() {
            return Ok(());
        }
        mounts.reverse();
        for mount in mounts {
            // One that went with another is gone.
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    bail!("still mounted: {:?}", namespaces::mounts_below(root)?)
}

/// Keeps the logs of a node that is about to be removed, in place of those of an earlier one. False: there are none.
pub fn save_logs(layout: &Layout, to: &Path) -> Result<bool> {
    match fs::remove_dir_all(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    if !layout.at("/var/log/triton").is_dir() {
        return Ok(false);
    }
    for (folder, name) in [("/var/log", "log"), ("/run/triton/runtime", "runtime")] {
        let from = layout.at(folder);
        if from.is_dir() {
            copy_tree(&from, &to.join(name))?;
        }
    }
    Ok(true)
}
