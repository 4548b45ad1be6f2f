//! What holds for any payload.

use proptest::prelude::*;
use serde_json::{Value, json};
use triton_types::JsonMap;

use crate::{Context, Filter, ListOptions, PROPERTIES, PayloadError, create, list, testing::*, update, validate, value::flat_object};

/// Any JSON value of a small size.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("dhcp"),
        Just("10.0.0.5/24"),
        Just("10.0.0.5"),
        Just("255.255.255.0"),
        Just("admin"),
        Just("02:08:20:00:00:01"),
        Just("nics[0]"),
        Just("true"),
        Just("300"),
        Just(""),
        Just(LX),
        Just("/data"),
        Just("zones"),
        Just("lofs"),
        Just("eth3")
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..5000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any_key(), inner), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Mostly keys that mean something.
fn any_key() -> impl Strategy<Value = String> {
    let nic = ["mac", "nic_tag", "ips", "ip", "netmask", "gateways", "primary", "vlan_id", "mtu", "allowed_ips", "vrrp_vrid", "interface"];
    let names: Vec<&'static str> = PROPERTIES.iter().map(|p| p.name).chain(nic).chain(["type", "source", "target", "options"]).collect();
    prop_oneof![9 => proptest::sample::select(names).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn any_payload() -> impl Strategy<Value = JsonMap> {
    proptest::collection::vec((any_key(), any_json()), 0..8).prop_map(|entries| entries.into_iter().collect())
}

/// Payloads that are often accepted.
fn likely_payload() -> impl Strategy<Value = Value> {
    let size = || prop_oneof![Just(Value::Null), (256u64..4096).prop_map(Value::from)];
    let nic = (any::<bool>(), 0u8..40, prop_oneof![Just(json!(null)), Just(json!(0)), Just(json!("20"))]).prop_map(|(dhcp, host, vlan)| {
        let ips = if dhcp { json!(["dhcp"]) } else { json!([format!("10.0.0.{host}/24")]) };
        json!({"nic_tag": "admin", "ips": ips, "vlan_id": vlan, "allow_ip_spoofing": dhcp})
    });
    (size(), size(), size(), proptest::collection::vec(nic, 0..4), ".{0,6}", any::<bool>(), 0.0..20.0).prop_map(
        |(phys, locked, swap, nics, alias, flag, quota)| {
            json!({"max_physical_memory": phys, "max_locked_memory": locked, "max_swap": swap, "nics": nics, "alias": alias,
                "autoboot": flag, "quota": quota, "tags": {"a": alias}, "resolvers": "8.8.8.8", "archive_on_delete": flag})
        },
    )
}

proptest! {
    #[test]
    fn no_payload_panics_and_none_is_half_done(payload in any_payload(), change in any_payload(), action in "create|update|x") {
        let world = TestWorld::default();
        let _ = validate(&action, Some("lx"), &payload, &world);
        let _ = create(payload.clone(), &world, now());
        let mut with_image = object(json!({"brand": "lx", "image_uuid": LX}));
        with_image.extend(payload.into_iter().filter(|(key, _)| key != "brand" && key != "image_uuid"));
        let created = create(with_image, &world, now());
        prop_assert!(!matches!(created, Err(PayloadError::Inconsistent { .. })), "{created:?}");
        if let Ok(created) = created {
            let updated = update(&created.config, change, &world);
            prop_assert!(!matches!(updated, Err(PayloadError::Inconsistent { .. })), "{updated:?}");
            if let Ok(updated) = updated {
                let config = &updated.config;
                prop_assert_eq!(config.uuid, created.config.uuid);
                prop_assert!(config.max_locked_memory <= config.max_physical_memory && config.max_physical_memory <= config.max_swap);
                prop_assert!(config.nics.iter().filter(|nic| nic.primary).count() <= 1);
                prop_assert!(flat_object(&Value::Object(config.tags.clone())).is_ok());
                prop_assert_eq!(updated.changes.is_empty(), *config == created.config);
            }
        }
    }

    #[test]
    fn what_was_created_is_stored_and_created_again_unchanged(payload in likely_payload()) {
        let world = TestWorld::default();
        let created = try_create(payload);
        prop_assert!(matches!(created, Ok(_) | Err(PayloadError::DuplicateIp(_))), "{created:?}");
        if let Ok(created) = created {
            let stored = json(&created.config);
            let read: triton_types::VmConfig = serde_json::from_value(stored.clone()).unwrap();
            prop_assert_eq!(&read, &created.config);
            let again = create(object(stored), &world, now()).unwrap();
            prop_assert_eq!(again.config, created.config);
        }
    }

    #[test]
    fn an_empty_update_changes_nothing(payload in likely_payload()) {
        if let Ok(created) = try_create(payload) {
            let result = try_update(&created.config, json!({})).unwrap();
            prop_assert_eq!(&result.config, &created.config);
            prop_assert!(result.changes.is_empty() && result.warnings.is_empty());
        }
    }

    #[test]
    fn no_vm_and_no_filter_panics(vm in any_payload(), filter in ".{0,20}", field in any_key(), text in ".{0,8}") {
        for filter in [filter, format!("{field}={text}"), format!("{field}=~{text}"), format!("nics.*.mac={text}")] {
            if let Ok(filter) = Filter::parse(&filter, Context::List) {
                filter.matches(&vm);
            }
        }
        let options = ListOptions { columns: Some(field), ..ListOptions::default() };
        let _ = list(&[&vm, &vm], &options);
    }
}
