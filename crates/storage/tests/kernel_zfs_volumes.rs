//! Private volumes of instances in a real pool: datasets of their own, below the instance's.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod bed;

use std::{fs, path::Path};

use bed::{Bed, quota, run};
use triton_storage::StorageError;
use triton_types::{InstanceUuid, VolumeUuid};

fn get(dataset: &str, properties: &str) -> String {
    run("zfs", &["get", "-H", "-o", "value", properties, dataset]).replace('\n', " ").trim_end().to_owned()
}

/// instances section 2.5
#[test]
fn a_volume_is_a_dataset_that_is_mounted_with_its_instance_and_destroyed_with_it() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance, volume) = (bed.image(), InstanceUuid::random(), VolumeUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    let path = storage.make_volume(instance, volume).unwrap();
    assert_eq!(path, bed.at(&format!("{instance}/volumes/{volume}")));
    let own = format!("{}/{instance}", bed.pool);
    let dataset = format!("{own}/volumes/{volume}");
    assert_eq!(get(&dataset, "mounted,devices,canmount"), "yes off noauto");
    assert_eq!(get(&format!("{own}/volumes"), "mounted,canmount"), "no off");
    fs::write(path.join("file"), "mine").unwrap();
    assert_eq!(storage.make_volume(instance, volume).unwrap(), path, "once more is no error");
    // The instance's quota is that of everything below it.
    assert!(storage.usage(instance).unwrap().used_bytes > 0 && get(&dataset, "quota") == "none");
    storage.make_durable(instance).unwrap();
    // As after a boot of the node, when nothing is mounted.
    run("zfs", &["unmount", &dataset]);
    run("zfs", &["unmount", &own]);
    storage.mount_instance(instance).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "mine");
    storage.mount_instance(instance).unwrap();
    assert_eq!(storage.instances().unwrap(), [instance], "a volume is no instance");
    storage.destroy_instance(instance).unwrap();
    assert!(!path.exists() && !storage.instance_exists(instance).unwrap());
}

/// instances sections 2.5 and 6.5, case 67
#[test]
fn snapshots_and_a_roll_back_are_of_the_volumes_too() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    let (early, late) = (VolumeUuid::random(), VolumeUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    let path = storage.make_volume(instance, early).unwrap();
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    let write = |text: &str| {
        fs::write(path.join("file"), text).unwrap();
        fs::write(storage.root(instance).join("file"), text).unwrap();
    };
    write("one");
    storage.snapshot(instance, &one).unwrap();
    assert!(matches!(storage.snapshot(instance, &one), Err(StorageError::Exists { .. })));
    let added = storage.make_volume(instance, late).unwrap();
    fs::write(added.join("file"), "late").unwrap();
    write("two");
    storage.snapshot(instance, &two).unwrap();
    write("three");
    let names: Vec<String> = storage.snapshots(instance).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["two", "one"], "each once");
    assert_eq!(storage.all_snapshots().unwrap()[&instance].len(), 2);
    let read = |path: &Path| fs::read_to_string(path.join("file")).unwrap();
    storage.rollback(instance, &one).unwrap();
    assert_eq!((read(&path), read(&storage.root(instance))), ("one".to_owned(), "one".to_owned()));
    assert_eq!(read(&added), "late", "one that was made later stays, and is mounted");
    storage.delete_snapshot(instance, &one).unwrap();
    let left = run("zfs", &["list", "-H", "-r", "-t", "snapshot", "-o", "name", &format!("{}/{instance}/volumes/{early}", bed.pool)]);
    assert_eq!(left, "");
}

/// instances case 70
#[test]
fn another_root_keeps_the_volumes() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (one, two, instance, volume) = (bed.image(), bed.image(), InstanceUuid::random(), VolumeUuid::random());
    storage.clone_image(one, instance, &quota(64)).unwrap();
    let path = storage.make_volume(instance, volume).unwrap();
    fs::write(path.join("file"), "kept").unwrap();
    // One of before volumes were datasets.
    fs::create_dir(path.with_file_name("plain")).unwrap();
    fs::write(path.with_file_name("plain").join("file"), "kept too").unwrap();
    storage.replace_root(instance, two, &quota(64)).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(path.with_file_name("plain").join("file")).unwrap(), "kept too");
    assert_eq!(get(&format!("{}/{instance}/volumes/{volume}", bed.pool), "mounted"), "yes");
    assert_eq!(storage.image_clones(two).unwrap(), [instance.to_string()]);
    assert!(storage.image_clones(one).unwrap().is_empty());
}

/// instances section 2.5: what was a directory before this version stays one, and a copy from elsewhere gets datasets.
#[test]
fn a_directory_stays_one_and_a_received_instance_has_datasets() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, old, new, volume) = (bed.image(), InstanceUuid::random(), InstanceUuid::random(), VolumeUuid::random());
    storage.clone_image(image, old, &quota(64)).unwrap();
    let path = storage.zonepath(old).join(format!("volumes/{volume}"));
    fs::create_dir_all(&path).unwrap();
    assert_eq!(storage.make_volume(old, volume).unwrap(), path);
    let names = run("zfs", &["list", "-H", "-r", "-o", "name", &format!("{}/{old}", bed.pool)]);
    assert_eq!(names, format!("{}/{old}\n", bed.pool));

    let mut fill = |path: &Path| -> Result<(), StorageError> {
        fs::create_dir(path.join("root")).unwrap();
        fs::create_dir(path.join("config")).unwrap();
        fs::write(path.join(format!("volumes/{volume}/file")), "theirs").unwrap();
        Ok(())
    };
    storage.create_instance(new, &quota(64), &[volume], &mut fill).unwrap();
    let dataset = format!("{}/{new}/volumes/{volume}", bed.pool);
    assert_eq!(get(&dataset, "mounted"), "yes");
    assert_eq!(fs::read_to_string(bed.at(&format!("{new}/volumes/{volume}/file"))).unwrap(), "theirs");
}
