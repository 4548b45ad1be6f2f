//! What can be wrong with an OCI layout.

use std::path::PathBuf;

/// An OCI layout cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// It is none.
    #[error("{} is no OCI image layout: {reason}", path.display())]
    NotALayout {
        /// What was given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It could not be read.
    #[error("could not read {what} of the OCI layout")]
    Read {
        /// What of it.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A copy of a layer could not be written.
    #[error("could not write a copy of a layer")]
    Write(#[source] std::io::Error),
    /// A document is not as it should be.
    #[error("{what} of the OCI layout is malformed: {reason}")]
    Malformed {
        /// Which document.
        what: String,
        /// Why.
        reason: String,
    },
    /// A blob is not in the layout.
    #[error("the OCI layout has no blob {0}")]
    NoBlob(String),
    /// A blob has another size than its descriptor says.
    #[error("blob {digest} has {found} bytes, its descriptor says {expected}")]
    Size {
        /// Which.
        digest: String,
        /// What the descriptor says.
        expected: u64,
        /// What it has; one more than it says when it has more.
        found: u64,
    },
    /// A blob has another content than its name says.
    #[error("blob {expected} has content with digest {found}")]
    Checksum {
        /// Its name.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Something is larger than anything sensible.
    #[error("{what} of the OCI layout has {size} bytes, at most {most} are allowed")]
    TooLarge {
        /// What.
        what: String,
        /// Bytes.
        size: u64,
        /// Bytes.
        most: u64,
    },
    /// The tag is not there.
    #[error("the OCI layout has no image {wanted:?}; it has: {}", list(.found))]
    NoTag {
        /// What was asked for; empty for any.
        wanted: String,
        /// The tags that are there.
        found: Vec<String>,
    },
    /// No tag was given, and there are several.
    #[error("the OCI layout has several images, name one as PATH:TAG; it has: {}", list(.0))]
    SeveralImages(Vec<String>),
    /// The image is for other machines.
    #[error("the image is for {found}, this node is {expected}")]
    Platform {
        /// This node.
        expected: String,
        /// What the image is for.
        found: String,
    },
    /// A media type that is not known.
    #[error("media type {0:?} is not supported")]
    MediaType(String),
    /// An image of nothing.
    #[error("the image has no layers")]
    NoLayers,
    /// More layers than a chain of origins may have.
    #[error("the image has {found} layers, at most {most} are allowed: squash it")]
    TooManyLayers {
        /// How many.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// It was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl OciError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotALayout { .. } | Self::Malformed { .. } | Self::NoLayers => "InvalidOciLayout",
            Self::NoBlob(_) | Self::Size { .. } | Self::Checksum { .. } => "ChecksumError",
            Self::NoTag { .. } | Self::SeveralImages(_) => "ImageNotFound",
            Self::Platform { .. } | Self::MediaType(_) => "NotSupported",
            Self::TooLarge { .. } | Self::TooManyLayers { .. } => "ImageTooLarge",
            Self::Cancelled => "Cancelled",
            Self::Read { .. } | Self::Write(_) => "InternalError",
        }
    }
}

fn list(tags: &[String]) -> String {
    if tags.is_empty() {
        return "none with a tag".to_owned();
    }
    let mut text = tags.iter().take(20).map(|tag| tag.chars().take(128).collect::<String>()).collect::<Vec<_>>().join(", ");
    if tags.len() > 20 {
        text.push_str(", ...");
    }
    text
}
