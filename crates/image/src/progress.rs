//! What an import tells while it goes on.

use std::fmt;

use triton_types::ImageUuid;

/// Something worth a line. `Display` is the text for an operator, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another process imports the image; told once, after a second.
    WaitingForLock(ImageUuid),
    /// The image and those below it that will be imported, base last.
    Ancestry(Vec<ImageUuid>),
    /// A complete download of an earlier import is used.
    UsingDownload(ImageUuid),
    /// An earlier download has another size.
    UnexpectedSize(ImageUuid),
    /// An earlier download has another checksum.
    UnexpectedChecksum(ImageUuid),
    /// A download begins at `offset` of `size` bytes.
    Downloading {
        /// Which image.
        image: ImageUuid,
        /// Number of its file.
        file: usize,
        /// Bytes that an earlier attempt left.
        offset: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// A download broke off and is tried again.
    Retrying {
        /// Which image.
        image: ImageUuid,
        /// Why, with causes.
        reason: String,
    },
    /// Unpacking begins; `size` bytes of the file are to be read.
    Installing {
        /// Which image.
        image: ImageUuid,
        /// Bytes of its file.
        size: u64,
    },
    /// An image is complete.
    Installed {
        /// Which image.
        image: ImageUuid,
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForLock(image) => write!(f, "Waiting for image {image} import lock"),
            Self::Ancestry(images) => write!(f, "Importing {} images (origins first)", images.len()),
            Self::UsingDownload(image) => write!(f, "Image {image}: using pre-downloaded image file"),
            Self::UnexpectedSize(image) => {
                write!(f, "Image {image}: unexpected size for pre-downloaded image file, re-downloading")
            }
            Self::UnexpectedChecksum(image) => {
                write!(f, "Image {image}: unexpected checksum for pre-downloaded image file, re-downloading")
            }
            Self::Downloading { image, file: 0, offset: 0, .. } => write!(f, "Downloading image {image}"),
            Self::Downloading { image, file, offset: 0, .. } => write!(f, "Downloading image {image} file {file}"),
            Self::Downloading { image, file, offset, .. } => {
                write!(f, "Downloading image {image} file {file} from byte {offset} on")
            }
            Self::Retrying { image, reason } => write!(f, "Image {image}: the download broke off ({reason}), trying again"),
            Self::Installing { image, .. } => write!(f, "Installing image {image}"),
            Self::Installed { image, name, version } => write!(f, "Imported image {image} ({name}@{version})"),
        }
    }
}

/// Gets what an import tells. Called from the importing thread; must not block for long.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: &Event) {
        let _ = event;
    }

    /// `done` of `total` bytes of the current download or installation. Called for every piece: it must be cheap.
    fn bytes(&self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {}
