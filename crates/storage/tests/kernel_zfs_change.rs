//! Changes of an instance's dataset in a real pool: properties, another image.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod bed;

use std::fs;

use bed::{Bed, quota, run};
use triton_storage::{CloneOptions, StorageError};
use triton_types::{ImageUuid, InstanceUuid};

/// instances cases 30, 31
#[test]
fn properties_are_set_and_go_back_to_none() {
    let Some(bed) = Bed::new() else { return };
    let (image, instance) = (bed.image(), InstanceUuid::random());
    bed.storage().clone_image(image, instance, &quota(64)).unwrap();
    let shown = || {
        let dataset = format!("{}/{instance}", bed.pool);
        run("zfs", &["get", "-H", "-p", "-o", "value", "quota,compression,recordsize,filesystem_limit,snapshot_limit,devices", &dataset])
    };
    let options = CloneOptions {
        quota_mib: Some(13 << 10),
        compression: Some("lz4".to_owned()),
        recordsize: Some(8192),
        filesystem_limit: Some(0),
        snapshot_limit: Some(11),
    };
    bed.storage().configure(instance, &options).unwrap();
    assert_eq!(shown(), format!("{}\nlz4\n8192\n0\n11\noff\n", 13_u64 << 30));
    bed.storage().configure(instance, &CloneOptions::default()).unwrap();
    let none = shown();
    let none: Vec<&str> = none.lines().collect();
    assert_eq!((none[0], none[1], none[2], none[5]), ("0", "off", "131072", "off"));
    for limit in &none[3..5] {
        assert!(["none", "18446744073709551615"].contains(limit), "{none:?}");
    }
    assert!(bed.storage().describe(instance).unwrap().contains("recordsize\t131072"));
}

/// instances case 70
#[test]
fn a_root_is_replaced_and_what_is_kept_is_kept() {
    let Some(bed) = Bed::new() else { return };
    let (one, two, instance) = (bed.image(), bed.image(), InstanceUuid::random());
    let storage = bed.storage();
    storage.clone_image(one, instance, &quota(64)).unwrap();
    fs::write(storage.root(instance).join("old"), "old").unwrap();
    fs::write(storage.zonepath(instance).join("config/tags.json"), "{}").unwrap();
    fs::create_dir_all(storage.zonepath(instance).join("volumes/v")).unwrap();
    fs::write(storage.zonepath(instance).join("volumes/v/file"), "kept").unwrap();
    storage.snapshot(instance, &"s".parse().unwrap()).unwrap();
    assert!(matches!(storage.replace_root(instance, ImageUuid::random(), &quota(64)), Err(StorageError::NotFound { .. })));
    assert!(storage.root(instance).join("old").exists(), "nothing changed");
    storage.replace_root(instance, two, &quota(32)).unwrap();
    assert!(!storage.root(instance).join("old").exists() && storage.root(instance).join("etc/data").exists());
    assert_eq!(fs::read_to_string(storage.zonepath(instance).join("volumes/v/file")).unwrap(), "kept");
    assert!(storage.zonepath(instance).join("config/tags.json").exists());
    assert!(storage.snapshots(instance).unwrap().is_empty());
    assert_eq!((storage.image_clones(one).unwrap().len(), storage.image_clones(two).unwrap()), (0, vec![instance.to_string()]));
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, Some(32 << 20));
    assert_eq!(storage.instances().unwrap(), [instance]);
    storage.destroy_instance(instance).unwrap();
}

#[test]
fn a_replacement_that_was_killed_between_its_renames_is_completed() {
    let Some(bed) = Bed::new() else { return };
    let (one, two, instance) = (bed.image(), bed.image(), InstanceUuid::random());
    let storage = bed.storage();
    storage.clone_image(one, instance, &quota(64)).unwrap();
    fs::write(storage.zonepath(instance).join("config/tags.json"), "{}").unwrap();
    let [place, new, old] = [String::new(), "-reprovisioning".to_owned(), "-reprovisioning-root".to_owned()]
        .map(|suffix| format!("{}/{instance}{suffix}", bed.pool));
    // As a call leaves it that was killed after the old root left its place.
    run("zfs", &["clone", "-o", "canmount=noauto", &format!("{}/{two}@final", bed.pool), &new]);
    run("zfs", &["unmount", &place]);
    run("zfs", &["rename", &place, &old]);
    assert!(!storage.instance_exists(instance).unwrap());
    storage.replace_root(instance, two, &quota(64)).unwrap();
    assert!(storage.root(instance).join("etc/data").exists());
    assert_eq!(storage.image_clones(two).unwrap(), [instance.to_string()]);
    assert!(storage.image_clones(one).unwrap().is_empty(), "the old root is gone");
    // One that was begun and never came so far is destroyed with the instance.
    run("zfs", &["clone", "-o", "canmount=noauto", &format!("{}/{one}@final", bed.pool), &new]);
    storage.destroy_instance(instance).unwrap();
    storage.delete_image(one).unwrap();
}
