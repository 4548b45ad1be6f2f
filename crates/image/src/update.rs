//! Manifests of installed images, brought up to date with the sources (`imgadm update`, instances.md section 8.8).

use std::time::Duration;

use triton_types::{ImageManifest, ImageUuid};

use crate::{CancelToken, ImageError, Images, Quiet, Remote};

/// What became of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as the source says.
    UpToDate,
    /// Its manifest was written anew (or would have been).
    Changed,
    /// No source has it.
    NotOffered,
}

impl Images {
    /// Writes the manifest that a source has of an installed image, if it differs from the one that is known here. Only says
    /// what it would do when `dry_run`.
    ///
    /// # Errors
    /// [`ImageError::NotInstalled`]; when the sources cannot be asked; when what they say is not a manifest of this image.
    pub fn refresh(&self, uuid: ImageUuid, remote: &Remote, dry_run: bool) -> Result<Refreshed, ImageError> {
        let _lock = self.lock(uuid, "update", Duration::from_secs(60), &Quiet, &CancelToken::default())?;
        let known = self.get(uuid)?.ok_or_else(|| self.not_installed(uuid))?;
        let offered = match remote.show(uuid) {
            Ok(offered) => offered,
            Err(ImageError::ImageNotFound(_)) => return Ok(Refreshed::NotOffered),
            Err(error) => return Err(error),
        };
        let parsed = ImageManifest::from_value(&offered.manifest.clone().into()).map_err(ImageError::Manifest)?;
        if parsed.uuid != uuid {
            return Err(ImageError::manifest("uuid", format!("the source sent the manifest of {}", parsed.uuid)));
        }
        if known.manifest == offered.manifest && known.source.is_some() {
            return Ok(Refreshed::UpToDate);
        }
        if !dry_run {
            self.database.write(uuid, &offered.manifest, Some(&offered.source))?;
        }
        Ok(Refreshed::Changed)
    }
}
