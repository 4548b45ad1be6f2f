//! Why an operation on images failed, with the codes and exit statuses of `imgadm`.

use triton_agent::chain;
use triton_files::{FileError, LockError};
use triton_headnode::HttpError;
use triton_storage::StorageError;
use triton_types::{ImageUuid, ManifestProblem};

use crate::{DownloadFailure, InstallFailure, OciError};

/// A source that could not be asked.
#[derive(Debug)]
pub struct SourceProblem {
    /// URL of the source.
    pub url: String,
    /// Why.
    pub error: HttpError,
}

/// An operation on images failed. Nothing was changed, except that complete or partial downloads are kept.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not on this node.
    #[error("image \"{uuid}\" was not found on zpool \"{pool}\"")]
    NotInstalled {
        /// The image.
        uuid: ImageUuid,
        /// The node's pool.
        pool: String,
    },
    /// No source has it in state `active`.
    #[error("an active image \"{0}\" was not found in image sources")]
    ActiveImageNotFound(ImageUuid),
    /// No source has it in any state.
    #[error("image \"{0}\" was not found in image sources")]
    ImageNotFound(ImageUuid),
    /// No image source is configured.
    #[error("no image sources are configured; add one with 'imgadm sources -a URL'")]
    NoSources,
    /// Sources could not be asked, and none of the others has the image.
    #[error("{}", describe(.0))]
    Sources(Vec<SourceProblem>),
    /// Not the URL or kind of an image source.
    #[error("{0}")]
    InvalidSource(String),
    /// The manifest cannot be used.
    #[error("invalid manifest: {}", list(.0))]
    Manifest(Vec<ManifestProblem>),
    /// The image's requirement is above this platform.
    #[error("image {uuid} requires platform {required} or later, this is {found}")]
    MinPlatform {
        /// The image.
        uuid: ImageUuid,
        /// What it requires.
        required: String,
        /// What this node has.
        found: String,
    },
    /// The image's requirement is below this platform.
    #[error("image {uuid} requires platform {required} or earlier, this is {found}")]
    MaxPlatform {
        /// The image.
        uuid: ImageUuid,
        /// What it requires.
        required: String,
        /// What this node has.
        found: String,
    },
    /// A file could not be had, or is not the one that the manifest describes.
    #[error("could not download file {file} of image {uuid}")]
    Download {
        /// The image.
        uuid: ImageUuid,
        /// Number of the file.
        file: usize,
        /// Why.
        source: Box<DownloadFailure>,
    },
    /// A file could not become an image.
    #[error("could not install image {uuid}")]
    Install {
        /// The image.
        uuid: ImageUuid,
        /// Why.
        source: Box<InstallFailure>,
    },
    /// The image's origin is not on this node.
    #[error("origin \"{origin}\" of image \"{uuid}\" is not installed")]
    OriginNotInstalled {
        /// The image.
        uuid: ImageUuid,
        /// Its origin.
        origin: ImageUuid,
    },
    /// An incremental image would have too many ancestors.
    #[error("the instance's image has {depth} images in its chain of origins, more than {max}: make an image that is not incremental")]
    OriginDepth {
        /// How many there are.
        depth: usize,
        /// How many there may be.
        max: usize,
    },
    /// It is on this node already.
    #[error("an image with uuid \"{0}\" is already installed")]
    AlreadyExists(ImageUuid),
    /// Instances or images are made from it.
    #[error("image \"{uuid}\" has dependent clones: {}", clones(names))]
    HasClones {
        /// The image.
        uuid: ImageUuid,
        /// Names of the clones, at least one.
        names: Vec<String>,
    },
    /// Another process works on the image for too long.
    #[error("image {uuid} is being worked on")]
    Locked {
        /// The image.
        uuid: ImageUuid,
        /// By whom.
        source: LockError,
    },
    /// The database has an image under the name of another.
    #[error("{path} describes image {found}, not {expected}")]
    DatabaseMismatch {
        /// The file.
        path: String,
        /// What its name says.
        expected: ImageUuid,
        /// What its content says.
        found: String,
    },
    /// It was asked to stop.
    #[error("the work on image {0} was cancelled")]
    Cancelled(ImageUuid),
    /// An OCI layout cannot be imported.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Datasets could not be used.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// A file of the database could not be used.
    #[error("the image database failed")]
    File(#[from] FileError),
    /// The machine refused something small.
    #[error("could not {0}")]
    System(&'static str, #[source] std::io::Error),
}

impl ImageError {
    /// The word that `imgadm` prints and cn-agent passes on (instances.md section 8).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotInstalled { .. } => "ImageNotInstalled",
            Self::ActiveImageNotFound(_) => "ActiveImageNotFound",
            Self::ImageNotFound(_) => "ImageNotFound",
            Self::NoSources => "NoSources",
            Self::Sources(problems) if problems.len() > 1 => "MultiError",
            Self::Sources(_) => "ClientError",
            Self::InvalidSource(_) => "UsageError",
            Self::Manifest(_) => "ManifestValidation",
            Self::MinPlatform { .. } => "MinPlatform",
            Self::MaxPlatform { .. } => "MaxPlatform",
            Self::Download { .. } => "DownloadError",
            Self::Install { source, .. } => source.code(),
            Self::Oci(error) => error.code(),
            Self::OriginNotInstalled { .. } => "OriginNotInstalled",
            Self::OriginDepth { .. } => "MaxOriginDepth",
            Self::AlreadyExists(_) => "ImageUuidAlreadyExists",
            Self::HasClones { .. } => "ImageHasDependentClones",
            Self::Locked { .. } => "LockError",
            Self::Cancelled(_) => "Cancelled",
            Self::Storage(StorageError::UnexpectedNumberOfSnapshots { .. }) => "UnexpectedNumberOfSnapshots",
            Self::Storage(StorageError::Unsupported { .. }) => "NotSupported",
            Self::DatabaseMismatch { .. } | Self::Storage(_) | Self::File(_) | Self::System(..) => "InternalError",
        }
    }

    /// `imgadm`'s exit status (section 8.8).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotInstalled { .. } | Self::OriginNotInstalled { .. } => 3,
            Self::InvalidSource(_) => 2,
            _ => 1,
        }
    }

    pub(crate) fn manifest(field: &str, message: impl Into<String>) -> Self {
        Self::Manifest(vec![ManifestProblem { field: field.to_owned(), code: "Invalid", message: Some(message.into()) }])
    }
}

fn list(problems: &[ManifestProblem]) -> String {
    let one = |problem: &ManifestProblem| match &problem.message {
        Some(message) => format!("{}: {message}", problem.field),
        None => format!("{} is missing", problem.field),
    };
    problems.iter().take(20).map(one).collect::<Vec<_>>().join("; ")
}

fn describe(problems: &[SourceProblem]) -> String {
    let one = |problem: &SourceProblem| format!("image source {}: {}", problem.url, chain(&problem.error));
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn clones(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} others...", others.len()),
    }
}
