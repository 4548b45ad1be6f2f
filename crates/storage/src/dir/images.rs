//! Images in directories.

use std::{fs, io, path::PathBuf};

use triton_files::{steps::reached, write_atomic};
use triton_types::ImageUuid;

use super::{
    DirPool,
    dataset::{Dataset, FILE},
    pool::{is_image, make_directory, rename_new, sync_all, sync_directory},
};
use crate::{
    ImageDataset, StorageError,
    layout::{FINAL, ROOT},
    tree::{copy_tree, measure},
};

impl DirPool {
    pub(super) fn require_image(&self, image: ImageUuid) -> Result<PathBuf, StorageError> {
        self.check_marker()?;
        let path = self.image(image);
        if is_image(&path) { Ok(path) } else { Err(StorageError::NotFound { what: "image", name: image.to_string() }) }
    }

    pub(super) fn list_images(&self) -> Result<Vec<ImageDataset>, StorageError> {
        let found = self.entries(|name, path| Some((name.parse::<ImageUuid>().ok().filter(|_| is_image(path))?, path.to_owned())))?;
        let mut images = Vec::new();
        for (uuid, path) in found {
            let dataset = Dataset::read(&path)?;
            images.push(ImageDataset {
                uuid,
                used_bytes: dataset.used_bytes.unwrap_or(0),
                origin: dataset.origin,
                created_at: dataset.created_at,
            });
        }
        images.sort_by_key(|image| image.uuid);
        Ok(images)
    }

    pub(super) fn begin(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<PathBuf, StorageError> {
        self.check_marker()?;
        if self.image(image).exists() {
            return Err(StorageError::Exists { what: "image", name: image.to_string() });
        }
        let origin_path = origin.map(|origin| self.require_image(origin)).transpose()?;
        let partial = self.places.partial(image);
        self.bury(&partial)?;
        reached("storage.image.begun");
        make_directory(&partial, 0o700)?;
        reached("storage.image.partial-made");
        let fill = || -> Result<(), StorageError> {
            match &origin_path {
                Some(path) => drop(copy_tree(path, &partial, &[FINAL, FILE])?),
                None => make_directory(&partial.join(ROOT), 0o755)?,
            }
            Ok(Dataset::new(origin).write(&partial)?)
        };
        fill().inspect_err(|_| drop(self.bury(&partial)))?;
        reached("storage.image.partial-filled");
        Ok(partial)
    }

    pub(super) fn commit(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.check_marker()?;
        let (partial, place) = (self.places.partial(image), self.image(image));
        let root = match fs::symlink_metadata(partial.join(ROOT)) {
            Ok(found) => found.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !partial.exists() => {
                return Err(StorageError::NotFound { what: "partial image", name: image.to_string() });
            }
            Err(_) => false,
        };
        if !root {
            return Err(StorageError::NoRoot(image.to_string()));
        }
        let used_bytes = Some(measure(&partial)?);
        Dataset { used_bytes, ..Dataset::read(&partial)? }.write(&partial)?;
        sync_all(&partial)?;
        reached("storage.image.synced");
        write_atomic(&partial.join(FINAL), b"", 0o600)?;
        reached("storage.image.final");
        rename_new(&partial, &place).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::Exists { what: "image", name: image.to_string() },
            _ => error.into(),
        })?;
        sync_directory(self.path())?;
        reached("storage.image.committed");
        Ok(())
    }

    pub(super) fn clones(&self, image: ImageUuid) -> Result<Vec<String>, StorageError> {
        let found = self.entries(|name, path| Some((name.parse::<ImageUuid>().ok()?.to_string(), path.to_owned())))?;
        let mut clones = Vec::new();
        for (name, path) in found {
            if Dataset::read(&path)?.origin == Some(image) {
                clones.push(name);
            }
        }
        clones.sort();
        Ok(clones)
    }

    pub(super) fn delete(&self, image: ImageUuid) -> Result<(), StorageError> {
        let path = self.require_image(image)?;
        let clones = self.clones(image)?;
        if !clones.is_empty() {
            return Err(StorageError::InUse { what: "image", name: image.to_string(), by: clones.join(", ") });
        }
        self.bury(&path).map(drop)
    }
}
