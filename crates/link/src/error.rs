//! What could not be done on which link, and why.

use std::{fmt, io};

use netlink_packet_core::DecodeError;

/// An operation on a link (or address, route, namespace) that failed. The text says what was attempted on what; the
/// source says why, in the kernel's words.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {subject}")]
pub struct LinkError {
    action: &'static str,
    subject: String,
    source: Cause,
}

/// Why an operation failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel refused it.
    Kernel {
        /// The positive error number.
        errno: i32,
        /// What the kernel added, if it did.
        detail: Option<String>,
    },
    /// The socket, the namespace or a file could not be used.
    Io(io::Error),
    /// The kernel did not answer in time.
    Timeout,
    /// The kernel's answer could not be read.
    Answer(String),
    /// What was asked for is not possible anywhere; says the rule.
    Invalid(&'static str),
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing to change (address, route, entry, namespace) is not there.
    NotFound,
    /// Another thing of that name is there.
    Exists,
    /// The kernel has no such facility.
    Unsupported,
    /// There is no such link.
    NoDevice,
    /// Another error number; 0 when the failure was not the kernel's.
    Other(i32),
}

impl LinkError {
    pub(crate) fn new(action: &'static str, subject: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self { action, subject: subject.into(), source: cause.into() }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    /// The reason.
    pub fn cause(&self) -> &Cause {
        &self.source
    }
}

impl Cause {
    pub(crate) fn kernel(errno: i32) -> Self {
        Self::Kernel { errno, detail: None }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        let errno = match self {
            Self::Kernel { errno, .. } => *errno,
            Self::Io(error) => error.raw_os_error().unwrap_or(0),
            Self::Timeout => libc::ETIMEDOUT,
            Self::Answer(_) => libc::EBADMSG,
            Self::Invalid(_) => libc::EINVAL,
        };
        match errno {
            libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL => ErrorKind::NotFound,
            libc::EEXIST => ErrorKind::Exists,
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => ErrorKind::Unsupported,
            libc::ENODEV => ErrorKind::NoDevice,
            errno => ErrorKind::Other(errno),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { errno, detail: None } => fmt::Display::fmt(&io::Error::from_raw_os_error(*errno), f),
            Self::Kernel { errno, detail: Some(detail) } => write!(f, "{}: {detail}", io::Error::from_raw_os_error(*errno)),
            Self::Io(error) => fmt::Display::fmt(error, f),
            Self::Timeout => f.write_str("the kernel did not answer in time"),
            Self::Answer(text) => write!(f, "the kernel's answer cannot be read: {text}"),
            Self::Invalid(rule) => f.write_str(rule),
        }
    }
}

impl std::error::Error for Cause {}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<nix::errno::Errno> for Cause {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<DecodeError> for Cause {
    fn from(error: DecodeError) -> Self {
        Self::Answer(error.to_string())
    }
}
