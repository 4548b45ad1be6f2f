//! Mounts of a running guest, changed from outside.

use std::{fs::File, io, os::fd::AsFd, path::Path};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        stat::Mode,
        statfs::{TMPFS_MAGIC, fstatfs},
    },
    unistd::fchdir,
};

/// Gives the tmpfs on `/tmp` of the guest whose init is `pid` the size `mib` MiB (instances.md section 7.1).
///
/// Done by a thread of its own, which enters the guest's mount namespace and ends there. What the guest has put at `/tmp`
/// meanwhile is not trusted: a link is not followed, and another file system is left alone.
///
/// # Errors
/// When `/tmp` is no tmpfs, or the kernel refuses: what is stored there may be larger.
pub(crate) fn resize_tmp(pid: i32, mib: u64) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let root = File::open(format!("/proc/{pid}/root"))?;
    std::thread::Builder::new()
        .name("resize-tmp".to_owned())
        .spawn(move || -> Result<(), Errno> {
            // Only then may one thread of many change its mount namespace.
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
            fchdir(root.as_fd())?;
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let tmp = open("tmp", flags, Mode::empty())?;
            if fstatfs(&tmp)?.filesystem_type() != TMPFS_MAGIC {
                return Err(Errno::EINVAL);
            }
            fchdir(tmp.as_fd())?;
            let none: Option<&Path> = None;
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(none, ".", none, flags, Some(format!("size={mib}m").as_str()))
        })?
        .join()
        .map_err(|_| io::Error::other("the thread ended early"))?
        .map_err(io::Error::from)
}
