//! Keeping the node's own firewall (`triton_host`) in force, as the guard is (ruling 9). A script of the platform knows what it says
//! (`/usr/triton/bin/host-firewall`, docs/nftables.md); this hears of changes by others and has it look.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use triton_agent::chain;
use triton_files::Layout;
use triton_nft::{Change, Events, NftError};

use crate::metrics::Numbers;

/// The table.
const TABLE: &str = "triton_host";
/// The script, on nodes that have it.
const SCRIPT: &str = "/usr/triton/bin/host-firewall";
/// It is looked at at least this often, whatever notices say.
const LOOK: Duration = Duration::from_secs(300);
/// A look is not sooner than this after another: each starts a few programs.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// What the script says when it had to make the table anew.
const MADE_ANEW: &str = "made anew";

/// Why it could not look.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("changes of the table are not told")]
    Events(#[from] NftError),
    #[error("{} cannot be run", .0.display())]
    Run(PathBuf, #[source] io::Error),
    #[error("{} ended with {status}: {said}", .path.display())]
    Failed { path: PathBuf, status: std::process::ExitStatus, said: String },
}

/// The upkeep of the node's own firewall, for a thread of its own.
pub(crate) struct HostFirewall {
    script: PathBuf,
    root: Option<PathBuf>,
    numbers: Numbers,
    stop: Arc<AtomicBool>,
    said: bool,
}

impl HostFirewall {
    /// Nothing where the platform has no such firewall: a machine that is a node only for a time has its own.
    pub(crate) fn of(layout: &Layout, numbers: &Numbers, stop: &Arc<AtomicBool>) -> Option<Self> {
        let script = layout.at(SCRIPT);
        let root = (layout.root() != std::path::Path::new("/")).then(|| layout.root().to_owned());
        script.is_file().then(|| Self { script, root, numbers: numbers.clone(), stop: stop.clone(), said: false })
    }

    /// Looks at once and after each change by others, until it is to stop.
    pub(crate) fn run(mut self) {
        while !self.stopped() {
            if let Err(error) = self.follow() {
                // The first of a row of failures is said.
                if !std::mem::replace(&mut self.said, true) {
                    tracing::error!(error = %chain(&error), "the node's own firewall cannot be looked after");
                }
                thread::sleep(AFTER_FAILURE);
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn follow(&mut self) -> Result<(), KeepError> {
        // What happened before is seen by the first look.
        let mut events = Events::open()?;
        let mut due = Instant::now();
        while !self.stopped() {
            let now = Instant::now();
            if now >= due {
                self.keep()?;
                due = Instant::now() + LOOK;
                continue;
            }
            let concerns = |change: &Change| matches!(change, Change::Lost) || matches!(change, Change::Table(table) if table == TABLE);
            if events.wait(due - now)?.iter().any(concerns) {
                due = due.min(Instant::now() + PAUSE);
            }
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<(), KeepError> {
        let mut command = Command::new(&self.script);
        command.arg("keep").stdin(Stdio::null());
        if let Some(root) = &self.root {
            command.env("TRITON_ROOT", root);
        }
        let output = command.output().map_err(|error| KeepError::Run(self.script.clone(), error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(KeepError::Failed { path: self.script.clone(), status: output.status, said });
        }
        if String::from_utf8_lossy(&output.stdout).contains(MADE_ANEW) {
            tracing::warn!("the node's own firewall was not as it was made: it is made anew");
            self.numbers.host_repaired();
        }
        self.said = false;
        Ok(())
    }
}
