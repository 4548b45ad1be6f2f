//! Network namespaces: the current one, a process's, one pinned to a file.
//!
//! Only `enter` changes the calling thread's namespace, for as long as its guard lives. Everything else that must run
//! inside one does so on a short-lived thread of its own.

use std::{
    fs::{self, File, OpenOptions},
    io,
    marker::PhantomData,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    panic,
    path::Path,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

use crate::{Cause, LinkError, Links};

/// The thread's own namespace, not the process's.
const OWN: &str = "/proc/thread-self/ns/net";
/// How many mounts on one file are taken away at most; more than one is the work of somebody else.
const STACKED: usize = 16;

/// A network namespace, kept alive by this handle. Clones are the same namespace.
#[derive(Clone, Debug)]
pub struct NetNs(Arc<OwnedFd>);

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl NetNs {
    fn open_file(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(File::open(path)?.into())))
    }

    /// The namespace behind `fd`.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn from_fd(fd: BorrowedFd<'_>) -> Result<Self, LinkError> {
        let fd = fd.try_clone_to_owned().map_err(|e| LinkError::new("keep open", "a network namespace", e))?;
        Ok(Self(Arc::new(fd)))
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> Result<Self, LinkError> {
        Self::open_file(Path::new(OWN)).map_err(|e| LinkError::new("open", "the current network namespace", e))
    }

    /// The namespace of process `pid`. A pid may have been given to another process meanwhile: where that matters, use
    /// [`NetNs::of_pidfd`].
    ///
    /// # Errors
    /// `NotFound` if there is no such process.
    pub fn of_pid(pid: i32) -> Result<Self, LinkError> {
        let path = format!("/proc/{pid}/ns/net");
        Self::open_file(Path::new(&path)).map_err(|e| LinkError::new("open the network namespace of", format!("process {pid}"), e))
    }

    /// The namespace of the process behind `pidfd`.
    ///
    /// # Errors
    /// `NotFound` if it has ended.
    pub fn of_pidfd(pidfd: BorrowedFd<'_>) -> Result<Self, LinkError> {
        use std::os::fd::AsRawFd;
        let error = |cause: Cause| LinkError::new("open the network namespace of", "a process by descriptor", cause);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).map_err(|e| error(e.into()))?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse::<i32>().ok());
        let pid = pid.filter(|pid| *pid > 0).ok_or_else(|| error(Cause::kernel(libc::ESRCH)))?;
        let netns = Self::of_pid(pid)?;
        // While the process has not ended its pid is its own: what was opened is its namespace.
        let mut ended = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut ended, PollTimeout::ZERO) {
            Ok(0) => Ok(netns),
            Ok(_) => Err(error(Cause::kernel(libc::ESRCH))),
            Err(errno) => Err(error(errno.into())),
        }
    }

    /// The namespace pinned to `path`.
    ///
    /// # Errors
    /// `NotFound` if nothing is there, also when the file is no namespace.
    pub fn open(path: &Path) -> Result<Self, LinkError> {
        let error = |cause: Cause| LinkError::new("open the network namespace", path.display().to_string(), cause);
        if !pinned(path).map_err(|e| error(e.into()))? {
            return Err(error(Cause::kernel(libc::ENOENT)));
        }
        Self::open_file(path).map_err(|e| error(e.into()))
    }

    /// A new namespace with its loopback up, alive as long as a handle, a process or a pin uses it.
    ///
    /// # Errors
    /// When the kernel refuses (privilege, limits).
    pub fn create() -> Result<Self, LinkError> {
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let netns = Self::open_file(Path::new(OWN))?;
            Ok::<_, Cause>(netns)
        });
        let netns = made.and_then(|netns| netns).map_err(|cause| LinkError::new("create", "a network namespace", cause))?;
        netns.loopback_up()?;
        Ok(netns)
    }

    /// The namespace pinned to `path`, created with its loopback up if there is none yet. Callers at the same time get
    /// the same one.
    ///
    /// # Errors
    /// When the file cannot be made or the kernel refuses.
    pub fn create_and_pin(path: &Path) -> Result<Self, LinkError> {
        let error = |cause: Cause| LinkError::new("pin a network namespace to", path.display().to_string(), cause);
        let parent = path.parent().ok_or_else(|| error(Cause::Invalid("a pin is a file in a directory")))?;
        fs::create_dir_all(parent).map_err(|e| error(e.into()))?;
        // The lock is on the directory: the file itself is another one as soon as the namespace is mounted on it.
        let directory = File::open(parent).map_err(|e| error(e.into()))?;
        let lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| error(errno.into()))?;
        if !pinned(path).map_err(|e| error(e.into()))? {
            let file = OpenOptions::new().read(true).create(true).append(true).mode(0o444).open(path);
            file.map_err(|e| error(e.into()))?;
            let bind = || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            };
            on_thread(bind).and_then(|done| Ok(done?)).map_err(error)?;
        }
        drop(lock);
        let netns = Self::open(path)?;
        netns.loopback_up()?;
        Ok(netns)
    }

    /// Takes the pin at `path` away, with its file; absent is success. The namespace ends with its last user.
    ///
    /// # Errors
    /// When the mount or the file cannot be removed.
    pub fn unpin(path: &Path) -> Result<(), LinkError> {
        let error = |cause: Cause| LinkError::new("unpin the network namespace", path.display().to_string(), cause);
        for _ in 0..STACKED {
            if !pinned(path).map_err(|e| error(e.into()))? {
                break;
            }
            umount2(path, MntFlags::MNT_DETACH).map_err(|errno| error(errno.into()))?;
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(error(e.into())),
            _ => Ok(()),
        }
    }

    /// Puts the calling thread into this namespace until the guard is dropped. Not for asynchronous code: a task may go
    /// on at another thread.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<Entered, LinkError> {
        let previous = Self::current()?;
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| LinkError::new("enter", "a network namespace", errno))?;
        Ok(Entered { previous, not_send: PhantomData })
    }

    /// Runs `action` inside this namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// When the thread or its move into the namespace fails; `action` did not run then.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, Cause> {
        on_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(action())
        })?
    }

    /// True if both are the same namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is(&self, other: &Self) -> Result<bool, LinkError> {
        let identity = |netns: &Self| nix::sys::stat::fstat(netns).map(|stat| (stat.st_dev, stat.st_ino));
        let same = || Ok::<_, Errno>(identity(self)? == identity(other)?);
        same().map_err(|errno| LinkError::new("compare", "network namespaces", errno))
    }

    fn loopback_up(&self) -> Result<(), LinkError> {
        let error = |cause: Cause| LinkError::new("bring up", "lo", cause);
        let links = Links::of(self.clone());
        let up = move || -> Result<(), LinkError> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| error(e.into()))?;
            runtime.block_on(links.set_up("lo"))
        };
        // On a thread of its own, since the caller may be one of a runtime already.
        on_thread(up).map_err(error)?
    }
}

/// The calling thread is in another namespace; back when dropped.
#[derive(Debug)]
pub struct Entered {
    previous: NetNs,
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let PhantomData = self.not_send;
        if setns(self.previous.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            // A thread that stays behind would change somebody else's links under the names of ours.
            tracing::error!("could not return to the previous network namespace");
            std::process::abort();
        }
    }
}

/// Runs `action` on a short-lived thread; its namespace ends with it.
fn on_thread<T: Send>(action: impl FnOnce() -> T + Send) -> Result<T, Cause> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, action)?;
        Ok(thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
    })
}

/// True if `path` is a mounted namespace.
fn pinned(path: &Path) -> io::Result<bool> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == NSFS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
