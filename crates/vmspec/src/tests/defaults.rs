use serde_json::json;

use crate::{PayloadError, create, testing::*};

/// instances case 16
#[test]
fn unknown_keys_are_dropped_with_a_warning() {
    let more = json!({"image": {"v": 2}, "firewall_rules": [1], "nics": [{"nic_tag": "admin", "belongs_to_uuid": "x", "model": "virtio"}]});
    let created = try_create(more).unwrap();
    let text = json(&created.config).to_string();
    for key in ["\"image\"", "firewall_rules", "belongs_to_uuid", "model"] {
        assert!(!text.contains(key), "{key} in {text}");
    }
    assert_eq!(created.warnings.len(), 3, "{:?}", created.warnings);
    assert!(created.warnings.iter().any(|w| w.contains("nics.*.belongs_to_uuid")));
}

/// instances case 17
#[test]
fn ram_is_another_name_of_physical_memory_at_creation() {
    let config = json(&created(json!({"ram": "512"})));
    for key in ["max_physical_memory", "max_locked_memory", "max_swap", "tmpfs", "max_shm_memory"] {
        assert_eq!(config[key], json!(512), "{key}");
    }
    assert!(config.get("ram").is_none());
    assert_eq!(created(json!({"ram": 512, "max_physical_memory": 1024})).max_physical_memory, Some(1024));
}

/// instances case 18
#[test]
fn what_is_not_said_gets_the_default() {
    let mut config = json(&created(json!({})));
    let zero = "00000000-0000-0000-0000-000000000000";
    let expected = json!({
        "uuid": UUID, "brand": "lx", "image_uuid": LX, "autoboot": true, "owner_uuid": zero, "billing_id": zero, "dns_domain": "local",
        "cpu_shares": 100, "max_physical_memory": 256, "max_locked_memory": 256, "max_swap": 256, "max_lwps": 2000,
        "max_shm_memory": 256, "max_msg_ids": 4096, "max_sem_ids": 4096, "max_shm_ids": 4096, "tmpfs": 256, "quota": 10,
        "zfs_io_priority": 100, "zfs_root_recsize": 131_072, "firewall_enabled": false, "resolvers": [], "limit_priv": "default",
        "zpool": "zones", "create_timestamp": "2026-03-01T10:22:31.412Z",
    });
    assert_eq!(config.take(), expected);
    let created = try_create(json!({})).unwrap();
    assert_eq!((created.nowait, created.mdata_exec_timeout, created.warnings.len()), (false, 300, 0));
    let created = try_create(json!({"nowait": true, "mdata_exec_timeout": 0})).unwrap();
    assert_eq!((created.nowait, created.mdata_exec_timeout), (true, 0));
}

/// instances cases 19, 20, 8
#[test]
fn numbers_are_brought_into_their_bounds() {
    assert_eq!(created(json!({"max_physical_memory": 128})).max_swap, Some(256));
    assert_eq!(created(json!({"cpu_shares": 70000})).cpu_shares, Some(65535));
    assert_eq!(created(json!({"cpu_cap": "300"})).cpu_cap, Some(300));
    assert_eq!(created(json!({"cpu_cap": 0})).cpu_cap, None);
    assert_eq!(created(json!({"tmpfs": 0})).tmpfs, Some(0));
}

/// instances case 21
#[test]
fn a_uuid_is_used_once() {
    let world = TestWorld { exists: vec![UUID.parse().unwrap()], ..TestWorld::default() };
    let error = create(payload(json!({})), &world, now()).unwrap_err();
    assert_eq!(error.to_string(), format!("VM with UUID {UUID} already exists"));
    assert_eq!(error.fields(), ["uuid"]);
    let mut anonymous = payload(json!({}));
    anonymous.remove("uuid");
    let world = TestWorld::default();
    let (a, b) = (create(anonymous.clone(), &world, now()).unwrap(), create(anonymous, &world, now()).unwrap());
    assert_ne!(a.config.uuid, b.config.uuid, "a missing uuid is generated");
}

/// instances case 23
#[test]
fn errors_list_the_properties_in_the_order_of_the_payload() {
    let error = try_create(json!({"cpu_cap": 3.25, "alias": 7, "max_lwps": "1x", "vcpus": 9_007_199_254_740_992_u64})).unwrap_err();
    assert_eq!(error.to_string(), "Invalid value(s) for: cpu_cap,alias,max_lwps,vcpus");
    assert_eq!(error.fields(), ["cpu_cap", "alias", "max_lwps", "vcpus"]);
    let error = try_create(json!({"nics": [{}]})).unwrap_err();
    assert_eq!(error.to_string(), "Missing required properties: nics.*.nic_tag");
}

#[test]
fn a_quota_of_a_part_of_a_gib_is_kept_as_given() {
    let config = created(json!({"quota": 12.2}));
    assert_eq!((json(&config)["quota"].clone(), config.quota.unwrap().mib()), (json!(12.2), Some(12493)));
    let config = created(json!({"quota": "0.5"}));
    assert_eq!(config.quota.unwrap().mib(), Some(512));
    assert_eq!(created(json!({"quota": ""})).quota.unwrap().mib(), None);
}

#[test]
fn flags_and_lists_have_their_stored_form() {
    let config = json(&created(json!({
        "firewall_enabled": "true", "archive_on_delete": 1, "do_not_inventory": false, "restart_init": false,
        "fs_allowed": ["ufs", "tmpfs"], "limit_priv": "default,-x", "resolvers": "8.8.8.8, fd00::1", "zfs_root_compression": "off",
        "internal_metadata_namespaces": ["sdc"], "delegate_dataset": true
    })));
    assert_eq!((&config["firewall_enabled"], &config["archive_on_delete"]), (&json!(true), &json!(true)));
    assert_eq!((&config["restart_init"], config.get("do_not_inventory")), (&json!(false), None));
    assert_eq!((&config["fs_allowed"], &config["limit_priv"]), (&json!("ufs,tmpfs"), &json!("default,-x")));
    assert_eq!((&config["resolvers"], config.get("zfs_root_compression")), (&json!(["8.8.8.8", "fd00::1"]), None));
    assert_eq!((&config["delegate_dataset"], &config["internal_metadata_namespaces"]), (&json!(true), &json!(["sdc"])));
}

#[test]
fn docker_goes_with_the_images_type_and_without_it_its_keys_are_ordinary_metadata() {
    assert_eq!(try_create(json!({"docker": "true"})).unwrap_err(), PayloadError::Docker);
    let config = created(json!({"docker": false, "internal_metadata": {"docker:cmd": "[\"sh\"]"}}));
    assert_eq!(config.internal_metadata["docker:cmd"], json!("[\"sh\"]"));
    assert_eq!(try_update(&config, json!({"docker": true})).unwrap_err(), PayloadError::Docker);
    let config = created(json!({"image_uuid": OCI, "docker": "1"}));
    assert!(config.docker && !config.restart_init);
    assert_eq!(config.internal_metadata["docker:cmd"], json!("[\"/app\"]"));
    assert_eq!(try_update(&config, json!({"docker": true})).unwrap().changes, []);
    assert_eq!(try_update(&config, json!({"docker": false})).unwrap_err(), PayloadError::Docker);
    assert!(matches!(try_create(json!({"image_uuid": LAYER})).unwrap_err(), PayloadError::ImageLayer(_)));
}

/// metadata case 64
#[test]
fn a_value_of_metadata_is_a_text_a_number_or_a_truth_value() {
    let error = try_create(json!({"customer_metadata": {"hello": {"complicated": "world"}}})).unwrap_err();
    assert!(error.to_string().contains("customer_metadata"), "{error}");
    let config = created(json!({"customer_metadata": {"text": "a", "number": 3, "truth": false}}));
    assert_eq!(config.customer_metadata.len(), 3);
}

/// metadata case 65
#[test]
fn without_metadata_there_is_none() {
    let config = created(json!({}));
    assert!(config.customer_metadata.is_empty() && config.internal_metadata.is_empty() && config.internal_metadata_namespaces.is_empty());
    assert!(config.tags.is_empty() && config.routes.is_empty() && config.resolvers.is_empty());
    assert_eq!(json(&config)["dns_domain"], json!("local"));
}

/// metadata case 66
#[test]
fn docker_adds_its_namespace_and_id_to_what_there_is() {
    let config = created(json!({"image_uuid": OCI, "docker": true, "internal_metadata_namespaces": ["sdc"]}));
    assert_eq!(config.internal_metadata_namespaces.len(), 2, "{:?}", config.internal_metadata_namespaces);
    assert!(["sdc", "docker"].iter().all(|name| config.internal_metadata_namespaces.iter().any(|found| found == name)));
    assert_eq!(config.internal_metadata["docker:id"].as_str().map(str::len), Some(64));
}

/// instances case 61
#[test]
fn customer_and_internal_metadata_are_apart_and_values_keep_their_type() {
    let config = created(json!({"customer_metadata": {"k": 1, "b": true}, "internal_metadata": {"k": "two"}, "tags": {"n": 1.5}}));
    assert_eq!((&config.customer_metadata["k"], &config.internal_metadata["k"]), (&json!(1), &json!("two")));
    assert_eq!((&config.customer_metadata["b"], &config.tags["n"]), (&json!(true), &json!(1.5)));
}

#[test]
fn file_systems_need_their_source_and_volumes_get_a_path() {
    let volume = "77777777-7a0d-4f9b-8a44-6f2f0c9b7d10";
    let config = created(json!({"filesystems": [
        {"type": "lofs", "source": "/data/a", "target": "/a", "options": ["ro", "nodevice"]},
        {"type": "lofs", "source": volume, "target": "/v"},
    ]}));
    assert_eq!(config.filesystems[1].source, format!("/zones/{UUID}/volumes/{volume}"));
    let error = try_create(json!({"filesystems": [{"type": "lofs", "source": "/gone", "target": "/a"}]})).unwrap_err();
    assert_eq!(error.to_string(), "missing requested filesystem: /gone");
    let twice =
        json!({"filesystems": [{"type": "lofs", "source": "/data", "target": "/a"}, {"type": "lofs", "source": "/data", "target": "/a"}]});
    assert_eq!(try_create(twice).unwrap_err(), PayloadError::DuplicateTarget("/a".to_owned()));
    let config = updated(&config, json!({"remove_filesystems": ["/a"], "update_filesystems": [{"target": "/v", "options": ["noexec"]}]}));
    assert_eq!((config.filesystems.len(), config.filesystems[0].options.clone()), (1, vec!["noexec".to_owned()]));
    let unknown = try_update(&config, json!({"update_filesystems": [{"target": "/a", "options": []}]})).unwrap_err();
    assert_eq!(unknown, PayloadError::UnknownFilesystem("/a".to_owned()));
}
