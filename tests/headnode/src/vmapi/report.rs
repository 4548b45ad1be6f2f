//! Reports of what compute nodes have: whole objects that replace what was stored (vm-agent.md section 8).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    JsonMap,
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

/// Always there, with what VMAPI fills them with.
const ALWAYS: [&str; 33] = [
    "uuid",
    "alias",
    "autoboot",
    "brand",
    "billing_id",
    "cpu_cap",
    "cpu_shares",
    "create_timestamp",
    "customer_metadata",
    "datasets",
    "destroyed",
    "firewall_enabled",
    "internal_metadata",
    "last_modified",
    "limit_priv",
    "max_locked_memory",
    "max_lwps",
    "max_physical_memory",
    "max_swap",
    "nics",
    "owner_uuid",
    "platform_buildstamp",
    "quota",
    "ram",
    "resolvers",
    "server_uuid",
    "snapshots",
    "state",
    "tags",
    "zfs_filesystem",
    "zfs_io_priority",
    "zone_state",
    "zpool",
];
/// Kept when they say something.
const OPTIONAL: [&str; 26] = [
    "boot_timestamp",
    "docker",
    "dns_domain",
    "delegate_dataset",
    "exit_status",
    "exit_timestamp",
    "filesystems",
    "flexible_disk_size",
    "free_space",
    "fs_allowed",
    "hostname",
    "indestructible_delegated",
    "indestructible_zoneroot",
    "init_name",
    "internal_metadata_namespaces",
    "kernel_version",
    "maintain_resolvers",
    "mdata_exec_timeout",
    "pid",
    "tmpfs",
    "zfs_data_compression",
    "zfs_snapshot_limit",
    "zonepath",
    "vcpus",
    "cpu_type",
    "disks",
];
/// Of these, only virtual machines keep any.
const OF_MACHINES: [&str; 3] = ["vcpus", "cpu_type", "disks"];
const LISTS: [&str; 3] = ["datasets", "nics", "snapshots"];
const MAPS: [&str; 3] = ["customer_metadata", "internal_metadata", "tags"];
const TIMES: [&str; 3] = ["create_timestamp", "last_modified", "destroyed"];
const NULLED: [&str; 19] = [
    "alias",
    "billing_id",
    "cpu_cap",
    "cpu_shares",
    "create_timestamp",
    "destroyed",
    "image_uuid",
    "last_modified",
    "limit_priv",
    "max_locked_memory",
    "max_lwps",
    "max_physical_memory",
    "max_swap",
    "owner_uuid",
    "quota",
    "ram",
    "zfs_filesystem",
    "zfs_io_priority",
    "zpool",
];
/// A `Date` this long ago, in seconds, makes a request expired.
const EXPIRED: i64 = 300;

fn says_something(value: &Value) -> bool {
    !matches!(value, Value::Null) && value.as_str() != Some("")
}

/// A time as it comes back: milliseconds, `Z`.
fn time(value: &Value) -> Option<Value> {
    let time = match value {
        Value::Number(ms) => Timestamp::from_millisecond(ms.as_i64()?).ok()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Some(json!(format!("{time:.3}")))
}

/// An object as VMAPI keeps and shows it.
pub(super) fn normalised(vm: &JsonMap) -> JsonMap {
    let mut kept = Map::new();
    let machine = matches!(vm.get("brand").and_then(Value::as_str), Some("kvm" | "bhyve"));
    for field in ALWAYS {
        let given = vm.get(field).filter(|value| says_something(value));
        let value = match field {
            _ if TIMES.contains(&field) => given.and_then(time),
            "ram" => given.or_else(|| vm.get("max_physical_memory")).cloned(),
            _ => given.cloned(),
        };
        let value = value.or_else(|| match field {
            _ if LISTS.contains(&field) => Some(json!([])),
            _ if MAPS.contains(&field) => Some(json!({})),
            _ if NULLED.contains(&field) => Some(Value::Null),
            _ => None,
        });
        kept.extend(value.map(|value| (field.to_owned(), value)));
    }
    if !machine {
        let image = vm.get("image_uuid").filter(|value| says_something(value)).cloned().unwrap_or_default();
        kept.insert("image_uuid".to_owned(), image);
    }
    for field in OPTIONAL {
        let keep = machine || !OF_MACHINES.contains(&field);
        // Truthy, or 0 or false.
        if let Some(value) = vm.get(field).filter(|value| keep && says_something(value)) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    kept
}

/// `Date`, if there is one, is not long ago: a node with a slow clock is refused for ever.
fn check_date(headers: &HeaderMap, now_ms: i64) -> Result<(), ApiError> {
    let Some(date) = headers.get(header::DATE).and_then(|value| value.to_str().ok()) else { return Ok(()) };
    let Ok(date) = jiff::fmt::rfc2822::parse(date) else { return Err(ApiError::invalid_content("Date is no date")) };
    if now_ms / 1000 - date.timestamp().as_second() > EXPIRED {
        return Err(ApiError::request_expired());
    }
    Ok(())
}

/// The bulk report of vm-agent: as many objects as it takes, none looked for that is not among them.
pub(super) async fn put_all(State(shared): Here, call: Call) -> Result<StatusCode, ApiError> {
    check_date(&call.headers, shared.clock.now())?;
    call.text("server_uuid").filter(|text| uuid(text).is_some()).ok_or_else(|| ApiError::validation("server_uuid", "is not a uuid"))?;
    let vms = call.params.get("vms").and_then(Value::as_object).ok_or_else(|| ApiError::validation("vms", "is not an object"))?;
    for (id, vm) in vms {
        let vm = vm.as_object().filter(|vm| vm.get("uuid").and_then(Value::as_str) == Some(id) && uuid(id).is_some());
        let vm = vm.ok_or_else(|| ApiError::internal("AssertionError: vm.uuid"))?;
        shared.store.put(Kind::Vm, id, Value::Object(normalised(vm)))?;
    }
    Ok(StatusCode::OK)
}

/// The report of one instance.
pub(super) async fn put_one(State(shared): Here, Path(id): Path<String>, call: Call) -> Result<Response, ApiError> {
    check_date(&call.headers, shared.clock.now())?;
    if uuid(&id).is_none() {
        return Err(ApiError::validation("uuid", "Invalid UUID"));
    }
    let mut vm = call.body.as_object().cloned().unwrap_or_default();
    vm.insert("uuid".to_owned(), json!(id));
    if vm.get("state").and_then(Value::as_str) == Some("destroyed") {
        vm.insert("zone_state".to_owned(), json!("destroyed"));
        vm.insert("destroyed".to_owned(), json!(shared.clock.iso()));
    }
    let vm = Value::Object(normalised(&vm));
    shared.store.put(Kind::Vm, &id, vm.clone())?;
    Ok(Json(vm).into_response())
}
