//! From a create payload to the configuration of an instance (instances.md sections 2.2 to 2.7, 2.10).

use serde_json::Value;
use triton_types::{InstanceUuid, JsonMap, Timestamp, VmConfig};

use crate::{
    PayloadError, World, docker,
    filesystems::{self, FilesystemWishes},
    limits,
    memory::{Memory, relate},
    nics::{self, NicWishes},
    normalise::{Wish, default_value, normalise},
    routes,
    table::{Fallback, Kind, PROPERTIES},
    validate::{Action, Warnings, strip, validate_create},
    value,
};

/// Physical memory of an instance whose payload says nothing of memory, in MiB (section 2.2).
const DEFAULT_MEMORY: u64 = 256;

/// Seconds that creation waits for the guest's metadata scripts unless the payload says otherwise (section 2.2).
const DEFAULT_EXEC_TIMEOUT: u64 = 300;

/// A payload that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// What is to be stored.
    pub config: VmConfig,
    /// What was ignored or corrected; for the log, not for the operator's screen.
    pub warnings: Vec<String>,
    /// Return when the instance was first started, without waiting for its provisioning.
    pub nowait: bool,
    /// Seconds that provisioning may take; 0 for no limit. Not stored.
    pub mdata_exec_timeout: u64,
}

/// Validates a create payload and completes it with defaults. `now` becomes `create_timestamp`.
///
/// A missing `uuid` is generated, as are missing MACs. Properties that are unknown or cannot be set are removed with a
/// warning (section 2.1).
///
/// # Errors
/// [`PayloadError`], with the contract's text; nothing outside is touched in any case.
pub fn create(mut payload: JsonMap, world: &dyn World, now: Timestamp) -> Result<Created, PayloadError> {
    if payload.contains_key("nics") && payload.contains_key("add_nics") {
        return Err(PayloadError::NicsAndAddNics);
    }
    validate_create(&payload, world).into_result()?;
    let mut warnings = Warnings::default();
    strip(Action::Create, &mut payload, &mut warnings);
    let process = docker::process_of(&payload, world)?;

    let uuid = match payload.get("uuid").and_then(Value::as_str).map(str::parse::<InstanceUuid>) {
        Some(Ok(uuid)) if world.instance_exists(&uuid) => return Err(PayloadError::Exists(uuid)),
        Some(Ok(uuid)) => uuid,
        _ => InstanceUuid::random(),
    };
    let nic_wishes = NicWishes::take(&mut payload);
    let filesystem_wishes = FilesystemWishes::take(&mut payload);
    let mut maps = ["customer_metadata", "internal_metadata", "tags", "routes"].map(|name| take_map(&mut payload, name));

    let mut scalars = scalars(&payload)?;
    scalars.insert("uuid".to_owned(), uuid.to_string().into());
    scalars.insert("create_timestamp".to_owned(), now.to_string().into());
    if !scalars.contains_key("zpool") {
        scalars.insert("zpool".to_owned(), world.default_pool().into());
    }
    let mut wanted = Memory::read(&payload);
    wanted.phys.get_or_insert(DEFAULT_MEMORY);
    let mut corrections = Vec::new();
    relate(wanted, Memory::default(), &mut corrections).write(&mut scalars);
    corrections.into_iter().for_each(|text| warnings.push(text));

    let mut config = config_from(scalars)?;
    config.nics = nics::apply(uuid, &[], nic_wishes, world, &mut warnings)?;
    let pool = config.zpool.clone().unwrap_or_default();
    config.filesystems = filesystems::apply(uuid, &pool, &[], filesystem_wishes, world, &mut warnings)?;
    let [customer, internal, tags, wanted_routes] = &mut maps;
    check_routes(wanted_routes, &config)?;
    config.customer_metadata = std::mem::take(customer);
    config.internal_metadata = std::mem::take(internal);
    config.tags = std::mem::take(tags);
    config.routes = std::mem::take(wanted_routes);
    config.docker = false;
    if let Some(process) = process {
        docker::complete(&mut config, &process);
    }

    let timeout = payload.get("mdata_exec_timeout").and_then(|v| value::integer(v, 0, limits::INTEGER).ok().flatten());
    Ok(Created {
        config,
        warnings: warnings.into_list(),
        nowait: payload.get("nowait").is_some_and(|flag| value::boolean(flag) == Ok(true)),
        mdata_exec_timeout: timeout.unwrap_or(DEFAULT_EXEC_TIMEOUT),
    })
}

/// The stored scalar and list properties, defaults included; all but the memory sizes.
fn scalars(payload: &JsonMap) -> Result<JsonMap, PayloadError> {
    let mut scalars = JsonMap::new();
    for property in PROPERTIES.iter().filter(|p| p.create && is_scalar(p.kind)) {
        if matches!(property.name, "nowait" | "mdata_exec_timeout") || property.fallback == Fallback::Memory {
            continue;
        }
        let wish = match payload.get(property.name) {
            Some(value) => normalise(property, value).map_err(|_| PayloadError::InvalidValues(vec![property.name.to_owned()]))?,
            None => Wish::Clear,
        };
        let value = match wish {
            Wish::Set(value) => Some(value),
            Wish::Clear => default_value(property.fallback),
        };
        if let Some(value) = value {
            scalars.insert(property.name.to_owned(), value);
        }
    }
    Ok(scalars)
}

pub(crate) fn is_scalar(kind: Kind) -> bool {
    !matches!(kind, Kind::FlatObject | Kind::Nics(_) | Kind::Filesystems(_) | Kind::ReadOnly)
}

pub(crate) fn take_map(payload: &mut JsonMap, name: &str) -> JsonMap {
    match payload.get_mut(name).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => JsonMap::new(),
    }
}

pub(crate) fn config_from(map: JsonMap) -> Result<VmConfig, PayloadError> {
    serde_json::from_value(Value::Object(map)).map_err(|error| PayloadError::Inconsistent { reason: error.to_string() })
}

fn check_routes(routes: &JsonMap, config: &VmConfig) -> Result<(), PayloadError> {
    if routes.len() > limits::ROUTES {
        return Err(PayloadError::TooMany { field: "routes", limit: limits::ROUTES });
    }
    routes::check(routes, &config.nics)
}
