//! What an agent needs to know of the instances: a seam for tests, with the real model behind it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use triton_files::Layout;
use triton_types::{InstanceUuid, JsonMap, VmObject};

use crate::{InstanceError, Instances, error::chain_text, to_json};

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

/// True for an instance that is to be kept from the headnode (`do_not_inventory`).
pub fn is_hidden(vm: &JsonMap) -> bool {
    vm.get("do_not_inventory").and_then(Value::as_bool).unwrap_or(false)
}

/// All local instances, read on a thread that may block.
///
/// # Errors
/// See [`Inventory::lookup`].
pub async fn lookup(inventory: &Arc<dyn Inventory>) -> Result<Vec<(InstanceUuid, Loaded)>, String> {
    let inventory = inventory.clone();
    tokio::task::spawn_blocking(move || inventory.lookup()).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// The instances of the node below a root. Opened at first use, and again after the node's store could not be opened.
pub struct RealInventory {
    layout: Layout,
    with_snapshots: bool,
    instances: Mutex<Option<Arc<Instances>>>,
}

impl RealInventory {
    /// Those below `layout`, as whole VM objects.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), with_snapshots: true, instances: Mutex::new(None) }
    }

    /// Those below `layout` without their snapshots, which on ZFS cost a process for each object.
    pub fn without_snapshots(layout: &Layout) -> Self {
        Self { with_snapshots: false, ..Self::new(layout) }
    }

    /// The instances, for changing them.
    ///
    /// # Errors
    /// When the node's store cannot be opened.
    pub fn instances(&self) -> Result<Arc<Instances>, String> {
        let mut slot = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = &*slot {
            return Ok(instances.clone());
        }
        let opened = Arc::new(Instances::open(&self.layout).map_err(|error| chain_text(&error))?);
        Ok(slot.insert(opened).clone())
    }
}

impl Inventory for RealInventory {
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String> {
        let instances = self.instances()?;
        self.loaded(if self.with_snapshots { instances.load(uuid) } else { instances.view(uuid) })
    }

    fn lookup(&self) -> Result<Vec<(InstanceUuid, Loaded)>, String> {
        let instances = self.instances()?;
        let text = |error: InstanceError| chain_text(&error);
        let uuids = instances.uuids().map_err(text)?;
        // Made or removed from now on, they are changes that an event tells of.
        let snapshots = if self.with_snapshots { Some(instances.all_snapshots().map_err(text)?) } else { None };
        let mut all = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            let object = match &snapshots {
                Some(snapshots) => instances.load_with(uuid, snapshots),
                None => instances.view(uuid),
            };
            match self.loaded(object)? {
                Loaded::Absent => {}
                loaded => all.push((uuid, loaded)),
            }
        }
        Ok(all)
    }
}

impl RealInventory {
    fn loaded(&self, object: Result<VmObject, InstanceError>) -> Result<Loaded, String> {
        match object {
            Ok(vm) => Ok(Loaded::Object(to_json(&vm))),
            Err(error @ InstanceError::Unreadable { .. }) => Ok(Loaded::Unreadable(chain_text(&error))),
            Err(InstanceError::NotFound { .. }) => {
                // The store may have gone between the look at it and the look at the file.
                self.layout.check_store().map_err(|error| chain_text(&error))?;
                Ok(Loaded::Absent)
            }
            Err(error) => Err(chain_text(&error)),
        }
    }
}
