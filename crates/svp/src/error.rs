//! What is no message.

/// Bytes that are no message, or a message that has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvpError {
    /// Another version.
    #[error("version {0} of SVP is not spoken here, only 1")]
    Version(u16),
    /// A body of more than [`crate::MOST`] bytes.
    #[error("a body of {0} bytes is too long")]
    TooLong(usize),
    /// The checksum is another one.
    #[error("the checksum is {said:08x}, that of the bytes {is:08x}")]
    Checksum {
        /// In the header.
        said: u32,
        /// Of what came.
        is: u32,
    },
    /// An operation that is none of version 1.
    #[error("operation {0} is unknown")]
    Operation(u16),
    /// A body that its operation does not have.
    #[error("operation {operation} cannot have a body of {size} bytes")]
    Size {
        /// The operation's number.
        operation: u16,
        /// Bytes of its body.
        size: usize,
    },
    /// A number within a body that says how to read the rest, and is unknown.
    #[error("{field} {value} is unknown")]
    Value {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u32,
    },
    /// A VLAN or a network that is none.
    #[error("{field} {value} is out of range")]
    Range {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: u32,
    },
}
