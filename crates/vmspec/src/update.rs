//! From an update payload to the changed configuration (instances.md sections 2.3, 2.4, 2.8, 2.9).

use std::collections::HashSet;

use serde_json::Value;
use triton_types::{JsonMap, VmConfig};

use crate::{
    Change, Effect, PayloadError, World,
    changes::between,
    create::{config_from, is_scalar, take_map},
    docker,
    filesystems::{self, FilesystemWishes},
    limits,
    memory::{Memory, relate},
    nics::{self, NicWishes},
    normalise::{apply_update, normalise},
    property, routes,
    table::Fallback,
    validate::{Action, Warnings, strip, validate_update},
    value,
};

/// Properties that must be arrays, with an error text of their own (section 2.8).
const ARRAYS: [&str; 6] = ["add_nics", "update_nics", "remove_nics", "add_filesystems", "update_filesystems", "remove_filesystems"];

/// An update that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    /// What is to be stored.
    pub config: VmConfig,
    /// What differs from before; empty when the payload changes nothing.
    pub changes: Vec<Change>,
    /// What was ignored or corrected; for the log.
    pub warnings: Vec<String>,
}

impl Updated {
    /// Something changed that a running instance sees only after its next boot.
    pub fn needs_reboot(&self) -> bool {
        self.changes.iter().any(|change| change.effect() == Effect::NextBoot)
    }

    /// NICs came or went: then cn-agent reboots a running instance (section 2.4).
    pub fn nics_came_or_went(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::NicsAdded(_) | Change::NicsRemoved(_)))
    }
}

/// Validates an update payload and applies it to `existing`, which is left alone: all of the payload or nothing.
///
/// Immutable properties (`uuid`, `brand`, …) are ignored silently, others that cannot be updated with a warning.
///
/// # Errors
/// [`PayloadError`], with the contract's text.
pub fn update(existing: &VmConfig, mut payload: JsonMap, world: &dyn World) -> Result<Updated, PayloadError> {
    if payload.contains_key("nics") && payload.contains_key("add_nics") {
        return Err(PayloadError::NicsAndAddNics);
    }
    if let Some(key) = ARRAYS.into_iter().find(|key| payload.get(*key).is_some_and(|value| !value.is_array())) {
        return Err(PayloadError::NotAnArray { key });
    }
    validate_update(&existing.brand, &payload, world).into_result()?;
    let mut warnings = Warnings::default();
    strip(Action::Update, &mut payload, &mut warnings);
    docker::check_update(&payload, existing)?;

    let nic_wishes = NicWishes::take(&mut payload);
    let filesystem_wishes = FilesystemWishes::take(&mut payload);
    let mut config = scalars(existing, &payload, &mut warnings)?;
    config.nics = nics::apply(existing.uuid, &existing.nics, nic_wishes, world, &mut warnings)?;
    let pool = config.zpool.clone().unwrap_or_else(|| world.default_pool());
    config.filesystems = filesystems::apply(existing.uuid, &pool, &existing.filesystems, filesystem_wishes, world, &mut warnings)?;
    config.customer_metadata = edit(&mut payload, "customer_metadata", &existing.customer_metadata);
    config.internal_metadata = edit(&mut payload, "internal_metadata", &existing.internal_metadata);
    config.tags = edit(&mut payload, "tags", &existing.tags);
    if let Some(Value::Object(routes)) = payload.get("set_routes") {
        routes::check(routes, &config.nics)?;
    }
    config.routes = edit(&mut payload, "routes", &existing.routes);
    if config.routes.len() > limits::ROUTES.max(existing.routes.len()) {
        return Err(PayloadError::TooMany { field: "routes", limit: limits::ROUTES });
    }
    let changes = between(existing, &config);
    Ok(Updated { config, changes, warnings: warnings.into_list() })
}

/// The configuration with the payload's scalar and list properties; NICs, file systems and maps are left empty.
fn scalars(existing: &VmConfig, payload: &JsonMap, warnings: &mut Warnings) -> Result<VmConfig, PayloadError> {
    let bare = VmConfig {
        nics: Vec::new(),
        filesystems: Vec::new(),
        customer_metadata: JsonMap::new(),
        internal_metadata: JsonMap::new(),
        tags: JsonMap::new(),
        routes: JsonMap::new(),
        ..existing.clone()
    };
    let Ok(Value::Object(mut map)) = serde_json::to_value(&bare) else {
        return Err(PayloadError::Inconsistent { reason: "the stored configuration is no JSON object".to_owned() });
    };
    for (name, value) in payload {
        let Some(property) = property(name).filter(|p| is_scalar(p.kind) && !name.starts_with("remove_")) else { continue };
        let wish = normalise(property, value).map_err(|_| PayloadError::InvalidValues(vec![name.clone()]))?;
        if property.fallback == Fallback::Memory {
            if value::is_blank(value) {
                warnings.push(format!("{name} cannot be unset: it stays as it is"));
            }
            continue;
        }
        apply_update(property, wish, &mut map);
    }
    let mut corrections = Vec::new();
    let old = Memory::read(&map);
    relate(Memory::read(payload), old, &mut corrections).write(&mut map);
    corrections.into_iter().for_each(|text| warnings.push(text));
    config_from(map)
}

/// A map after `remove_<name>` and then `set_<name>` (section 2.8).
fn edit(payload: &mut JsonMap, name: &str, old: &JsonMap) -> JsonMap {
    let remove: HashSet<String> = match payload.get(&format!("remove_{name}")) {
        // Keys of an array are taken to the letter: they may have blanks at their ends.
        Some(Value::Array(keys)) => keys.iter().map(value::display).collect(),
        Some(list) => value::list(list).unwrap_or_default().into_iter().collect(),
        None => HashSet::new(),
    };
    let mut map = old.clone();
    if !remove.is_empty() {
        map.retain(|key, _| !remove.contains(key));
    }
    for (key, value) in take_map(payload, &format!("set_{name}")) {
        map.insert(key, value);
    }
    map
}
