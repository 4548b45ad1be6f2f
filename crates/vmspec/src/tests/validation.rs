use serde_json::{Value, json};

use crate::{Verdict, testing::*, validate, validate_create, validate_update};

fn verdict(more: Value) -> Verdict {
    validate_create(&payload(more), &TestWorld::default())
}

fn update_verdict(change: Value) -> Verdict {
    validate_update("lx", &object(change), &TestWorld::default())
}

fn bad_values(more: Value) -> Vec<String> {
    verdict(more).bad_values
}

/// instances case 1
#[test]
fn a_small_payload_with_an_installed_image_is_valid() {
    assert!(
        validate_create(&object(json!({"brand": "lx", "image_uuid": LX, "kernel_version": "4.3.0"})), &TestWorld::default()).is_valid()
    );
    assert!(verdict(json!({"image_uuid": LXD})).is_valid(), "kernel_version is optional");
}

/// instances case 2
#[test]
fn image_and_brand_are_required() {
    let world = TestWorld::default();
    assert_eq!(validate_create(&object(json!({"brand": "lx"})), &world).missing_properties, ["image_uuid"]);
    let verdict = validate_create(&object(json!({"image_uuid": LX})), &world);
    assert_eq!(serde_json::to_value(&verdict).unwrap(), json!({"bad_brand": "undefined"}));
    for brand in [json!("joyent"), json!("LX"), json!(""), json!(7)] {
        assert!(verdict_of_brand(&brand).bad_brand.is_some(), "{brand}");
    }
    assert_eq!(validate_update("bhyve", &object(json!({"alias": "a"})), &world).bad_brand.as_deref(), Some("bhyve"));
}

fn verdict_of_brand(brand: &Value) -> Verdict {
    verdict(json!({ "brand": brand }))
}

/// instances case 3
#[test]
fn for_an_unknown_action_every_key_is_bad() {
    let verdict = validate("detonate", None, &object(json!({"brand": "lx", "alias": 42, "x": 1})), &TestWorld::default());
    assert_eq!(verdict.bad_properties, ["brand", "alias", "x"]);
    assert!(verdict.bad_values.is_empty() && verdict.missing_properties.is_empty());
}

/// instances case 4
#[test]
fn an_update_cannot_name_an_immutable_property() {
    let verdict = update_verdict(json!({"uuid": "doogle", "alias": "foo"}));
    assert_eq!(serde_json::to_string(&verdict).unwrap(), r#"{"bad_values":[],"bad_properties":["uuid"],"missing_properties":[]}"#);
}

/// instances cases 5, 6, 7, 8, 9
#[test]
fn scalars_are_checked_by_type_and_bounds() {
    for (bad, key) in [
        (json!({"autoboot": "aardvark"}), "autoboot"),
        (json!({"alias": 42}), "alias"),
        (json!({"max_swap": 128}), "max_swap"),
        (json!({"cpu_cap": "doogle"}), "cpu_cap"),
        (json!({"zpool": "doogle"}), "zpool"),
        (json!({"zfs_root_compression": "gzip-0"}), "zfs_root_compression"),
        (json!({"zfs_root_recsize": 1000}), "zfs_root_recsize"),
        (json!({"resolvers": ["8.8.8"]}), "resolvers"),
        (json!({"internal_metadata_namespaces": ["a b"]}), "internal_metadata_namespaces"),
        (json!({"hostname": "a\nlxc.mount.entry = /"}), "hostname"),
        (json!({"init_name": "/sbin/init\nx"}), "init_name"),
        (json!({"max_lwps": -1}), "max_lwps"),
        (json!({"quota": "much"}), "quota"),
    ] {
        assert_eq!(bad_values(bad.clone()), [key], "{bad}");
    }
    for good in [
        json!({"autoboot": "true"}),
        json!({"max_swap": 256}),
        json!({"cpu_cap": "300"}),
        json!({"zpool": "zones"}),
        json!({"alias": "böse \u{1F600} alias"}),
        json!({"billing_id": "9.99", "owner_uuid": "anyone"}),
        json!({"quota": 0.5, "zfs_root_compression": "gzip-9", "resolvers": "8.8.8.8,fd00::1"}),
    ] {
        assert!(verdict(good.clone()).is_valid(), "{good}");
    }
}

/// instances cases 10, 11
#[test]
fn lists_and_flat_objects_are_checked() {
    assert!(verdict(json!({"fs_allowed": "ufs,tmpfs"})).is_valid() && verdict(json!({"fs_allowed": ["ufs", "tmpfs"]})).is_valid());
    assert_eq!(bad_values(json!({"fs_allowed": ["ufs,tmpfs"]})), ["fs_allowed"]);
    assert_eq!(bad_values(json!({"fs_allowed": {}})), ["fs_allowed"]);
    assert_eq!(bad_values(json!({"customer_metadata": {"a": {"b": 1}}})), ["customer_metadata"]);
    assert!(verdict(json!({"customer_metadata": {"a": "x", "b": true, "odd key": 42}})).is_valid());
}

/// instances cases 12, 13
#[test]
fn nics_are_checked_key_by_key() {
    assert_eq!(bad_values(json!({"nics": {}})), ["nics"]);
    assert_eq!(bad_values(json!({"nics": ["x"]})), ["nics"]);
    assert!(verdict(json!({"nics": [{"nic_tag": "admin", "ip": "dhcp"}]})).is_valid());
    for mtu in [json!(500), json!(10000), json!(1500.3), json!("abc"), json!({})] {
        assert_eq!(bad_values(json!({"nics": [{"nic_tag": "admin", "mtu": mtu}]})), ["nics.*.mtu"], "{mtu}");
    }
    for mtu in [json!(576), json!(4242), json!(9000), json!("2323")] {
        assert!(verdict(json!({"nics": [{"nic_tag": "admin", "mtu": mtu}]})).is_valid(), "{mtu}");
    }
    for vlan in [json!(1), json!(4095), json!(-2), json!("x")] {
        assert_eq!(bad_values(json!({"nics": [{"nic_tag": "admin", "vlan_id": vlan}]})), ["nics.*.vlan_id"], "{vlan}");
    }
    for vlan in [json!(0), json!(2), json!(4094), json!("20")] {
        assert!(verdict(json!({"nics": [{"nic_tag": "admin", "vlan_id": vlan}]})).is_valid(), "{vlan}");
    }
    for mac in ["01:00:00:00:00:01", "00:00:00:00:00:00", "2:8:20:0:0", "x"] {
        assert_eq!(bad_values(json!({"nics": [{"nic_tag": "admin", "mac": mac}]})), ["nics.*.mac"], "{mac}");
    }
    let several = json!({"nics": [{"nic_tag": "admin", "mtu": 1, "x": 1}, {"mtu": 2, "x": 2}]});
    let verdict = verdict(several);
    assert_eq!(verdict.bad_values, ["nics.*.mtu"], "each name once");
    assert_eq!(verdict.bad_properties, ["nics.*.x"]);
    assert_eq!(verdict.missing_properties, ["nics.*.nic_tag"]);
}

/// instances case 14
#[test]
fn nics_belong_to_create_and_update_nics_to_update() {
    assert_eq!(verdict(json!({"update_nics": []})).bad_properties, ["update_nics"]);
    assert!(update_verdict(json!({"update_nics": [{"mac": "02:08:20:00:00:01", "primary": true}]})).is_valid());
    assert_eq!(update_verdict(json!({"nics": []})).bad_properties, ["nics"]);
    assert_eq!(update_verdict(json!({"tags": {"a": 1}})).bad_properties, ["tags"]);
}

/// instances case 15
#[test]
fn only_installed_images_for_containers_can_be_used() {
    for image in [ZONE, ZVOL, "33333333-7a0d-4f9b-8a44-6f2f0c9b7d10"] {
        assert_eq!(bad_values(json!({ "image_uuid": image })), ["image_uuid"], "{image}");
    }
}

/// instances case 22
#[test]
fn a_uuid_has_one_form() {
    for bad in
        [json!("6A3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11"), json!("6a3f0c4e2f0b4c559a3c0d1b5a7e9c11"), json!(" x"), json!(5), json!(null)]
    {
        assert_eq!(bad_values(json!({ "uuid": bad })), ["uuid"], "{bad}");
    }
    assert!(verdict(json!({"uuid": "00000000-0000-0000-0000-000000000000"})).is_valid());
}

#[test]
fn file_systems_are_checked_key_by_key() {
    assert!(verdict(json!({"filesystems": [{"type": "lofs", "source": "/data/a", "target": "/mnt", "options": ["ro"]}]})).is_valid());
    for (key, value) in [("target", "mnt"), ("target", "/a/../../etc"), ("target", "/a\nb"), ("source", "data")] {
        let mut entry = json!({"type": "lofs", "source": "/data/a", "target": "/mnt"});
        entry[key] = value.into();
        assert_eq!(bad_values(json!({ "filesystems": [entry] })), [format!("filesystems.*.{key}")], "{value}");
    }
    let verdict = verdict(json!({"filesystems": [{}]}));
    assert_eq!(verdict.missing_properties, ["filesystems.*.type", "filesystems.*.source", "filesystems.*.target"]);
}
