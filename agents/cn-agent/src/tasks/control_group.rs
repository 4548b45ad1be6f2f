//! A control group for each script, so that none of its processes is lost sight of: those that left its process group end with it, and
//! those of an agent that was killed end with the next start of the agent (cn-agent.md section 2.5).
//!
//! What a script leaves in the background when it has ended by itself is moved out of its group and stays.

use std::{
    fs::{self, File, OpenOptions},
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::process::Command;
use triton_cgroup::Cgroups;
use triton_files::{Identity, Layout};

/// Where the groups are. Without one (no control groups, or not prepared) scripts run without, in their process group alone.
static PLACE: OnceLock<Place> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Place {
    cgroups: Cgroups,
    /// Parent of the scripts' groups.
    scripts: String,
    /// Where what scripts left in the background is.
    left: String,
}

/// The unit that the agent runs as, in the unified hierarchy; its groups are below it, so that systemd sees them as the unit's.
fn own_unit() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?.trim();
    // Without a group of the agent's own below it.
    let end = path.find(".service")? + ".service".len();
    path.contains("triton-cn-agent").then(|| path[..end].to_owned())
}

/// Prepares the groups of the node below `layout`, and kills what scripts of an earlier run of this agent are left: nobody waits for
/// them any more. Gives their number. `agent` tells this agent from its twin. Blocking.
pub fn prepare(layout: &Layout, agent: &str) -> usize {
    let Ok(cgroups) = Cgroups::probe() else { return 0 };
    let parent = match own_unit().filter(|_| layout.is_host()) {
        Some(unit) => unit,
        None => match Identity::load_or_create(layout) {
            Ok(identity) => format!("{}/{agent}", identity.prefix),
            Err(_) => return 0,
        },
    };
    let (scripts, left) = (format!("{parent}/scripts"), format!("{parent}/left"));
    let survivors = cgroups.pids(&scripts).map_or(0, |pids| pids.len());
    let cleared = cgroups.kill(&scripts).and_then(|()| cgroups.remove(&scripts));
    // Empty most of the time; what lives in it stays.
    let _ = cgroups.remove(&left);
    if let Err(error) = cleared {
        tracing::warn!(error = %triton_agent::chain(&error), "scripts of an earlier run are left");
    }
    let _ = PLACE.set(Place { cgroups, scripts, left });
    survivors
}

/// The group of one script.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    place: &'static Place,
    path: String,
}

impl ControlGroup {
    /// Makes a group and has the process of `command` enter it before it runs. `None` where that cannot be: the script runs without.
    pub(super) fn join(command: &mut Command) -> Option<Self> {
        let place = PLACE.get()?;
        let path = format!("{}/{}-{}", place.scripts, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = Self { place, path };
        let entrances = place.cgroups.create(&group.path).map(|()| group.entrances());
        match entrances {
            Ok(files) if !files.is_empty() => {
                enter::before_exec(command, files);
                Some(group)
            }
            _ => {
                group.remove();
                None
            }
        }
    }

    fn entrances(&self) -> Vec<File> {
        let files = self.place.cgroups.directories(&self.path).into_iter().map(|directory: PathBuf| directory.join("cgroup.procs"));
        files.filter_map(|file| OpenOptions::new().write(true).open(file).ok()).collect()
    }

    fn remove(self) {
        let _ = self.place.cgroups.remove(&self.path);
    }

    fn away(self, work: impl FnOnce(Self) + Send + 'static) {
        // Killing and removing wait for the kernel. Outside of a runtime nobody is held up by it.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || work(self))),
            Err(_) => work(self),
        }
    }

    /// Ends all processes of the group, and the group.
    pub(crate) fn kill(self) {
        self.away(|group| {
            if let Err(error) = group.place.cgroups.kill(&group.path) {
                tracing::warn!(error = %triton_agent::chain(&error), "processes of a script survive");
            }
            group.remove();
        });
    }

    /// Ends the group; its processes go on elsewhere.
    pub(crate) fn release(self) {
        self.away(|group| {
            let cgroups = &group.place.cgroups;
            for _ in 0..100 {
                let pids = cgroups.pids(&group.path).unwrap_or_default();
                if pids.is_empty() {
                    break;
                }
                let _ = cgroups.create(&group.place.left);
                for pid in pids {
                    let _ = cgroups.enter(&group.place.left, pid);
                }
            }
            group.remove();
        });
    }
}

mod enter {
    //! The one thing that is done between fork and exec.
    #![allow(unsafe_code)]

    use std::{fs::File, io, os::fd::AsRawFd};

    use tokio::process::Command;

    /// Writes to `files`, which are `cgroup.procs` of a group in each hierarchy: the writer enters the group.
    pub(super) fn before_exec(command: &mut Command, files: Vec<File>) {
        let enter = move || {
            for file in &files {
                let (zero, length) = (c"0".as_ptr().cast(), 1);
                // SAFETY: write(2) may be called between fork and exec, the descriptor is open (the closure owns the file), and the
                // text is static.
                if unsafe { nix::libc::write(file.as_raw_fd(), zero, length) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure makes no call but write(2) and reads errno: no allocation, no lock.
        unsafe { command.pre_exec(enter) };
    }
}

#[cfg(test)]
mod kernel_tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::tasks::execution::{Ended, Execution};

    fn alive(pid: i32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn until(what: &str, mut look: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if look() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never happened: {what}");
    }

    /// One test for all: the place is one per process.
    #[tokio::test]
    async fn a_script_is_in_a_group_of_its_own_whose_processes_end_with_it_or_are_let_go() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        if Cgroups::probe().is_err() {
            panic!("this test needs control groups");
        }
        let earlier = Identity::load_or_create(&layout).unwrap();
        let cgroups = Cgroups::probe().unwrap();
        let scripts = format!("{}/cn-agent/scripts", earlier.prefix);
        // An agent that was killed left a script that is in a session of its own.
        cgroups.create(&format!("{scripts}/1-1")).unwrap();
        let mut orphan = std::process::Command::new("/usr/bin/setsid").args(["sleep", "1000"]).spawn().unwrap();
        let pid = i32::try_from(orphan.id()).unwrap();
        cgroups.enter(&format!("{scripts}/1-1"), pid).unwrap();
        assert_eq!(prepare(&layout, "cn-agent"), 1);
        orphan.wait().unwrap();
        assert!(!cgroups.exists(&scripts));

        let directories = [layout.at("/tmp")];
        let never = CancellationToken::new();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        // It is killed with what left its process group and its session.
        let script = "setsid sleep 1000 & echo $!; sleep 1000".to_owned();
        let killed = Execution { script, env: env.clone(), timeout: Some(Duration::from_millis(500)), ..Execution::default() };
        let ran = killed.run(&directories, &never).await.unwrap();
        assert!(matches!(ran.ended, Ended::TimedOut), "{ran:?}");
        let pid: i32 = String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap();
        until("the end of the process in another session", || !alive(pid)).await;
        // It ends by itself: what it started stays.
        let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!".to_owned();
        let ran = Execution { script, env, ..Execution::default() }.run(&directories, &never).await.unwrap();
        assert!(matches!(ran.ended, Ended::Exited(status) if status.success()), "{ran:?}");
        let pid: i32 = String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap();
        let left = format!("{}/cn-agent/left", earlier.prefix);
        until("the process among those left", || cgroups.pids(&left).is_ok_and(|pids| pids.contains(&pid))).await;
        assert!(alive(pid));
        let groups = || cgroups.directories(&scripts).iter().flat_map(fs::read_dir).flatten().flatten().any(|e| e.path().is_dir());
        until("the end of the scripts' groups", || !groups()).await;
        cgroups.kill(&earlier.prefix).unwrap();
        cgroups.remove(&earlier.prefix).unwrap();
    }
}
