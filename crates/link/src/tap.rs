//! Links whose frames a program reads and writes.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

use tokio::io::unix::AsyncFd;

use crate::{Cause, LinkError, NetNs, links::check_name};

const DEVICE: &str = "/dev/net/tun";

/// The program's side of a link of Ethernet frames. The link itself stays when this is dropped, if it was made by [`Tap::ensure`];
/// without a program it has no carrier.
#[derive(Debug)]
pub struct Tap(AsyncFd<File>);

impl Tap {
    /// Makes the link `name` in `netns`, to stay until it is deleted. One that is there stays, whoever reads it.
    ///
    /// # Errors
    /// `Unsupported` or `NotFound` if the kernel has no such links; `Other(EINVAL)` if a link of another kind has the name.
    pub fn ensure(netns: &NetNs, name: &str) -> Result<(), LinkError> {
        let make = || {
            let file = attach(netns, name)?;
            // SAFETY: the descriptor is open, and the request takes a number, not a pointer.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) };
            if result < 0 { Err(Cause::Io(io::Error::last_os_error())) } else { Ok(()) }
        };
        match make() {
            // Somebody reads it: it is there.
            Err(Cause::Io(error)) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            result => result.map_err(|cause| LinkError::new("make the tap", name, cause)),
        }
    }

    /// Takes the program's side of the link `name` in `netns`; a link that is not there is made, and goes when this is dropped. To be
    /// called within a runtime.
    ///
    /// # Errors
    /// `Other(EBUSY)` if another program has it.
    pub fn open(netns: &NetNs, name: &str) -> Result<Self, LinkError> {
        let open = || {
            let file = attach(netns, name)?;
            // SAFETY: the file owns its descriptor, gives out the same one each time, and is neither closed nor taken out before the
            // registration ends with this value.
            let registered = unsafe { AsyncFd::register(file) };
            Ok(Self(registered.map_err(io::Error::from)?))
        };
        open().map_err(|cause: Cause| LinkError::new("open the tap", name, cause))
    }

    /// Waits for the next frame that was sent to the link, and puts it into `buffer`; its length. What is longer is cut.
    ///
    /// # Errors
    /// When the link was deleted.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|file| file.get_ref().read(buffer)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_) => {}
            }
        }
    }

    /// Makes a frame come out of the link. It is dropped, and this is an error, if the link is down or gone.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.0.get_ref().write(frame).map(drop)
    }
}

/// The program's side, not waiting for anything.
fn attach(netns: &NetNs, name: &str) -> Result<File, Cause> {
    check_name(name)?;
    // The links of a program's side are in the namespace in which the device was opened.
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(DEVICE);
    let file = netns.run(open)??;
    set_link(file.as_raw_fd(), name)?;
    Ok(file)
}

fn set_link(fd: RawFd, name: &str) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::c_short::try_from(flags).unwrap_or_default() },
    };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the request reads and writes one `ifreq`, which lives until the call returns; its name ends with a NUL.
    let result = unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
