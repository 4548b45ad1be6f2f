use serde_json::json;

use crate::{Change, Effect, PayloadError, testing::*};

/// instances cases 24, 25, 26, 27, 28
#[test]
fn memory_follows_an_update() {
    let config = created(json!({"ram": 512}));
    let sizes = |config: &triton_types::VmConfig| {
        [config.max_physical_memory, config.max_locked_memory, config.max_swap, config.tmpfs].map(Option::unwrap)
    };
    let bigger = updated(&config, json!({"max_physical_memory": 1024}));
    assert_eq!(sizes(&bigger), [1024; 4]);
    assert_eq!(sizes(&updated(&bigger, json!({"max_physical_memory": 256}))), [256; 4]);
    assert_eq!(sizes(&updated(&config, json!({"max_swap": 2048}))), [512, 512, 2048, 512]);
    assert_eq!(sizes(&updated(&config, json!({"max_swap": 300}))), [512; 4]);
    for swap in [64, 255] {
        assert_eq!(try_update(&config, json!({ "max_swap": swap })).unwrap_err().to_string(), "Invalid value(s) for: max_swap");
    }
    assert_eq!(sizes(&updated(&config, json!({"max_locked_memory": 4096}))), [512; 4]);
    assert_eq!(sizes(&updated(&config, json!({"ram": "128"}))), [128, 128, 256, 128]);
}

#[test]
fn an_empty_value_never_lifts_a_memory_limit() {
    let config = created(json!({"ram": 512}));
    let result = try_update(&config, json!({"max_physical_memory": "", "max_swap": null})).unwrap();
    assert_eq!((&result.config, result.changes.len(), result.warnings.len()), (&config, 0, 2));
}

/// instances cases 29, 30, 31
#[test]
fn limits_can_be_lifted_where_the_contract_says_so() {
    let config = created(json!({"cpu_cap": 1600, "zfs_snapshot_limit": 11, "quota": 5}));
    let result = try_update(&config, json!({"cpu_cap": 0})).unwrap();
    assert_eq!((result.config.cpu_cap, result.changes.as_slice()), (None, [Change::CpuCap].as_slice()));
    assert!(json(&result.config).get("cpu_cap").is_none());
    assert_eq!(json(&updated(&config, json!({"quota": 13})))["quota"], json!(13));
    assert_eq!(json(&updated(&config, json!({"quota": 0})))["quota"], json!(0));
    assert_eq!(json(&updated(&config, json!({"quota": null})))["quota"], json!(0));
    assert!(json(&updated(&config, json!({"zfs_snapshot_limit": null}))).get("zfs_snapshot_limit").is_none());
    assert_eq!(updated(&config, json!({"zfs_snapshot_limit": 0})).zfs_snapshot_limit, Some(0));
    assert_eq!(updated(&config, json!({"max_lwps": ""})).max_lwps, Some(2000), "a blank value is the default");
}

/// instances case 58
#[test]
fn immutable_properties_are_ignored_silently() {
    let config = created(json!({}));
    let result =
        try_update(&config, json!({"brand": "bogus", "uuid": "x", "zonename": 7, "hvm": true, "server_uuid": 1, "last_modified": 2}))
            .unwrap();
    assert_eq!((&result.config, result.changes.len(), result.warnings.len()), (&config, 0, 0));
    let result = try_update(&config, json!({"image_uuid": LXD, "tags": {"a": 1}, "nonsense": 1})).unwrap();
    assert_eq!((&result.config, result.warnings.len()), (&config, 3));
}

/// instances case 59
#[test]
fn texts_can_be_unset() {
    for key in ["alias", "billing_id", "hostname", "owner_uuid", "package_name", "package_version", "dns_domain", "init_name", "fs_allowed"]
    {
        let text = if key == "init_name" { "/sbin/useless-VM" } else { "useless-VM" };
        let set = updated(&created(json!({})), json!({ key: text }));
        assert_eq!(json(&set)[key], json!(text), "{key}");
        for blank in [json!(""), json!(null)] {
            assert!(json(&updated(&set, json!({ key: blank }))).get(key).is_none(), "{key}");
        }
    }
    let config = updated(
        &created(json!({"resolvers": ["8.8.8.8"], "archive_on_delete": true})),
        json!({"resolvers": [], "archive_on_delete": false}),
    );
    assert_eq!((json(&config)["resolvers"].clone(), json(&config).get("archive_on_delete")), (json!([]), None));
}

/// instances case 60
#[test]
fn maps_are_edited_key_by_key_and_a_set_wins_over_a_removal() {
    let config = updated(&created(json!({"tags": {"z": true}})), json!({"set_tags": {"a": 1}}));
    assert_eq!(json(&config)["tags"], json!({"z": true, "a": 1}));
    let removed = updated(&config, json!({"remove_tags": ["a", "gone"]}));
    assert_eq!(json(&removed)["tags"], json!({"z": true}));
    let both = updated(&config, json!({"remove_tags": "a", "set_tags": {"a": "1"}}));
    assert_eq!(json(&both)["tags"]["a"], json!("1"));
    assert_eq!(updated(&both, json!({"remove_tags": ["a", "z"]})).tags.len(), 0);
}

#[test]
fn one_bad_value_leaves_all_of_the_payload_undone() {
    let config = created(json!({"nics": [{"nic_tag": "admin", "ips": ["10.0.0.1/24"]}]}));
    let before = config.clone();
    for bad in [
        json!({"alias": "new", "cpu_cap": "x"}),
        json!({"alias": "new", "add_nics": [{"nic_tag": "nowhere"}]}),
        json!({"alias": "new", "set_routes": {"x": "1.2.3.4"}}),
        json!({"alias": "new", "update_nics": {}}),
    ] {
        assert!(try_update(&config, bad.clone()).is_err(), "{bad}");
        assert_eq!(config, before);
    }
}

#[test]
fn lists_of_elements_must_be_arrays() {
    let config = created(json!({}));
    for key in ["add_nics", "update_nics", "remove_nics", "add_filesystems", "update_filesystems", "remove_filesystems"] {
        assert_eq!(try_update(&config, json!({ key: {} })).unwrap_err().to_string(), format!("{key} must be an array."));
    }
    assert_eq!(try_update(&config, json!({"nics": [], "add_nics": []})).unwrap_err(), PayloadError::NicsAndAddNics);
}

/// instances case 49
#[test]
fn routes_name_real_destinations_and_nics_with_an_address() {
    let nics = json!([{"nic_tag": "admin", "mac": "02:08:20:00:00:01", "ips": ["10.0.0.1/24"]}, {"nic_tag": "admin", "ips": ["dhcp"]}]);
    let config = created(json!({"nics": nics, "routes": {
        "172.20.42.0/24": "172.19.1.1", "10.9.9.9": "nics[0]", "0.0.0.0/0": "macs[2:8:20:0:0:1]"
    }}));
    assert_eq!(config.routes.len(), 3);
    for (destination, gateway, text) in [
        ("x", "1.2.3.4", "Invalid route destination: \"x\" (must be IP address or CIDR)"),
        ("fd00::/64", "1.2.3.4", "Invalid route destination: \"fd00::/64\" (must be IP address or CIDR)"),
        ("1.2.3.4", "nics[5]", "Route gateway: \"nics[5]\" refers to non-existent or DHCP nic"),
        ("1.2.3.4", "nics[1]", "Route gateway: \"nics[1]\" refers to non-existent or DHCP nic"),
        ("1.2.3.4", "macs[2:8:20:0:0:9]", "Route gateway: \"macs[2:8:20:0:0:9]\" refers to non-existent or DHCP nic"),
        ("1.2.3.4", "nics[-1]", "Invalid route gateway: \"nics[-1]\" (must be IP address, MAC address, or nic)"),
        ("1.2.3.4", "fd00::1", "Invalid route gateway: \"fd00::1\" (must be IP address, MAC address, or nic)"),
    ] {
        let error = try_update(&config, json!({"set_routes": {destination: gateway}})).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.fields()), (text, vec!["routes".to_owned()]));
    }
    let moved = try_update(&config, json!({"remove_nics": ["02:08:20:00:00:01"], "set_routes": {"1.2.3.4": "nics[0]"}}));
    assert!(moved.is_err(), "the NIC must be there after the update");
}

#[test]
fn each_change_says_when_it_takes_effect() {
    let config = created(json!({"ram": 512, "nics": [{"nic_tag": "admin", "mac": "02:08:20:00:00:01", "ips": ["10.0.0.1/24"]}]}));
    let mac = "02:08:20:00:00:01".parse().unwrap();
    let changes = |change| try_update(&config, change).unwrap().changes;
    assert_eq!(changes(json!({"alias": "x"})), [Change::Stored]);
    assert_eq!(changes(json!({"ram": 1024})), [Change::Memory, Change::Tmpfs { resize: true }]);
    assert_eq!(changes(json!({"tmpfs": 0})), [Change::Tmpfs { resize: false }]);
    assert_eq!(changes(json!({"update_nics": [{"mac": "2:8:20:0:0:1", "ips": []}]})), [Change::NicsChanged(vec![mac])]);
    assert_eq!(changes(json!({"remove_nics": ["2:8:20:0:0:1"]})), [Change::NicsRemoved(vec![mac])]);
    assert_eq!(changes(json!({"set_customer_metadata": {"a": 1}})), [Change::Metadata]);
    assert_eq!(Change::Tmpfs { resize: false }.effect(), Effect::NextBoot);
    assert_eq!(Change::NicFilters(vec![mac]).effect(), Effect::Live);
    assert!(try_update(&config, json!({"add_nics": [{"nic_tag": "admin"}]})).unwrap().nics_came_or_went());
    assert!(!try_update(&config, json!({"cpu_cap": 5})).unwrap().needs_reboot());
}
