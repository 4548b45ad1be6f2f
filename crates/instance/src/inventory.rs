//! What an agent needs to know of the instances: a seam for tests, with the real model behind it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use triton_files::Layout;
use triton_types::{InstanceUuid, JsonMap, VmObject};

use crate::{InstanceError, Instances, error::chain_text, glance::Glance, to_json};

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

/// One instance among all, at a look around.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// It is what it was at the last look at all of them.
    Same,
    /// It is this now.
    Now(Loaded),
}

/// The local instances. Calls block.
pub trait Inventory: Send + Sync + 'static {
    /// One instance, `do_not_inventory` or not.
    ///
    /// # Errors
    /// When it cannot be known, also when the store of instances is not there.
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String>;

    /// All instances, those with `do_not_inventory` included, one after the other: who takes them need not keep them.
    ///
    /// # Errors
    /// When they are not all (design section 9, invariant 1): what was taken until then is worth nothing.
    fn each(&self, take: &mut dyn FnMut(InstanceUuid, Loaded)) -> Result<(), String>;

    /// As [`Inventory::each`], without what has not changed since the last look at all of them, by either call.
    ///
    /// # Errors
    /// As [`Inventory::each`].
    fn look_around(&self) -> Result<Vec<(InstanceUuid, Look)>, String> {
        let mut all = Vec::new();
        self.each(&mut |uuid, loaded| all.push((uuid, Look::Now(loaded))))?;
        Ok(all)
    }

    /// What the last look at all of them said was not used: the next one says all of it.
    fn forget(&self) {}
}

/// True for an instance that is to be kept from the headnode (`do_not_inventory`).
pub fn is_hidden(vm: &JsonMap) -> bool {
    vm.get("do_not_inventory").and_then(Value::as_bool).unwrap_or(false)
}

/// The instances of the node below a root. Opened at first use, and again after the node's store could not be opened.
pub struct RealInventory {
    layout: Layout,
    with_snapshots: bool,
    /// Properties that are wanted; all of them, if none is named.
    wanted: &'static [&'static str],
    instances: Mutex<Option<Arc<Instances>>>,
    /// What the last look at all of them found.
    glances: Mutex<HashMap<InstanceUuid, Glance>>,
}

impl RealInventory {
    /// Those below `layout`, as whole VM objects.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), with_snapshots: true, wanted: &[], instances: Mutex::default(), glances: Mutex::default() }
    }

    /// Those below `layout` with these properties only. Snapshots are none of them: on ZFS they cost a process for each object.
    pub fn of_properties(layout: &Layout, wanted: &'static [&'static str]) -> Self {
        Self { with_snapshots: false, wanted, ..Self::new(layout) }
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

    fn each(&self, take: &mut dyn FnMut(InstanceUuid, Loaded)) -> Result<(), String> {
        self.forget();
        self.look(&mut |uuid, look| {
            if let Look::Now(loaded) = look {
                take(uuid, loaded);
            }
        })
    }

    fn look_around(&self) -> Result<Vec<(InstanceUuid, Look)>, String> {
        let mut all = Vec::new();
        self.look(&mut |uuid, look| all.push((uuid, look)))?;
        Ok(all)
    }

    fn forget(&self) {
        self.glances.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl RealInventory {
    fn look(&self, take: &mut dyn FnMut(InstanceUuid, Look)) -> Result<(), String> {
        let instances = self.instances()?;
        let text = |error: InstanceError| chain_text(&error);
        let uuids = instances.uuids().map_err(text)?;
        // Made or removed from now on, they are changes that an event tells of.
        let snapshots = if self.with_snapshots { Some(instances.all_snapshots().map_err(text)?) } else { None };
        let before = std::mem::take(&mut *self.glances.lock().unwrap_or_else(PoisonError::into_inner));
        let mut glances = HashMap::with_capacity(uuids.len());
        for uuid in uuids {
            // The glance comes first: what changes after it is seen at the next one.
            let old = before.get(&uuid);
            let glance = instances.glance(uuid, old, snapshots.as_ref());
            let same = glance.is_some() && glance.as_ref() == old;
            if let Some(glance) = glance {
                glances.insert(uuid, glance);
            }
            if same {
                take(uuid, Look::Same);
                continue;
            }
            let object = match &snapshots {
                Some(snapshots) => instances.load_with(uuid, snapshots),
                None => instances.view(uuid),
            };
            match self.loaded(object)? {
                Loaded::Absent => drop(glances.remove(&uuid)),
                loaded => {
                    if !matches!(loaded, Loaded::Object(_)) {
                        glances.remove(&uuid);
                    }
                    take(uuid, Look::Now(loaded));
                }
            }
        }
        *self.glances.lock().unwrap_or_else(PoisonError::into_inner) = glances;
        Ok(())
    }

    fn loaded(&self, object: Result<VmObject, InstanceError>) -> Result<Loaded, String> {
        match object {
            Ok(vm) => {
                let vm = to_json(&vm);
                // A map that something was taken out of is as large as before.
                let vm = if self.wanted.is_empty() {
                    vm
                } else {
                    vm.into_iter().filter(|(key, _)| self.wanted.contains(&key.as_str())).collect()
                };
                Ok(Loaded::Object(vm))
            }
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
