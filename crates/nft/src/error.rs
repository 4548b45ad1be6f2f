//! Why a call to nf_tables failed.

use std::io;

/// A call that did not do what was asked. A failed commit changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The socket could not be opened or used.
    #[error("could not {action}")]
    Socket {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused one message of a batch; nothing of the batch was done.
    #[error("the kernel refused to {what}{}", hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Refused {
        /// The message that it refused.
        what: String,
        /// The kernel's explanation, if it gives one.
        hint: Option<String>,
        /// Its answer.
        source: io::Error,
    },
    /// The rules are no longer those that the batch was made for; to be looked at again.
    #[error("the rules were changed by somebody else meanwhile")]
    Changed,
    /// What came is no answer.
    #[error("the kernel's answer cannot be read: {0}")]
    Answer(&'static str),
}

impl NftError {
    pub(crate) fn socket(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { action, source }
    }

    /// True when the kernel says that something is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::ENOENT))
    }

    /// True when this kernel cannot do what was asked.
    pub fn is_unsupported(&self) -> bool {
        let codes = [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT, libc::EPROTO];
        matches!(self, Self::Refused { source, .. } | Self::Socket { source, .. } if source.raw_os_error().is_some_and(|code| codes.contains(&code)))
    }
}
