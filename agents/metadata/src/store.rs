//! Where values are: a seam for tests, with the real model behind it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use triton_files::Layout;
use triton_instance::{DATA_SOURCE_KEY, Damage, DataSource, InstanceError, Instances, RunStates, zonecontrol};
use triton_mdata::Map;
use triton_process::is_alive;
use triton_types::{InstanceUuid, JsonMap, ProcessRef};

/// The instances of a node, as far as this service needs them. Calls block. Errors are for the log.
pub trait Store: Send + Sync + 'static {
    /// All instances.
    ///
    /// # Errors
    /// When the list is not complete.
    fn instances(&self) -> Result<Vec<InstanceUuid>, String>;

    /// The host id of an instance's root, after the directory of its socket was made; `None` for one that is not that far, or gone.
    ///
    /// # Errors
    /// When that cannot be known or done.
    fn prepare(&self, uuid: InstanceUuid) -> Result<Option<u32>, String>;

    /// The VM object as it is now. Properties whose file is damaged are `null`.
    ///
    /// # Errors
    /// When the instance is gone or its machine file cannot be read.
    fn view(&self, uuid: InstanceUuid) -> Result<JsonMap, String>;

    /// The init of an instance for which metadata over HTTP was chosen, while it runs.
    fn door(&self, uuid: InstanceUuid) -> Option<ProcessRef>;

    /// Sets a key, or removes it, and waits until that is durable.
    ///
    /// # Errors
    /// When it was not done.
    fn change(&self, uuid: InstanceUuid, map: Map, key: &str, value: Option<&str>) -> Result<(), String>;
}

/// The store of the node below a root. Opened at first use, and again after it could not be opened.
pub struct RealStore {
    layout: Layout,
    instances: Mutex<Option<Arc<Instances>>>,
    /// Instances of whose damage the log knows: their guests may ask often.
    damaged: Mutex<BTreeSet<InstanceUuid>>,
}

impl RealStore {
    /// The one below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), instances: Mutex::new(None), damaged: Mutex::default() }
    }

    fn opened(&self) -> Result<Arc<Instances>, String> {
        let mut opened = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = &*opened {
            return Ok(instances.clone());
        }
        let instances = Arc::new(Instances::open(&self.layout).map_err(|error| triton_instance::chain(&error))?);
        Ok(opened.insert(instances).clone())
    }
}

impl Store for RealStore {
    fn instances(&self) -> Result<Vec<InstanceUuid>, String> {
        self.opened()?.uuids().map_err(|error| triton_instance::chain(&error))
    }

    fn prepare(&self, uuid: InstanceUuid) -> Result<Option<u32>, String> {
        match self.opened()?.ids(uuid) {
            Ok(None) => Ok(None),
            Err(InstanceError::NotFound { .. }) => {
                // Between the steps of its deletion the directory may have been made here once more.
                if !self.instances()?.contains(&uuid) {
                    zonecontrol::remove(&self.layout, uuid).map_err(|error| triton_agent::chain(&error).to_string())?;
                }
                Ok(None)
            }
            Ok(Some(ids)) => {
                zonecontrol::ensure(&self.layout, uuid, ids).map_err(|error| triton_agent::chain(&error).to_string())?;
                Ok(Some(ids.base))
            }
            Err(error) => Err(triton_instance::chain(&error)),
        }
    }

    fn view(&self, uuid: InstanceUuid) -> Result<JsonMap, String> {
        let (vm, damaged) = self.opened()?.view_what_can_be(uuid).map_err(|error| triton_instance::chain(&error))?;
        let mut known = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.is_empty() {
            known.remove(&uuid);
        } else if known.insert(uuid) {
            for Damage { properties, reason } in &damaged {
                tracing::error!(vm_uuid = %uuid, ?properties, error = %reason, "a document of an instance cannot be used");
            }
        }
        Ok(vm)
    }

    fn door(&self, uuid: InstanceUuid) -> Option<ProcessRef> {
        // Most instances run without it, and many do not run: the cheapest question comes first.
        let init = RunStates::new(&self.layout).find(uuid).ok()??.init.filter(|init| is_alive(*init))?;
        let (vm, _) = self.opened().ok()?.view_what_can_be(uuid).ok()?;
        let chosen = vm.get("internal_metadata")?.get(DATA_SOURCE_KEY)?.as_str()?;
        DataSource::of(chosen).is_http().then_some(init)
    }

    fn change(&self, uuid: InstanceUuid, map: Map, key: &str, value: Option<&str>) -> Result<(), String> {
        let update = match value {
            Some(value) => json!({format!("set_{}", map.name()): {key: value}}),
            None => json!({format!("remove_{}", map.name()): [key]}),
        };
        let Value::Object(update) = update else { return Err("an update is an object".to_owned()) };
        self.opened()?.update(uuid, update).map(drop).map_err(|error| triton_instance::chain(&error))
    }
}
