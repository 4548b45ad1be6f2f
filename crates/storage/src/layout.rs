//! Names inside a pool that both kinds share.

use std::path::{Path, PathBuf};

use triton_types::{ImageUuid, InstanceUuid};

/// What an image may have kept of the instance that it was made from; never part of a new instance (instances.md section 6.2).
pub(crate) const NOT_CLONED: [&str; 5] = ["config", "lastexited", "logs", "seed", VOLUMES];

/// Directory of an instance's private volumes, each named by its uuid.
pub(crate) const VOLUMES: &str = "volumes";

/// Directory of metadata, tags and routes of an instance (ruling 10: 0700).
pub(crate) const CONFIG: &str = "config";
/// What an instance keeps when its root is replaced (instances.md section 6.8), beside what is in the machine file.
pub(crate) const KEPT: [&str; 2] = [CONFIG, VOLUMES];
/// The guest's root.
pub(crate) const ROOT: &str = "root";
/// The snapshot of ZFS, or the file of `dir`, that makes a dataset an image.
pub(crate) const FINAL: &str = "@final";

/// Name of an image under import; agents look for it (instances.md section 8.5).
pub(crate) fn partial(image: ImageUuid) -> String {
    format!("{image}-partial")
}

/// The directory of a pool and what is below it.
#[derive(Clone, Debug)]
pub(crate) struct Places(PathBuf);

impl Places {
    pub(crate) fn new(pool: PathBuf) -> Self {
        Self(pool)
    }

    pub(crate) fn pool(&self) -> &Path {
        &self.0
    }

    pub(crate) fn zonepath(&self, instance: InstanceUuid) -> PathBuf {
        self.0.join(instance.to_string())
    }

    pub(crate) fn partial(&self, image: ImageUuid) -> PathBuf {
        self.0.join(partial(image))
    }
}
