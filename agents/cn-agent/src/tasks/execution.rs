//! Running a script of CNAPI's as root (cn-agent.md section 3.8): in a process group of its own, with bounded output, and with nothing
//! inherited from the agent but its working directory.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::control_group::ControlGroup;

/// Most bytes that are kept of standard output, and of standard error; one more kills the script.
pub const OUTPUT_LIMIT: usize = 5 << 20;
/// How long the kernel may say that the script's file is still being written: another thread's child has it open until it execs.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// After a kill, how long output is awaited from processes that left the group.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// What is to be run.
#[derive(Clone, Debug, Default)]
pub struct Execution {
    /// The text: with an interpreter line, else for `/bin/sh`.
    pub script: String,
    /// Arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed when its time was over.
    TimedOut,
    /// It was killed for writing too much to this stream.
    TooMuch(&'static str),
    /// It did not start.
    NotStarted(io::Error),
    /// It was killed because nobody waits for it any more.
    Cancelled,
}

/// A script that ran, or could not.
#[derive(Debug)]
pub struct Ran {
    /// Path of the script's file, which is gone.
    pub path: PathBuf,
    /// How it ended.
    pub ended: Ended,
    /// Standard output, at most [`OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
}

/// The script's file, removed when dropped.
struct ScriptFile(PathBuf);

impl Drop for ScriptFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl ScriptFile {
    /// Makes a file of mode 0700 with a name that cannot be guessed; it never follows or replaces what is there.
    fn create(directory: &Path, text: &str) -> io::Result<Self> {
        if !directory.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let path = directory.join(format!("cnagent-{:016x}", rand::random::<u64>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
        let script = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(script)
    }
}

/// Kills the processes of a script unless it is released: a script does not outlive the task that it belongs to.
struct Group {
    leader: Option<Pid>,
    control: Option<ControlGroup>,
}

impl Group {
    fn of(child: &Child, control: Option<ControlGroup>) -> Self {
        Self { leader: child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw), control }
    }

    fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            let _ = killpg(leader, Signal::SIGKILL);
        }
        // Those that left the process group.
        if let Some(control) = self.control.take() {
            control.kill();
        }
    }

    fn release(&mut self) {
        self.leader = None;
        if let Some(control) = self.control.take() {
            control.release();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One stream of the script.
struct Stream {
    kept: Arc<Mutex<Vec<u8>>>,
    overflow: CancellationToken,
    reader: JoinHandle<()>,
}

impl Stream {
    fn read(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let (kept, overflow) = (Arc::<Mutex<Vec<u8>>>::default(), CancellationToken::new());
        let (buffer, full) = (kept.clone(), overflow.clone());
        let reader = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut piece = vec![0; 64 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut piece).await {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_LIMIT - buffer.len();
                buffer.extend_from_slice(&piece[..count.min(room)]);
                if count > room {
                    return full.cancel();
                }
            }
        });
        Self { kept, overflow, reader }
    }

    fn take(self) -> Vec<u8> {
        self.reader.abort();
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Execution {
    /// Runs it in the first of `directories` that holds executable files. When `cancelled` fires, its whole group is killed.
    ///
    /// # Errors
    /// When the script's file could not be written anywhere.
    pub async fn run(self, directories: &[PathBuf], cancelled: &CancellationToken) -> io::Result<Ran> {
        let mut refusal = None;
        for directory in directories {
            let (directory, text) = (directory.clone(), self.script.clone());
            let written = tokio::task::spawn_blocking(move || ScriptFile::create(&directory, &text)).await.map_err(io::Error::other)?;
            let file = match written {
                Ok(file) => file,
                Err(error) => {
                    refusal.get_or_insert(Err(error));
                    continue;
                }
            };
            match self.spawn(&file.0, None).await {
                Ok((child, group)) => return Ok(self.attend(child, group, &file.0, cancelled).await),
                // A file system without executable files.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusal = Some(Ok(not_started(&file.0, error))),
                Err(error) => return Ok(not_started(&file.0, error)),
            }
        }
        refusal.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
    }

    /// Runs a program that is there already, in `directory`; [`Execution::script`] does not count.
    pub(crate) async fn run_program(self, program: &Path, directory: &Path, cancelled: &CancellationToken) -> Ran {
        match self.spawn(program, Some(directory)).await {
            Ok((child, group)) => self.attend(child, group, program, cancelled).await,
            Err(error) => not_started(program, error),
        }
    }

    async fn spawn(&self, path: &Path, directory: Option<&Path>) -> io::Result<(Child, Group)> {
        let mut tries = 0;
        let mut shell = false;
        loop {
            let mut command = if shell { Command::new("/bin/sh") } else { Command::new(path) };
            if shell {
                command.arg(path);
            }
            command.args(&self.args).env_clear().envs(self.env.iter().cloned()).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            if let Some(directory) = directory {
                command.current_dir(directory);
            }
            let control = ControlGroup::join(&mut command);
            match command.spawn().map(|child| (Group::of(&child, control), child)) {
                Ok((group, child)) => return Ok((child, group)),
                Err(error) if error.raw_os_error() == Some(Errno::ENOEXEC as i32) && !shell => shell = true,
                Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) && tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attend(&self, mut child: Child, mut group: Group, path: &Path, cancelled: &CancellationToken) -> Ran {
        let mut stdout = Stream::read(child.stdout.take());
        let mut stderr = Stream::read(child.stderr.take());
        let over = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            biased;
            () = stdout.overflow.cancelled() => Ended::TooMuch("stdout"),
            () = stderr.overflow.cancelled() => Ended::TooMuch("stderr"),
            // As upstream, the end is when the script has ended and nobody holds its output any more.
            status = async {
                let status = child.wait().await;
                let _ = (&mut stdout.reader).await;
                let _ = (&mut stderr.reader).await;
                status
            } => match status {
                // The reader that overflowed has ended too.
                Ok(_) if stdout.overflow.is_cancelled() => Ended::TooMuch("stdout"),
                Ok(_) if stderr.overflow.is_cancelled() => Ended::TooMuch("stderr"),
                Ok(status) => Ended::Exited(status),
                Err(error) => Ended::NotStarted(error),
            },
            () = over => Ended::TimedOut,
            () = cancelled.cancelled() => Ended::Cancelled,
        };
        if matches!(ended, Ended::Exited(_)) {
            // What the script left in the background stays, as upstream.
            group.release();
        } else {
            group.kill();
            let _ = child.wait().await;
            if matches!(ended, Ended::TimedOut) {
                let rest = async {
                    let _ = (&mut stdout.reader).await;
                    let _ = (&mut stderr.reader).await;
                };
                let _ = tokio::time::timeout(AFTER_KILL, rest).await;
            }
        }
        Ran { path: path.to_owned(), ended, stdout: stdout.take(), stderr: stderr.take() }
    }
}

fn not_started(path: &Path, error: io::Error) -> Ran {
    Ran { path: path.to_owned(), ended: Ended::NotStarted(error), stdout: Vec::new(), stderr: Vec::new() }
}
