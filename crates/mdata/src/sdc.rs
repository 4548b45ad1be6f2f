//! The host's namespace, `sdc:` (metadata.md section 3.2). What a guest may see of its VM object is listed here; host paths,
//! process ids and whatever else an object comes to have is not there (section 9).

use serde_json::Value;
use triton_types::JsonMap;

use crate::{Answer, Compatibility, routes::routes, value::render};

/// Properties that a guest may read by their own name.
const READABLE: [&str; 34] = [
    "uuid",
    "zonename",
    "alias",
    "hostname",
    "dns_domain",
    "server_uuid",
    "datacenter_name",
    "headnode_id",
    "owner_uuid",
    "billing_id",
    "image_uuid",
    "package_name",
    "package_version",
    "brand",
    "state",
    "create_timestamp",
    "boot_timestamp",
    "last_modified",
    "max_physical_memory",
    "max_swap",
    "max_locked_memory",
    "max_lwps",
    "quota",
    "cpu_cap",
    "cpu_shares",
    "vcpus",
    "zfs_io_priority",
    "autoboot",
    "hvm",
    "firewall_enabled",
    "docker",
    "tags",
    "internal_metadata_namespaces",
    "init_name",
];

/// The value of `sdc:<key>`.
pub(crate) fn get(vm: &JsonMap, key: &str, compatibility: Compatibility) -> Answer {
    let json = |value: &Value| Answer::Value(value.to_string());
    match key {
        "nics" => return vm.get("nics").map_or_else(|| Answer::Value("[]".to_owned()), json),
        "resolvers" | "tmpfs" => return vm.get(key).map_or(Answer::NotFound, json),
        "routes" if vm.get("routes").is_some_and(Value::is_null) => return lost("routes"),
        "routes" => return json(&routes(vm)),
        "operator-script" => return inner(vm, "internal_metadata", "operator-script"),
        "volumes" => return inner(vm, "internal_metadata", "sdc:volumes"),
        _ => {}
    }
    if let Some(name) = key.strip_prefix("tags.") {
        return inner(vm, "tags", name);
    }
    let parts: Vec<&str> = key.splitn(4, '.').collect();
    match parts.as_slice() {
        ["nics", index, field] => render(element(vm, "nics", index).and_then(|nic| nic.get(field))),
        ["routes", name] => inner(vm, "routes", name),
        ["resolvers" | "internal_metadata_namespaces", index] => render(element(vm, parts[0], index)),
        ["customer_metadata", name] if compatibility.customer_metadata_by_sdc => inner(vm, "customer_metadata", name),
        [name] if READABLE.contains(name) => render(vm.get(*name)),
        _ => Answer::NotFound,
    }
}

/// A map that is `null` could not be read: that its keys are not there would be an invention, and guests remove what they had.
fn lost(map: &str) -> Answer {
    Answer::failure(format!("Zone did not contain {map}"))
}

fn inner(vm: &JsonMap, map: &str, key: &str) -> Answer {
    match vm.get(map) {
        Some(Value::Null) => lost(map),
        Some(Value::Object(map)) => render(map.get(key)),
        _ => Answer::NotFound,
    }
}

/// An element by its number as it is usually written: `01`, `-1` and `1e0` name none.
fn element<'a>(vm: &'a JsonMap, list: &str, index: &str) -> Option<&'a Value> {
    let number: usize = index.parse().ok().filter(|number: &usize| number.to_string() == index)?;
    vm.get(list)?.as_array()?.get(number)
}
