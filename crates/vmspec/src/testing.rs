//! A compute node for tests: pool `zones`, one image of each kind, a few tags, and whatever instances a test adds.

use serde_json::{Value, json};
use triton_types::{ImageType, ImageUuid, InstanceUuid, JsonMap, NicTag, Timestamp, VmConfig};

use crate::{Created, ImageStatus, NicTagStatus, OtherInstance, PayloadError, Updated, World, create, update};

pub(crate) const LX: &str = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";
pub(crate) const LXD: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";
pub(crate) const ZONE: &str = "11111111-7a0d-4f9b-8a44-6f2f0c9b7d10";
pub(crate) const ZVOL: &str = "22222222-7a0d-4f9b-8a44-6f2f0c9b7d10";
pub(crate) const OCI: &str = "55555555-7a0d-4f9b-8a44-6f2f0c9b7d10";
pub(crate) const LAYER: &str = "44444444-7a0d-4f9b-8a44-6f2f0c9b7d10";
pub(crate) const UUID: &str = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";

#[derive(Default)]
pub(crate) struct TestWorld {
    pub others: Vec<OtherInstance>,
    pub exists: Vec<InstanceUuid>,
}

impl World for TestWorld {
    fn default_pool(&self) -> String {
        "zones".to_owned()
    }
    fn pool_exists(&self, pool: &str) -> bool {
        pool == "zones"
    }
    fn image(&self, image: &ImageUuid) -> ImageStatus {
        match image.to_string().as_str() {
            LX => ImageStatus::Installed(ImageType::LxDataset),
            LXD => ImageStatus::Installed(ImageType::Lxd),
            OCI | LAYER => ImageStatus::Installed(ImageType::Docker),
            ZONE => ImageStatus::Installed(ImageType::ZoneDataset),
            ZVOL => ImageStatus::Installed(ImageType::Zvol),
            _ => ImageStatus::Absent,
        }
    }
    fn image_process(&self, image: &ImageUuid) -> Option<JsonMap> {
        (image.to_string() == OCI).then(|| object(json!({"Cmd": ["/app"]})))
    }
    fn nic_tag(&self, tag: &NicTag) -> NicTagStatus {
        match tag.as_str() {
            "admin" | "external" => NicTagStatus::Physical,
            "stub0" | "sdc_overlay/1234" => NicTagStatus::Virtual,
            _ => NicTagStatus::Unknown,
        }
    }
    fn instance_exists(&self, uuid: &InstanceUuid) -> bool {
        self.exists.contains(uuid)
    }
    fn other_instances(&self) -> Vec<OtherInstance> {
        self.others.clone()
    }
    fn path_exists(&self, path: &str) -> bool {
        path.starts_with("/data")
    }
}

pub(crate) fn object(value: Value) -> JsonMap {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

/// A create payload with what is required, and `more`.
pub(crate) fn payload(more: Value) -> JsonMap {
    let mut payload = object(json!({"brand": "lx", "image_uuid": LX, "uuid": UUID}));
    payload.extend(object(more));
    payload
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(1_772_360_551_412)
}

pub(crate) fn try_create(more: Value) -> Result<Created, PayloadError> {
    create(payload(more), &TestWorld::default(), now())
}

pub(crate) fn created(more: Value) -> VmConfig {
    try_create(more).unwrap().config
}

pub(crate) fn try_update(existing: &VmConfig, change: Value) -> Result<Updated, PayloadError> {
    update(existing, object(change), &TestWorld::default())
}

pub(crate) fn updated(existing: &VmConfig, change: Value) -> VmConfig {
    try_update(existing, change).unwrap().config
}

/// The configuration as it would be stored.
pub(crate) fn json(config: &VmConfig) -> Value {
    serde_json::to_value(config).unwrap()
}
