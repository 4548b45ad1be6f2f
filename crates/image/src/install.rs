//! Turning files into an installed image.

mod content;
mod uncompressed;

pub(crate) use uncompressed::KEY as UNCOMPRESSED_DIGEST;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use triton_files::steps;
use triton_storage::StorageError;
use triton_types::{ImageManifest, ImageType, ImageUuid, JsonMap};

use crate::{CancelToken, Event, ImageError, Images, Progress, SquashfsFailure, UnpackError, download};

/// Files could not become an image.
#[derive(Debug, thiserror::Error)]
pub enum InstallFailure {
    /// The pool is full. What was unpacked was removed.
    #[error("no space is left in pool {pool}; what was unpacked has been removed")]
    NoSpace {
        /// The pool.
        pool: String,
    },
    /// Datasets could not be made.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The file system image could not be unpacked.
    #[error(transparent)]
    Squashfs(#[from] SquashfsFailure),
    /// The file could not be read or decompressed.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The content is another one than the image's configuration names.
    #[error("the unpacked content has digest {found}, the image names {expected}")]
    Content {
        /// What the image names.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The content is not of a kind that can be installed here.
    #[error("{0}")]
    Unsupported(String),
}

impl InstallFailure {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Storage(StorageError::UnexpectedNumberOfSnapshots { .. }) => "UnexpectedNumberOfSnapshots",
            Self::Unsupported(_) | Self::Storage(StorageError::Unsupported { .. }) => "NotSupported",
            Self::Content { .. } => "ChecksumError",
            _ => "InternalError",
        }
    }

    fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Storage(error) => error.is_no_space(),
            Self::Unpack(error) => error.is_no_space(),
            Self::Squashfs(error) => error.is_no_space(),
            Self::Read { .. } | Self::Unsupported(_) | Self::Content { .. } => false,
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Self::Unpack(error) => error.is_cancelled(),
            Self::Squashfs(SquashfsFailure::Cancelled) => true,
            _ => false,
        }
    }
}

/// Refuses manifests that can never be installed here, before anything is downloaded.
pub(crate) fn check_installable(manifest: &ImageManifest) -> Result<(), ImageError> {
    if manifest.kind == ImageType::Docker {
        return Err(ImageError::manifest("type", "docker images come to this node by 'imgadm import-oci' only"));
    }
    if manifest.files.is_empty() {
        return Err(ImageError::manifest("files", "the image has no file"));
    }
    Ok(())
}

impl Images {
    /// Installs an image from local files: `files[n]` is what the manifest's `files[n]` describes.
    ///
    /// # Errors
    /// [`ImageError::AlreadyExists`], [`ImageError::OriginNotInstalled`]; [`ImageError::Download`] when a file's size or
    /// checksum is not that of the manifest.
    pub fn install(
        &self,
        manifest: &Value,
        files: &[PathBuf],
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<ImageUuid, ImageError> {
        let raw = manifest.as_object().cloned().unwrap_or_default();
        let manifest = ImageManifest::from_value(manifest).map_err(ImageError::Manifest)?;
        check_installable(&manifest)?;
        let uuid = manifest.uuid;
        if files.len() != manifest.files.len() {
            let message = format!("the manifest has {} files, {} were given", manifest.files.len(), files.len());
            return Err(ImageError::manifest("files", message));
        }
        let _lock = self.lock(uuid, "install", Duration::from_secs(3600), progress, cancel)?;
        if self.is_installed(uuid)? {
            return Err(ImageError::AlreadyExists(uuid));
        }
        if let Some(origin) = manifest.origin
            && !self.is_installed(origin)?
        {
            return Err(ImageError::OriginNotInstalled { uuid, origin });
        }
        for (index, (path, file)) in files.iter().zip(&manifest.files).enumerate() {
            let failure = |source| ImageError::Download { uuid, file: index, source: Box::new(source) };
            match download::check(path, file, &mut |_| !cancel.is_cancelled()) {
                Ok(None) => {}
                Ok(Some(wrong)) => return Err(failure(wrong)),
                Err(_) if cancel.is_cancelled() => return Err(ImageError::Cancelled(uuid)),
                Err(source) => return Err(failure(download::DownloadFailure::File { path: path.clone(), source })),
            }
        }
        self.install_files(&manifest, &raw, None, files, cancel, progress)?;
        Ok(uuid)
    }

    /// Installs checked files. The record is written before the data, so that complete data is never without a manifest; a
    /// failure removes both. The caller holds the image's lock.
    pub(crate) fn install_files(
        &self,
        manifest: &ImageManifest,
        raw: &JsonMap,
        source: Option<&str>,
        files: &[PathBuf],
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let uuid = manifest.uuid;
        // Left by a killed import: under the lock nobody can be working on it.
        self.storage.discard_partial(uuid)?;
        steps::reached("image.install.swept");
        self.database.write(uuid, raw, source)?;
        steps::reached("image.install.recorded");
        progress.event(&Event::Installing { image: uuid, size: manifest.files.last().map_or(0, |file| file.size) });
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let result = content::fill(&self.storage, manifest, &paths, cancel, progress).and_then(|()| {
            steps::reached("image.install.filled");
            if cancel.is_cancelled() {
                return Err(SquashfsFailure::Cancelled.into());
            }
            Ok(self.storage.commit_image(uuid)?)
        });
        if let Err(failure) = result {
            self.undo(uuid);
            return Err(match failure {
                failure if failure.is_cancelled() => ImageError::Cancelled(uuid),
                failure if failure.is_no_space() => {
                    let full = InstallFailure::NoSpace { pool: self.storage.pool().to_owned() };
                    ImageError::Install { uuid, source: Box::new(full) }
                }
                failure => ImageError::Install { uuid, source: Box::new(failure) },
            });
        }
        steps::reached("image.install.committed");
        progress.event(&Event::Installed { image: uuid, name: manifest.name.clone(), version: manifest.version.clone() });
        Ok(())
    }

    /// Removes the data, then the record. What cannot be removed is logged: the next import of the image sweeps it.
    fn undo(&self, uuid: ImageUuid) {
        if let Err(error) = self.storage.discard_partial(uuid) {
            tracing::error!(%uuid, error = %triton_agent::chain(&error), "a partial image could not be removed");
        }
        if !matches!(self.storage.image_exists(uuid), Ok(false)) {
            return;
        }
        if let Err(error) = self.database.remove(uuid) {
            tracing::error!(%uuid, error = %triton_agent::chain(&error), "the record of a failed image could not be removed");
        }
    }
}
