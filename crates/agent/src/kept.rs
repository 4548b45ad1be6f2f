//! Descriptors that the service manager keeps while a service restarts, whatever ended it (systemd's descriptor store: the unit's
//! `FileDescriptorStoreMax=`). Without a service manager that does so every call is nothing.
#![allow(unsafe_code)]

use std::{
    env,
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixDatagram},
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Lets the manager keep a duplicate of `descriptor` as `name`, in the place of what it kept by that name. It is kept also when its
/// other side is closed.
pub fn keep(name: &str, descriptor: BorrowedFd<'_>) {
    forget(name);
    // Watched, a terminal without clients would be thrown away.
    tell(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(descriptor));
}

/// Lets the manager close what it keeps as `name`.
pub fn forget(name: &str) {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
}

fn tell(text: &str, descriptor: Option<BorrowedFd<'_>>) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let manager = match socket.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            path => UnixAddr::new(path)?,
        };
        let raw = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let control: Vec<ControlMessage<'_>> = raw.iter().map(|raw| ControlMessage::ScmRights(raw)).collect();
        let ours = UnixDatagram::unbound()?;
        sendmsg(ours.as_raw_fd(), &[IoSlice::new(text.as_bytes())], &control, MsgFlags::MSG_NOSIGNAL, Some(&manager))?;
        Ok(())
    };
    if let Err(error) = send() {
        tracing::warn!(%error, text, "the service manager could not be told");
    }
}

/// What was kept when this process was started, by name; nothing at the second call.
pub fn take() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Vec::new();
    }
    let passed = match sd_notify::listen_fds_with_names() {
        Ok(passed) => passed,
        Err(error) => {
            tracing::debug!(%error, "no descriptors were passed to this process");
            return Vec::new();
        }
    };
    // SAFETY: the manager opened these for this process alone, and the flag above says that nobody has them yet.
    passed.map(|(raw, name)| (name, unsafe { OwnedFd::from_raw_fd(raw) })).collect()
}
