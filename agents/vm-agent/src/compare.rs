//! What of two VM objects is compared at start, and what follows from it (vm-agent.md sections 4.2 and 5). Pure.

use bytes::Bytes;
use serde_json::Value;
use triton_types::JsonMap;

/// Fields whose difference makes a report: a change of any other shows through `last_modified`.
const FIELDS: [&str; 14] = [
    "boot_timestamp",
    "brand",
    "datasets",
    "disks",
    "indestructible_delegated",
    "indestructible_zoneroot",
    "last_modified",
    "quota",
    "snapshots",
    "state",
    "uuid",
    "zfs_data_compression",
    "zfs_snapshot_limit",
    "zone_state",
];

/// Fields that VMAPI fills with null when it was not given them.
const FILLED_WITH_NULL: [&str; 2] = ["last_modified", "quota"];
/// Fields that VMAPI fills with an empty list.
const FILLED_WITH_LIST: [&str; 1] = ["datasets"];

/// A field of VMAPI's object, unless it holds what VMAPI fills it with.
fn of_remote<'a>(remote: &'a JsonMap, field: &str) -> Option<&'a Value> {
    remote.get(field).filter(|value| {
        let filler = match value {
            Value::Null => FILLED_WITH_NULL.contains(&field),
            Value::Array(list) => list.is_empty() && FILLED_WITH_LIST.contains(&field),
            _ => false,
        };
        !filler
    })
}

/// True when the local object must be reported, given what VMAPI has.
pub fn differs(local: &JsonMap, remote: &JsonMap) -> bool {
    FIELDS.iter().any(|field| local.get(*field) != of_remote(remote, field))
}

/// True when nothing but documents of the instance (metadata, tags, routes and the like) changed between two local objects.
pub fn only_documents_changed(before: &JsonMap, after: &JsonMap) -> bool {
    FIELDS
        .iter()
        .filter(|field| **field != "last_modified")
        .chain(&["pid", "exit_status", "exit_timestamp", "nics"])
        .all(|field| before.get(*field) == after.get(*field))
}

/// The object as it is sent.
pub fn body(vm: &JsonMap) -> Bytes {
    // A JSON map always has a text.
    Bytes::from(serde_json::to_vec(vm).unwrap_or_default())
}

/// Marks an object destroyed: `state` and `zone_state`, nothing else.
pub fn destroyed(mut vm: JsonMap) -> JsonMap {
    for field in ["state", "zone_state"] {
        vm.insert(field.to_owned(), Value::from("destroyed"));
    }
    vm
}

/// True for an object of VMAPI that is younger than `limit_ms` and still being provisioned: its creation is on its way here, and
/// calling it destroyed would be a lie (section 5, notes).
pub fn is_being_provisioned(remote: &JsonMap, now_ms: i64, limit_ms: i64) -> bool {
    let created = match remote.get("create_timestamp") {
        Some(Value::String(text)) => text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond()),
        Some(Value::Number(number)) => number.as_i64(),
        _ => None,
    };
    remote.get("state").and_then(Value::as_str) == Some("provisioning") && created.is_none_or(|at| now_ms.saturating_sub(at) < limit_ms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    fn minimal() -> JsonMap {
        map(json!({"uuid": "a", "brand": "lx", "state": "stopped", "zone_state": "installed", "snapshots": []}))
    }

    /// vm-agent case 3, 5, 8
    #[test]
    fn what_vmapi_fills_in_is_no_difference() {
        let mut remote = minimal();
        remote.extend(map(json!({"datasets": [], "quota": null, "last_modified": null, "alias": null, "ram": 128, "nics": []})));
        assert!(!differs(&minimal(), &remote));
        assert!(!differs(&minimal(), &minimal()));
    }

    /// vm-agent case 6
    #[test]
    fn each_of_the_fourteen_fields_makes_a_difference_by_value_and_by_presence() {
        for field in FIELDS {
            let mut changed = minimal();
            changed.insert(field.to_owned(), json!("other"));
            assert!(differs(&changed, &minimal()), "{field}");
            assert!(differs(&minimal(), &changed), "{field} at VMAPI");
        }
        // null is a value: only the fields that VMAPI fills with it may hold it without a meaning.
        let mut with_null = minimal();
        with_null.insert("boot_timestamp".to_owned(), Value::Null);
        assert!(differs(&minimal(), &with_null));
    }

    /// vm-agent case 7
    #[test]
    fn other_fields_make_none() {
        let mut remote = minimal();
        remote.extend(map(json!({"alias": "x", "nics": [{"mac": "m"}], "customer_metadata": {"a": "b"}})));
        assert!(!differs(&minimal(), &remote));
    }

    /// vm-agent case 9
    #[test]
    fn snapshots_that_are_absent_here_differ_from_the_empty_list_there() {
        let mut local = minimal();
        local.remove("snapshots");
        assert!(differs(&local, &minimal()));
    }

    /// vm-agent case 35
    #[test]
    fn comparison_is_deep() {
        for (a, b, same) in [
            (json!({}), json!({}), true),
            (json!({"datasets": [{"a": true}]}), json!({"datasets": [{"a": true}]}), true),
            (json!({"datasets": [{"a": true}]}), json!({"datasets": [{"a": false}]}), false),
            (json!({"datasets": [{"a": 1}]}), json!({"datasets": [{}]}), false),
            (json!({"state": "x"}), json!({}), false),
        ] {
            assert_eq!(!differs(&map(a.clone()), &map(b.clone())), same, "{a} {b}");
        }
    }

    #[test]
    fn a_young_provisioning_instance_is_spared_and_an_old_one_is_not() {
        let vm = |state: &str, created: Value| map(json!({"state": state, "create_timestamp": created}));
        let now = 1_700_000_000_000;
        assert!(is_being_provisioned(&vm("provisioning", json!(now - 1000)), now, 600_000));
        assert!(is_being_provisioned(&vm("provisioning", json!("2023-11-14T22:10:00.000Z")), now, 600_000));
        assert!(is_being_provisioned(&vm("provisioning", Value::Null), now, 600_000));
        assert!(!is_being_provisioned(&vm("provisioning", json!(now - 700_000)), now, 600_000));
        assert!(!is_being_provisioned(&vm("running", json!(now - 1000)), now, 600_000));
    }

    #[test]
    fn a_reboot_is_no_mere_change_of_documents_and_metadata_is() {
        let mut after = minimal();
        after.insert("last_modified".to_owned(), json!("2026-01-01T00:00:00.000Z"));
        after.insert("customer_metadata".to_owned(), json!({"a": "b"}));
        assert!(only_documents_changed(&minimal(), &after));
        after.insert("boot_timestamp".to_owned(), json!("2026-01-01T00:00:00.000Z"));
        assert!(!only_documents_changed(&minimal(), &after));
    }
}
