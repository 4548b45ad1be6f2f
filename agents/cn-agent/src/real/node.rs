//! Instances and images through the model's crates.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use triton_agent::chain;
use triton_files::Layout;
use triton_image::{CancelToken, ImportOptions, Platform, Quiet};
use triton_instance::{InstanceError, Instances, to_json};
use triton_types::{ImageUuid, InstanceUuid, JsonMap};

use crate::{GuestPlace, ImageRequest, Images, MachineError, Machines, StopOptions};

/// The node below a layout. It may not be set up yet when the agent starts (setting it up is a task of this agent's), so storage is
/// opened at first use, and again until that succeeds.
#[derive(Debug)]
pub struct Node {
    layout: Layout,
    platform: Platform,
    opened: Mutex<Option<Opened>>,
}

#[derive(Clone, Debug)]
struct Opened {
    instances: Arc<Instances>,
    images: Arc<triton_image::Images>,
}

impl Node {
    /// The node below `layout`, which runs `platform`.
    pub fn new(layout: &Layout, platform: Platform) -> Self {
        Self { layout: layout.clone(), platform, opened: Mutex::new(None) }
    }

    fn opened(&self) -> Result<Opened, MachineError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let instances = Arc::new(Instances::open(&self.layout).map_err(|error| instance_error(&error))?);
        let images = triton_image::Images::open(&self.layout, instances.storage().clone()).map_err(|error| image_error(&error))?;
        Ok(opened.insert(Opened { instances, images: Arc::new(images) }).clone())
    }

    /// Where its files are.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its instances.
    ///
    /// # Errors
    /// When it is not set up.
    pub fn instances(&self) -> Result<Arc<Instances>, MachineError> {
        Ok(self.opened()?.instances)
    }

    /// Its images.
    ///
    /// # Errors
    /// When it is not set up.
    pub fn images(&self) -> Result<Arc<triton_image::Images>, MachineError> {
        Ok(self.opened()?.images)
    }
}

/// Hands a cancellation from the agent's kind of token to the model's, until it is dropped.
pub(super) struct Bridge(Option<tokio::task::JoinHandle<()>>);

impl Bridge {
    pub(super) fn new(from: &CancellationToken, to: &CancelToken) -> Self {
        let (from, to) = (from.clone(), to.clone());
        let bridge = async move {
            from.cancelled().await;
            to.cancel();
        };
        Self(tokio::runtime::Handle::try_current().ok().map(|runtime| runtime.spawn(bridge)))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(bridge) = &self.0 {
            bridge.abort();
        }
    }
}

fn instance_error(error: &InstanceError) -> MachineError {
    MachineError::new(triton_instance::chain(error), error.code())
}

pub(super) fn image_error(error: &triton_image::ImageError) -> MachineError {
    MachineError::new(chain(error).to_string(), Some(error.code()))
}

impl Machines for Node {
    fn exists(&self, uuid: InstanceUuid) -> Result<bool, MachineError> {
        let instances = self.instances()?;
        // Invariant 1: without the store, "no" would mean nothing.
        self.layout.check_store().map_err(|error| MachineError::new(chain(&error).to_string(), None))?;
        Ok(instances.exists(uuid))
    }

    fn load(&self, uuid: InstanceUuid, include_dni: bool) -> Result<Value, MachineError> {
        let missing = || MachineError::new(format!("vmadm load {uuid} failed: No such zone"), Some("VmNotFound"));
        let vm = match self.instances()?.load(uuid) {
            Err(InstanceError::NotFound { .. }) => return Err(missing()),
            other => to_json(&other.map_err(|error| instance_error(&error))?),
        };
        let hidden = vm.get("do_not_inventory") == Some(&Value::Bool(true));
        if hidden && !include_dni { Err(missing()) } else { Ok(Value::Object(vm)) }
    }

    fn create(&self, payload: JsonMap) -> Result<(), MachineError> {
        self.instances()?.create(payload).map(drop).map_err(|error| instance_error(&error))
    }

    fn update(&self, uuid: InstanceUuid, update: JsonMap) -> Result<(), MachineError> {
        self.instances()?.update(uuid, update).map(drop).map_err(|error| instance_error(&error))
    }

    fn list(&self) -> Result<Vec<Value>, MachineError> {
        let all = self.instances()?.list_json(false).map_err(|error| instance_error(&error))?;
        Ok(all.into_iter().map(Value::Object).collect())
    }

    fn create_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.instances()?.create_snapshot(uuid, name).map_err(|error| instance_error(&error))
    }

    fn delete_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.instances()?.delete_snapshot(uuid, name).map_err(|error| instance_error(&error))
    }

    fn rollback_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.instances()?.rollback_snapshot(uuid, name, triton_instance::RollbackOptions::default()).map_err(|error| instance_error(&error))
    }

    fn reprovision(&self, uuid: InstanceUuid, payload: &JsonMap) -> Result<(), MachineError> {
        self.instances()?.reprovision(uuid, payload).map_err(|error| instance_error(&error))
    }

    fn start(&self, uuid: InstanceUuid) -> Result<(), MachineError> {
        self.instances()?.start(uuid).map_err(|error| instance_error(&error))
    }

    fn stop(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError> {
        let timeout = options.timeout_secs.map(std::time::Duration::from_secs);
        let options = triton_instance::StopOptions { force: options.force, timeout };
        self.instances()?.stop(uuid, options).map_err(|error| instance_error(&error))
    }

    fn reboot(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError> {
        self.instances()?.reboot(uuid, options.force).map_err(|error| instance_error(&error))
    }

    fn kill(&self, uuid: InstanceUuid, signal: Option<&str>) -> Result<(), MachineError> {
        self.instances()?.kill(uuid, signal.unwrap_or("SIGTERM")).map(drop).map_err(|error| instance_error(&error))
    }

    fn delete(&self, uuid: InstanceUuid) -> Result<(), MachineError> {
        self.instances()?.delete(uuid).map_err(|error| instance_error(&error))
    }

    fn used(&self, uuid: InstanceUuid) -> Result<u64, MachineError> {
        self.load(uuid, true)?;
        let usages = self.instances()?.storage().usages().map_err(|error| MachineError::new(chain(&error).to_string(), None))?;
        Ok(usages.get(&uuid).map_or(0, |usage| usage.used_bytes))
    }

    fn send(&self, uuid: InstanceUuid, out: &mut dyn std::io::Write) -> Result<(), MachineError> {
        self.instances()?.send(uuid, out).map(drop).map_err(|error| instance_error(&error))
    }

    fn receive(&self, uuid: InstanceUuid, from: &mut dyn std::io::Read) -> Result<(), MachineError> {
        let instances = self.instances()?;
        let adjust = |config: &mut triton_types::VmConfig| adjust_copy(&instances, uuid, config, true);
        instances.receive_with(from, adjust).map(drop).map_err(|error| instance_error(&error))
    }

    fn offer(&self, uuid: InstanceUuid) -> Result<Option<Value>, MachineError> {
        let offer = self.instances()?.offer(uuid).map_err(|error| instance_error(&error))?;
        offer.map(|offer| serde_json::to_value(offer).map_err(|error| MachineError::new(error.to_string(), None))).transpose()
    }

    fn have(&self, uuid: InstanceUuid, offer: &Value) -> Result<Option<Value>, MachineError> {
        let text = |error: serde_json::Error| MachineError::new(error.to_string(), None);
        let offer: triton_instance::Offer = serde_json::from_value(offer.clone()).map_err(text)?;
        let have = self.instances()?.have(uuid, &offer).map_err(|error| instance_error(&error))?;
        have.map(|have| serde_json::to_value(have).map_err(text)).transpose()
    }

    fn send_changes(&self, uuid: InstanceUuid, have: &Value, out: &mut dyn std::io::Write) -> Result<(), MachineError> {
        let have: triton_instance::Have =
            serde_json::from_value(have.clone()).map_err(|error| MachineError::new(format!("what the target has: {error}"), None))?;
        self.instances()?.send_replica(uuid, &have, out).map_err(|error| instance_error(&error))
    }

    fn receive_changes(&self, uuid: InstanceUuid, from: &mut dyn std::io::Read) -> Result<(), MachineError> {
        let instances = self.instances()?;
        let adjust = |config: &mut triton_types::VmConfig, anew: bool| adjust_copy(&instances, uuid, config, anew);
        instances.receive_replica(from, adjust).map(drop).map_err(|error| instance_error(&error))
    }

    fn forget_marks(&self, uuid: InstanceUuid, keep: usize) -> Result<(), MachineError> {
        self.instances()?.forget_marks(uuid, keep).map_err(|error| instance_error(&error))
    }

    fn place(&self, uuid: InstanceUuid) -> Result<GuestPlace, MachineError> {
        let place = self.instances()?.place(uuid).map_err(|error| instance_error(&error))?;
        let shifted = place.ownership == triton_types::Ownership::Shifted;
        Ok(GuestPlace { root: place.root, ids: place.ids, shifted, init: place.init, payload: place.payload })
    }

    fn info(&self, uuid: InstanceUuid, types: &[String]) -> Result<String, MachineError> {
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        let info = self.instances()?.info(uuid, &types).map_err(|error| instance_error(&error))?;
        Ok(format!("{info:#}\n"))
    }
}

/// What the copy of an instance that is moved here is until the move is over. One that is there already, a copy of an earlier attempt or the
/// place that was kept for it, goes first if it is replaced. Everything else stays.
fn adjust_copy(
    instances: &triton_instance::Instances,
    uuid: InstanceUuid,
    config: &mut triton_types::VmConfig,
    replace: bool,
) -> Result<(), InstanceError> {
    if config.uuid != uuid {
        return Err(InstanceError::Stream(format!("it is of instance {}, not of {uuid}", config.uuid)));
    }
    if instances.exists(uuid) {
        let vm = instances.load(uuid)?;
        let is_idle = matches!(vm.state, triton_types::VmState::Stopped | triton_types::VmState::Failed);
        if !is_idle || to_json(&vm).get("do_not_inventory") != Some(&Value::Bool(true)) {
            return Err(InstanceError::Exists { uuid });
        }
        if replace {
            instances.delete(uuid)?;
        }
    }
    config.do_not_inventory = true;
    config.autoboot = false;
    Ok(())
}

impl Images for Node {
    fn get(&self, uuid: ImageUuid) -> Result<Option<Value>, MachineError> {
        let image = self.images()?.get(uuid).map_err(|error| image_error(&error))?;
        Ok(image.map(|image| Value::Object(image.manifest)))
    }

    fn import(&self, uuid: ImageUuid, pool: Option<&str>, request_id: &str, cancelled: &CancellationToken) -> Result<(), MachineError> {
        let images = self.images()?;
        let own = images.storage().pool();
        if let Some(pool) = pool
            && pool != own
        {
            return Err(MachineError::new(format!("pool \"{pool}\" is not the pool of this compute node, \"{own}\""), None));
        }
        let cancel = CancelToken::default();
        let _bridge = Bridge::new(cancelled, &cancel);
        let options =
            ImportOptions { platform: self.platform.clone(), request_id: Some(request_id.to_owned()), cancel, ..ImportOptions::default() };
        images.import(uuid, &options, &Quiet).map(drop).map_err(|error| image_error(&error))
    }

    fn create(&self, uuid: InstanceUuid, request: &ImageRequest, cancelled: &CancellationToken) -> Result<(), MachineError> {
        self.create_and_publish(uuid, request, cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_instance_is_not_found_only_while_the_store_is_there() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let node = Node::new(&layout, Platform::default());
        let uuid = InstanceUuid::random();
        assert_eq!(node.exists(uuid).unwrap_err().code, None, "not set up");
        layout.prepare().unwrap();
        triton_storage::Storage::choose(&layout, triton_types::StorageKind::Dir, "zones").unwrap();
        assert_eq!(node.exists(uuid), Ok(false));
        let missing = node.load(uuid, true).unwrap_err();
        assert_eq!((missing.message, missing.code.as_deref()), (format!("vmadm load {uuid} failed: No such zone"), Some("VmNotFound")));
        for result in [node.start(uuid), node.stop(uuid, StopOptions::default()), node.kill(uuid, None), node.delete(uuid)] {
            assert_eq!(result.unwrap_err().code.as_deref(), Some("VmNotFound"));
        }
        std::fs::remove_file(layout.marker()).unwrap();
        assert_eq!(node.exists(uuid).unwrap_err().code, None);
        assert_eq!(node.load(uuid, true).unwrap_err().code, None);
    }

    #[test]
    fn an_image_for_a_pool_of_another_name_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        triton_storage::Storage::choose(&layout, triton_types::StorageKind::Dir, "zones").unwrap();
        let node = Node::new(&layout, Platform::default());
        let image = ImageUuid::random();
        assert_eq!(Images::get(&node, image), Ok(None));
        let error = node.import(image, Some("tank"), "r", &CancellationToken::new()).unwrap_err();
        assert!(error.message.contains("tank") && error.message.contains("zones"), "{error}");
    }
}
