//! What the agent needs to know of the instances: a seam for tests, with the real model behind it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use triton_files::Layout;
use triton_instance::{InstanceError, Instances, to_json};
use triton_types::{InstanceUuid, JsonMap};

/// One instance as it is now.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// Its whole VM object.
    Object(JsonMap),
    /// It exists and has no readable description: nothing is said about it (ruling 1).
    Unreadable(String),
    /// It is known not to exist.
    Absent,
}

/// The local instances. Calls block.
pub trait Inventory: Send + Sync + 'static {
    /// One instance, `do_not_inventory` or not.
    ///
    /// # Errors
    /// When it cannot be known, also when the store of instances is not there.
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String>;

    /// All instances, those with `do_not_inventory` included.
    ///
    /// # Errors
    /// When the list is not complete (design section 9, invariant 1).
    fn lookup(&self) -> Result<Vec<(InstanceUuid, Loaded)>, String>;
}

/// True for an instance that is to be kept from VMAPI.
pub fn is_hidden(vm: &JsonMap) -> bool {
    vm.get("do_not_inventory").and_then(Value::as_bool).unwrap_or(false)
}

/// The object as it is sent.
pub fn body(vm: &JsonMap) -> Bytes {
    // A JSON map always has a text.
    Bytes::from(serde_json::to_vec(vm).unwrap_or_default())
}

/// The instances of the node below a root. Opened at first use, and again after the node's store could not be opened.
pub struct RealInventory {
    layout: Layout,
    instances: Mutex<Option<Arc<Instances>>>,
}

impl RealInventory {
    /// Those below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), instances: Mutex::new(None) }
    }

    fn instances(&self) -> Result<Arc<Instances>, String> {
        let mut slot = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = &*slot {
            return Ok(instances.clone());
        }
        let opened = Arc::new(Instances::open(&self.layout).map_err(|error| triton_instance::chain(&error))?);
        Ok(slot.insert(opened).clone())
    }
}

impl Inventory for RealInventory {
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String> {
        match self.instances()?.load(uuid) {
            Ok(vm) => Ok(Loaded::Object(to_json(&vm))),
            Err(error @ InstanceError::Unreadable { .. }) => Ok(Loaded::Unreadable(triton_instance::chain(&error))),
            Err(InstanceError::NotFound { .. }) => {
                // The store may have gone between the look at it and the look at the file.
                self.layout.check_store().map_err(|error| triton_instance::chain(&error))?;
                Ok(Loaded::Absent)
            }
            Err(error) => Err(triton_instance::chain(&error)),
        }
    }

    fn lookup(&self) -> Result<Vec<(InstanceUuid, Loaded)>, String> {
        let instances = self.instances()?;
        let uuids = instances.uuids().map_err(|error| triton_instance::chain(&error))?;
        let mut all = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            match self.load(uuid)? {
                Loaded::Absent => {}
                loaded => all.push((uuid, loaded)),
            }
        }
        Ok(all)
    }
}
