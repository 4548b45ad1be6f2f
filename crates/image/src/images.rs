//! [`Images`]: the images of one node.

use std::sync::Arc;

use serde_json::Value;
use triton_files::Layout;
use triton_storage::{ImageDataset, Storage};
use triton_types::{ImageUuid, JsonMap};

use crate::{ImageError, InstalledImage, Source, database::Database, sources::Configuration};

/// The images of one node. May be shared between threads; imports of one image wait for each other by its lock.
#[derive(Debug)]
pub struct Images {
    pub(crate) layout: Layout,
    pub(crate) storage: Arc<Storage>,
    pub(crate) database: Database,
}

impl Images {
    /// The images in `storage`. Makes the directories that imports need.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn open(layout: &Layout, storage: Arc<Storage>) -> Result<Self, ImageError> {
        layout.prepare()?;
        Ok(Self { layout: layout.clone(), database: Database::new(layout, storage.pool()), storage })
    }

    /// Where datasets are kept.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Whether the image is installed: its dataset is complete.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn is_installed(&self, uuid: ImageUuid) -> Result<bool, ImageError> {
        Ok(self.storage.image_exists(uuid)?)
    }

    /// Whether an import of the image is under way in any process, or was killed (instances.md section 8.5).
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn import_in_progress(&self, uuid: ImageUuid) -> Result<bool, ImageError> {
        Ok(self.storage.image_partial_exists(uuid)?)
    }

    /// An installed image; `None` when it is not installed.
    ///
    /// # Errors
    /// When the pool or the database cannot be read.
    pub fn get(&self, uuid: ImageUuid) -> Result<Option<InstalledImage>, ImageError> {
        if !self.storage.image_exists(uuid)? {
            return Ok(None);
        }
        let dataset = self.storage.images()?.into_iter().find(|dataset| dataset.uuid == uuid);
        dataset.map(|dataset| self.describe(&dataset)).transpose()
    }

    /// All installed images, in the order of their uuids.
    ///
    /// # Errors
    /// When the pool cannot be read. A broken file of the database costs that image its manifest, not the list.
    pub fn list(&self) -> Result<Vec<InstalledImage>, ImageError> {
        let mut images = Vec::new();
        for dataset in self.storage.images()? {
            images.push(match self.describe(&dataset) {
                Err(error @ ImageError::DatabaseMismatch { .. }) => {
                    tracing::error!(uuid = %dataset.uuid, %error, "the image is listed without its manifest");
                    self.bare(&dataset, None)?
                }
                other => other?,
            });
        }
        images.sort_by_key(|image| image.uuid);
        Ok(images)
    }

    /// The image's chain of origins as far as it is installed, the image itself first.
    ///
    /// # Errors
    /// [`ImageError::NotInstalled`].
    pub fn ancestry(&self, uuid: ImageUuid) -> Result<Vec<InstalledImage>, ImageError> {
        let mut chain: Vec<InstalledImage> = Vec::new();
        let mut next = Some(uuid);
        while let Some(uuid) = next {
            let looped = chain.iter().any(|image| image.uuid == uuid);
            match self.get(uuid)? {
                Some(image) if !looped && chain.len() < crate::import::MAX_ANCESTRY => {
                    next = image.text("origin").parse().ok();
                    chain.push(image);
                }
                None if chain.is_empty() => return Err(self.not_installed(uuid)),
                _ => break,
            }
        }
        Ok(chain)
    }

    fn describe(&self, dataset: &ImageDataset) -> Result<InstalledImage, ImageError> {
        self.bare(dataset, self.database.read(dataset.uuid)?)
    }

    fn bare(&self, dataset: &ImageDataset, record: Option<crate::database::Record>) -> Result<InstalledImage, ImageError> {
        let clone_names = self.clone_names(dataset.uuid)?;
        let (manifest, source) = match record {
            Some(record) => (record.manifest, record.source),
            None => (JsonMap::from_iter([("uuid".to_owned(), Value::from(dataset.uuid.to_string()))]), None),
        };
        Ok(InstalledImage {
            manifest,
            zpool: self.storage.pool().to_owned(),
            source,
            clones: clone_names.len(),
            clone_names,
            uuid: dataset.uuid,
            used_bytes: dataset.used_bytes,
        })
    }

    /// The datasets made from the image, as `<pool>/<name>`.
    pub(crate) fn clone_names(&self, uuid: ImageUuid) -> Result<Vec<String>, ImageError> {
        let full = |name: String| if name.contains('/') { name } else { format!("{}/{name}", self.storage.pool()) };
        Ok(self.storage.image_clones(uuid)?.into_iter().map(full).collect())
    }

    pub(crate) fn not_installed(&self, uuid: ImageUuid) -> ImageError {
        ImageError::NotInstalled { uuid, pool: self.storage.pool().to_owned() }
    }

    /// The configured image sources, in the order in which they are asked.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn sources(layout: &Layout) -> Result<Vec<Source>, ImageError> {
        Configuration::new(layout).sources()
    }

    /// Adds a source behind the others; false when it is there already.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn add_source(layout: &Layout, source: Source) -> Result<bool, ImageError> {
        layout.prepare()?;
        Configuration::new(layout).add(source)
    }

    /// Removes a source; false when there is none with this URL.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn delete_source(layout: &Layout, url: &str) -> Result<bool, ImageError> {
        layout.prepare()?;
        Configuration::new(layout).remove(url)
    }

    /// Replaces all sources; false when they are the same already.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn replace_sources(layout: &Layout, sources: Vec<Source>) -> Result<bool, ImageError> {
        layout.prepare()?;
        Configuration::new(layout).replace(sources)
    }
}
