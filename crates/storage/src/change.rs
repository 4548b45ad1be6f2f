//! Changes of an instance's dataset after its creation: properties, another image, a record for the archive.

use triton_types::{ImageUuid, InstanceUuid};

use crate::{CloneOptions, Storage, StorageError};

impl Storage {
    /// Makes the properties of the instance's dataset what `options` say; what is absent there becomes the default. `dir`
    /// records the quota. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the instance has no dataset, or ZFS refuses a value; then ZFS may have taken some of the others.
    pub fn configure(&self, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.backend().configure(instance, options)
    }

    /// Replaces the instance's root dataset by a clone of `image`, keeping `config/` and private volumes; its snapshots go with the
    /// old root (instances.md section 6.8). The instance is stopped and not held. A call that was killed is completed, or
    /// begun again, by calling it again with the same arguments.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] without the image or the instance; [`StorageError::is_busy`] while something is mounted
    /// below the instance; no space. The old root is then still the instance's.
    pub fn replace_root(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.backend().replace_root(instance, image, options)
    }

    /// All properties of the instance's dataset as text, for people (instances.md section 6.7, `zfs.dump`).
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn describe(&self, instance: InstanceUuid) -> Result<String, StorageError> {
        self.backend().describe(instance)
    }
}
