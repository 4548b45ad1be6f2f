//! Deleting images.

use triton_files::steps;
use triton_storage::StorageError;
use triton_types::ImageUuid;

use crate::{CancelToken, ImageError, Images, Quiet};

impl Images {
    /// Deletes an image: its data first, then its record, so that no record claims data that is being destroyed for good.
    ///
    /// # Errors
    /// [`ImageError::NotInstalled`]; [`ImageError::HasClones`] while instances or images are made from it.
    pub fn delete(&self, uuid: ImageUuid) -> Result<(), ImageError> {
        let _lock = self.lock(uuid, "delete", std::time::Duration::from_secs(600), &Quiet, &CancelToken::default())?;
        if !self.is_installed(uuid)? {
            // A record without data is what a killed deletion leaves.
            self.database.remove(uuid)?;
            return Err(self.not_installed(uuid));
        }
        let names = self.clone_names(uuid)?;
        if !names.is_empty() {
            return Err(ImageError::HasClones { uuid, names });
        }
        steps::reached("image.delete.checked");
        match self.storage.delete_image(uuid) {
            Ok(()) => {}
            Err(StorageError::InUse { by, .. }) => return Err(ImageError::HasClones { uuid, names: vec![by] }),
            Err(StorageError::NotFound { .. }) => return Err(self.not_installed(uuid)),
            Err(error) => return Err(error.into()),
        }
        steps::reached("image.delete.destroyed");
        self.database.remove(uuid)
    }

    /// Deletes images that nothing is made from, then their origins that nothing is made from any more.
    /// `deleted` is told of each, in that order; with `dry_run` of what would be.
    ///
    /// # Errors
    /// When one cannot be deleted; those before it are gone.
    pub fn vacuum(&self, dry_run: bool, mut deleted: impl FnMut(&crate::InstalledImage)) -> Result<(), ImageError> {
        let mut remaining = self.list()?;
        loop {
            let unused = |image: &crate::InstalledImage| image.clone_names.is_empty();
            let Some(position) = remaining.iter().position(unused) else { return Ok(()) };
            let image = remaining.swap_remove(position);
            if !dry_run {
                self.delete(image.uuid)?;
            }
            deleted(&image);
            // The names of clones end in the clone's uuid.
            let name = image.uuid.to_string();
            for other in &mut remaining {
                other.clone_names.retain(|clone| clone.rsplit('/').next() != Some(name.as_str()));
            }
        }
    }
}
