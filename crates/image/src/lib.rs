//! Images on a compute node: import from image servers, install from files, list, delete; the database that remembers
//! manifests; the configuration of sources (instances.md section 8).
//!
//! Called by `imgadm`, by cn-agent's image tasks and by `triton-instance`. Synchronous: agents call it through
//! `spawn_blocking`. Owns `/var/imgadm`, the downloads and the import locks; datasets belong to `triton-storage`.
//!
//! Storage is the authority, the database a cache: an image is installed when its dataset is complete.

mod cancel;
mod create;
mod database;
mod decompress;
mod delete;
mod download;
mod error;
mod images;
mod import;
mod install;
mod installed;
mod oci;
mod progress;
mod remote;
mod requirements;
mod sources;
mod squashfs;
mod unpack;
mod update;

pub use cancel::CancelToken;
pub use create::{Compression, CreateOptions, CreateSource, CreatedImage, MAX_ORIGIN_DEPTH};
pub use download::{DownloadFailure, DownloadOptions};
pub use error::{ImageError, SourceProblem};
pub use images::Images;
pub use import::{ImportOptions, ImportOutcome, Imported};
pub use install::InstallFailure;
pub use installed::InstalledImage;
pub use oci::{OciError, split_reference};
pub use progress::{Event, Progress, Quiet};
pub use remote::{Offered, Ping, Remote};
pub use requirements::Platform;
pub use sources::{DEFAULT_SOURCE, Source};
pub use squashfs::SquashfsFailure;
pub use unpack::{UnpackError, UnpackFailure, unpack_tree};
pub use update::Refreshed;
