//! What payload rules ask about this node, answered from its files.

use std::path::Path;

use triton_image::Images;
use triton_nictag::{NicTags, Provider};
use triton_types::{ImageUuid, InstanceUuid, JsonMap, Lifecycle, MachineFile, NicTag};
use triton_vmspec::{ImageStatus, NicTagStatus, OtherInstance, Verdict, World};

use crate::Instances;

/// The node as payload rules see it. Made for one validation.
pub struct NodeWorld<'a> {
    instances: &'a Instances,
    images: Option<Images>,
    tags: Option<NicTags>,
}

impl<'a> NodeWorld<'a> {
    /// Looks at the node now.
    pub fn new(instances: &'a Instances) -> Self {
        Self {
            images: Images::open(&instances.layout, instances.storage.clone()).ok(),
            tags: NicTags::load(&instances.layout).ok(),
            instances,
        }
    }
}

impl World for NodeWorld<'_> {
    fn default_pool(&self) -> String {
        self.instances.storage.pool().to_owned()
    }

    fn pool_exists(&self, pool: &str) -> bool {
        pool == self.instances.storage.pool()
    }

    fn image(&self, image: &ImageUuid) -> ImageStatus {
        let installed = self.images.as_ref().and_then(|images| images.get(*image).ok().flatten());
        installed.and_then(|installed| installed.typed()).map_or(ImageStatus::Absent, |manifest| ImageStatus::Installed(manifest.kind))
    }

    fn image_process(&self, image: &ImageUuid) -> Option<JsonMap> {
        let installed = self.images.as_ref()?.get(*image).ok().flatten()?;
        installed.manifest.get("tags")?.get("docker:config")?.as_object().cloned()
    }

    fn nic_tag(&self, tag: &NicTag) -> NicTagStatus {
        match self.tags.as_ref().and_then(|tags| tags.get(tag)) {
            None if self.tags.as_ref().is_some_and(|tags| tags.bridge(tag).is_some()) => NicTagStatus::Virtual,
            None => NicTagStatus::Unknown,
            Some(entry) if entry.provider != Provider::Nothing => NicTagStatus::Physical,
            Some(_) => NicTagStatus::Virtual,
        }
    }

    fn instance_exists(&self, uuid: &InstanceUuid) -> bool {
        self.instances.exists(*uuid)
    }

    fn other_instances(&self) -> Vec<OtherInstance> {
        let uuids = self.instances.uuids().unwrap_or_default();
        uuids.into_iter().filter_map(|uuid| self.instances.machines.read_alone(uuid).ok()).map(|file| self.other(&file)).collect()
    }

    fn path_exists(&self, path: &str) -> bool {
        Path::new(path).is_absolute() && self.instances.layout.at(path).exists()
    }
}

impl NodeWorld<'_> {
    /// An instance as others see it. Only one whose creation was never completed can have failed.
    pub(crate) fn other(&self, file: &MachineFile) -> OtherInstance {
        let uuid = file.config.uuid;
        let failed = file.lifecycle == Lifecycle::Provisioning && {
            let creating = self.instances.holder(uuid).is_some_and(|holder| holder.action == "create");
            !creating && !self.instances.run_of(uuid).1.has_init()
        };
        OtherInstance { uuid, failed, nics: file.config.nics.clone() }
    }
}

/// Checks a payload for `action` without changing anything (instances.md section 2.1).
pub fn validate(instances: &Instances, action: &str, brand: Option<&str>, payload: &JsonMap) -> Verdict {
    triton_vmspec::validate(action, brand, payload, &NodeWorld::new(instances))
}
