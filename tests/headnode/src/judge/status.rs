//! The status post, by the rules of the allocator (cn-agent.md section 5.2).

use serde_json::Value;

use super::{is_time, natural};
use crate::{call::uuid, violations::Problem};

const TOP: [&str; 6] = ["vms", "zpoolStatus", "meminfo", "diskinfo", "boot_time", "timestamp"];
const MEMORY: [&str; 3] = ["availrmem_bytes", "arcsize_bytes", "total_bytes"];
const DISK: [&str; 12] = [
    "kvm_zvol_used_bytes",
    "kvm_zvol_volsize_bytes",
    "kvm_quota_bytes",
    "kvm_quota_used_bytes",
    "zone_quota_bytes",
    "zone_quota_used_bytes",
    "cores_quota_bytes",
    "cores_quota_used_bytes",
    "installed_images_used_bytes",
    "pool_size_bytes",
    "pool_alloc_bytes",
    "system_used_bytes",
];
const VM: [&str; 9] = ["brand", "cpu_cap", "last_modified", "max_physical_memory", "owner_uuid", "quota", "state", "uuid", "zone_state"];
const STATES: [&str; 10] =
    ["provisioning", "configured", "incomplete", "stopped", "ready", "running", "shutting_down", "down", "failed", "unreadable"];

/// Everything that is wrong with a status; the server is not placeable while there is any.
pub(crate) fn status(body: &Value) -> Vec<Problem> {
    let Some(map) = body.as_object() else {
        return vec![Problem::new("body", "an object is needed")];
    };
    let mut problems: Vec<_> =
        map.keys().filter(|key| !TOP.contains(&key.as_str())).map(|key| Problem::new(key, "is no field of a status")).collect();
    for field in ["boot_time", "timestamp"] {
        if !is_time(&body[field]) {
            problems.push(Problem::new(field, format!("a time with milliseconds and Z is needed, not {}", body[field])));
        }
    }
    numbers(&mut problems, "meminfo", &body["meminfo"], &MEMORY);
    numbers(&mut problems, "diskinfo", &body["diskinfo"], &DISK);
    for (field, value) in
        [("meminfo.total_bytes", &body["meminfo"]["total_bytes"]), ("diskinfo.pool_size_bytes", &body["diskinfo"]["pool_size_bytes"])]
    {
        if natural(value) == Some(0) {
            problems.push(Problem::new(field, "must be above 0"));
        }
    }
    match body["zpoolStatus"].as_object() {
        Some(pools) if !pools.is_empty() => {
            for (pool, figures) in pools {
                numbers(&mut problems, &format!("zpoolStatus.{pool}"), figures, &["bytes_available", "bytes_used"]);
            }
        }
        _ => problems.push(Problem::new("zpoolStatus", "an object with a pool is needed")),
    }
    match body["vms"].as_object() {
        Some(vms) => vms.iter().for_each(|(key, entry)| problems.extend(vm(key, entry))),
        None => problems.push(Problem::new("vms", "an object is needed")),
    }
    problems
}

fn numbers(problems: &mut Vec<Problem>, name: &str, group: &Value, fields: &[&str]) {
    let Some(map) = group.as_object() else {
        return problems.push(Problem::new(name, "an object is needed"));
    };
    for field in fields {
        if natural(&group[*field]).is_none() {
            problems.push(Problem::new(format!("{name}.{field}"), format!("an integer of 0 or more is needed, not {}", group[*field])));
        }
    }
    for key in map.keys().filter(|key| !fields.contains(&key.as_str())) {
        problems.push(Problem::new(format!("{name}.{key}"), "is no field of it"));
    }
}

/// One VM of the `vms` map: nine keys, absent when unset.
fn vm(key: &str, entry: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |field: &str, good: bool, wanted: &str| {
        if !good {
            problems.push(Problem::new(format!("vms.{key}.{field}"), format!("{wanted} is needed, not {}", entry[field])));
        }
    };
    let word = |field: &str| entry[field].as_str().is_some_and(|text| !text.is_empty());
    check("uuid", uuid(key).is_some() && entry["uuid"] == key, "the uuid under which it stands");
    check("owner_uuid", entry["owner_uuid"].as_str().is_some_and(|text| uuid(text).is_some()), "a uuid");
    check("max_physical_memory", natural(&entry["max_physical_memory"]).is_some_and(|mib| mib > 0), "an integer above 0");
    check("cpu_cap", entry.get("cpu_cap").is_none_or(|cap| natural(cap).is_some_and(|cap| cap > 0)), "an integer above 0, or no key,");
    check("quota", entry.get("quota").is_none_or(|quota| quota.as_f64().is_some_and(|quota| quota >= 0.0)), "a number of 0 or more");
    check("state", word("state") && STATES.iter().any(|state| entry["state"] == *state), "a state of an instance");
    check("zone_state", word("zone_state"), "a non-empty string");
    check("brand", entry["brand"] == "lx", "\"lx\"");
    check("last_modified", is_time(&entry["last_modified"]), "a time with milliseconds and Z");
    for extra in entry.as_object().into_iter().flat_map(|map| map.keys()).filter(|key| !VM.contains(&key.as_str())) {
        problems.push(Problem::new(format!("vms.{key}.{extra}"), "is none of the nine keys"));
    }
    problems
}
