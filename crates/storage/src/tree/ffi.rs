//! System calls that no safe binding offers: reflinks, detached mounts, a child in a user namespace of its own.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    fs::File,
    io::Read,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{errno::Errno, fcntl::OFlag, sys::stat::Mode, unistd::Pid};

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

fn done(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// Lets `to` share all blocks of `from` (`FICLONE`).
pub(crate) fn reflink(from: &impl AsFd, to: &impl AsFd) -> Result<(), Errno> {
    // SAFETY: FICLONE takes a descriptor as its argument; both are open for the time of the call.
    let result = unsafe { libc::ioctl(to.as_fd().as_raw_fd(), libc::FICLONE as _, from.as_fd().as_raw_fd()) };
    done(result.into()).map(drop)
}

/// A detached copy of the mount at `path`, which vanishes with the descriptor.
pub(crate) fn detached_mount(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: `path` is a C string for the time of the call; the result is a new descriptor that nobody else owns.
    let result = done(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// Maps the ids of a detached mount by a user namespace.
pub(crate) fn map_ids(mount: &OwnedFd, namespace: &impl AsFd) -> Result<(), Errno> {
    let attributes = MountAttr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: namespace.as_fd().as_raw_fd() as u64 };
    // SAFETY: the path is an empty C string, the attributes live across the call and their true size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    done(result).map(drop)
}

/// Ends the child of [`user_namespace`].
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGKILL);
        // SAFETY: waits for a child of this process by its id; __WALL because it has no exit signal; no status is asked for.
        while unsafe { libc::waitpid(self.0.as_raw(), std::ptr::null_mut(), libc::__WALL) } < 0 && Errno::last() == Errno::EINTR {}
    }
}

/// A user namespace in which ids 0 to 65535 are the host's from `base` on, held by the descriptor alone.
pub(crate) fn user_namespace(base: u32) -> Result<OwnedFd, Errno> {
    let (read_end, write_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // No exit signal: programs that wait for "any child" must not see this one.
    // SAFETY: as fork(2): no stack and no pointers are given. The child calls only prctl, close, read and _exit, which are
    // safe in the child of a multi-threaded process, and touches no memory but its own stack.
    let pid = done(unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0usize, 0usize, 0usize, 0usize) })?;
    if pid == 0 {
        let mut byte = 0u8;
        // SAFETY: see above; the pointer is to a live byte. `read` ends when the parent ends or kills this process.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::close(write_end.as_raw_fd());
            libc::read(read_end.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
    }
    let child = Child(Pid::from_raw(pid as i32));
    let directory = Path::new("/proc").join(child.0.to_string());
    let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    for file in ["uid_map", "gid_map"] {
        std::fs::write(directory.join(file), format!("0 {base} 65536\n")).map_err(errno)?;
    }
    let namespace = nix::fcntl::open(&directory.join("ns/user"), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    drop(child);
    drop(write_end);
    // The child's copy of the write end is closed with it, so this end is at its end: it proves that nothing holds the pipe.
    let _ = File::from(read_end).read(&mut [0]);
    Ok(namespace)
}
