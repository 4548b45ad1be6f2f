//! Starting the monitor of an instance: through systemd on a compute node, directly elsewhere (ruling 38).

use std::{
    fs::OpenOptions,
    io::Read,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use triton_files::Layout;
use triton_process::{PidFd, reference};
use triton_types::InstanceUuid;

/// The socket in an instance's runtime directory at which its monitor lends the guest's second serial line to the metadata service.
pub const LINE_SOCKET: &str = "line.sock";

/// What a monitor says that no unit of systemd holds, in its instance's runtime directory.
pub const MONITOR_LOG: &str = "monitor.log";

/// The one line that a monitor tells its starter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Init runs.
    pub ok: bool,
    /// Init's pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a monitor is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mission {
    /// To boot the instance.
    Boot,
    /// To take over a running guest whose monitor died.
    Adopt,
}

impl Mission {
    /// The monitor's verb.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Boot => "run",
            Self::Adopt => "adopt",
        }
    }
}

/// The template unit that holds a monitor and its guest on a compute node.
const UNIT_FILE: &str = "/etc/systemd/system/triton-instance@.service";

/// How monitors are started on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// As `triton-instance@<uuid>.service`: no stop, sandbox or crash of an agent reaches the guest.
    Systemd,
    /// As a process of its own session.
    Direct {
        /// The program.
        monitor: PathBuf,
    },
}

impl Launcher {
    /// Systemd where it runs and has our unit; else directly.
    pub fn detect(layout: &Layout) -> Self {
        if layout.is_host() && Path::new("/run/systemd/system").is_dir() && Path::new(UNIT_FILE).exists() {
            Self::Systemd
        } else {
            Self::Direct { monitor: monitor_program() }
        }
    }

    /// Starts the monitor and waits at most `patience` for its word.
    ///
    /// # Errors
    /// Why the guest does not run, in words.
    pub fn launch(&self, layout: &Layout, uuid: InstanceUuid, mission: Mission, patience: Duration) -> Result<(), String> {
        match self {
            Self::Systemd => launch_unit(layout, uuid, mission, patience),
            Self::Direct { monitor } => launch_directly(monitor, layout, uuid, mission, patience),
        }
    }
}

/// The monitor beside the running program; for tests, beside the directory that holds them; else where it is installed.
pub fn monitor_program() -> PathBuf {
    const NAME: &str = "instance-monitor";
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(NAME))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("/usr/triton/bin").join(NAME))
}

/// What the unit's program is told, beside the instance: a file that the unit reads as its environment.
fn unit_environment(mission: Mission) -> String {
    let mut text = format!("TRITON_MISSION={}\n", mission.verb());
    for (name, value) in triton_files::steps::environment_of_child() {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

fn launch_unit(layout: &Layout, uuid: InstanceUuid, mission: Mission, patience: Duration) -> Result<(), String> {
    let unit = format!("triton-instance@{uuid}.service");
    let environment = layout.runtime(uuid).join("unit.env");
    triton_files::write_volatile(&environment, unit_environment(mission).as_bytes(), 0o600).map_err(|e| e.to_string())?;
    let failed = |e: std::io::Error| format!("could not run systemctl: {e}");
    let mut child = Command::new("systemctl")
        .args(["restart", &unit])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + patience;
    let process = i32::try_from(child.id()).ok().and_then(reference).and_then(PidFd::open);
    // It says a line or two: nobody has to read them meanwhile.
    if process.is_some_and(|process| !process.wait(deadline)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("the guest did not start within {} s", patience.as_secs()));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    // systemctl knows only that it failed; the monitor left its reason as the unit's status.
    let shown = Command::new("systemctl").args(["show", "--value", "--property=StatusText", &unit]).stdin(Stdio::null()).output();
    let reason = shown.map(|shown| String::from_utf8_lossy(&shown.stdout).trim().to_owned()).unwrap_or_default();
    if !reason.is_empty() {
        return Err(reason);
    }
    Err(format!("{unit} did not start: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn launch_directly(monitor: &Path, layout: &Layout, uuid: InstanceUuid, mission: Mission, patience: Duration) -> Result<(), String> {
    let log_path = layout.runtime(uuid).join(MONITOR_LOG);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|e| format!("could not open {}: {e}", log_path.display()))?;
    let (mut reader, writer) = std::io::pipe().map_err(|e| format!("no pipe: {e}"))?;
    let mut child = Command::new(monitor)
        .args([mission.verb(), "--root"])
        .arg(layout.root())
        .args(["--ready-fd", "1", &uuid.to_string()])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(triton_files::steps::environment_of_child())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(log)
        .spawn()
        .map_err(|e| format!("could not run {}: {e}", monitor.display()))?;
    // The monitor detaches at once: this process is only its first instant, and leaves no zombie.
    child.wait().map_err(|e| format!("could not wait for the monitor: {e}"))?;
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(format!("the guest did not start within {} s", patience.as_secs())),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(format!("could not wait for the monitor: {e}")),
            Ok(_) => {}
        }
        let mut buffer = [0; 4096];
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if line.len() < 64 << 10 => line.extend_from_slice(&buffer[..count]),
            Ok(_) => break,
            Err(e) => return Err(format!("could not read the monitor's answer: {e}")),
        }
    }
    match serde_json::from_slice(&line) {
        Ok(Readiness { ok: true, .. }) => Ok(()),
        Ok(Readiness { error, .. }) => Err(error.unwrap_or_else(|| "the monitor gave no reason".to_owned())),
        Err(_) => Err(format!("the monitor ended without an answer: {}", tail(&log_path))),
    }
}

/// The last lines of a log, bounded.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let from = text.len().saturating_sub(1024);
    String::from_utf8_lossy(&text[from..]).trim().to_owned()
}
