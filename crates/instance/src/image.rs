//! Images made from instances: the instance's part of it (instances.md section 8.9).

use triton_image::{CancelToken, CreateOptions, CreateSource, CreatedImage, ImageError, Images, Progress};
use triton_types::{InstanceUuid, Lifecycle, Ownership};

use crate::{InstanceError, Instances, instances::PATIENCE};

/// An image was not made from an instance.
#[derive(Debug, thiserror::Error)]
pub enum CreateImageError {
    /// The instance cannot be had.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// It is not there.
    #[error("VM {0} does not exist")]
    NotFound(InstanceUuid),
    /// It runs, or is not complete.
    #[error("VM {uuid} must be stopped, it is {state}")]
    NotStopped {
        /// The instance.
        uuid: InstanceUuid,
        /// Its state.
        state: String,
    },
    /// What is made has an init; the process of a Docker image would be lost.
    #[error("VM {0} runs a process of an image of type docker: build its image where that was built")]
    Docker(InstanceUuid),
    /// The image's own part failed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl CreateImageError {
    /// The word that `imgadm` prints and cn-agent passes on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "VmNotFound",
            Self::NotStopped { .. } => "VmNotStopped",
            Self::Docker(_) => "NotSupported",
            Self::Instance(error) => error.code().unwrap_or("InternalError"),
            Self::Image(error) => error.code(),
        }
    }
}

impl Instances {
    /// Makes an image from a stopped instance, which stays locked and stopped meanwhile.
    ///
    /// # Errors
    /// [`CreateImageError::NotStopped`] and those of [`Images::create`].
    pub fn create_image(
        &self,
        uuid: InstanceUuid,
        images: &Images,
        options: &CreateOptions,
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<CreatedImage, CreateImageError> {
        let _lock = self.lock(uuid, "create-image", PATIENCE).map_err(|error| match error {
            InstanceError::NotFound { uuid } => CreateImageError::NotFound(uuid),
            other => other.into(),
        })?;
        self.heal(uuid)?;
        let machine = self.machines.read(uuid)?;
        let (_, presence) = self.run_of(uuid);
        if machine.file.lifecycle != Lifecycle::Installed || presence != crate::Presence::Stopped {
            return Err(CreateImageError::NotStopped { uuid, state: self.load(uuid)?.state.to_string() });
        }
        let config = &machine.file.config;
        if config.docker {
            return Err(CreateImageError::Docker(uuid));
        }
        let storage = machine.file.storage.filter(|storage| storage.ownership == Some(Ownership::Shifted));
        let source = CreateSource {
            instance: uuid,
            brand: config.brand.as_str(),
            image: config.image_uuid,
            ids: storage.map(|storage| storage.ids),
        };
        Ok(images.create(source, options, cancel, progress)?)
    }
}
