//! Storage in a pool of OpenZFS that each test makes on a file. On a machine without the module, that ZFS cannot be chosen
//! is all there is to judge.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod bed;

use std::{fs, io::Cursor, os::unix::fs::MetadataExt, process::Command};

use bed::{Bed, quota, run};
use triton_files::Layout;
use triton_storage::{Storage, StorageError};
use triton_types::{ImageUuid, InstanceUuid};

#[test]
fn an_image_is_committed_listed_cloned_and_not_deleted_under_a_clone() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let image = bed.image();
    assert!(storage.image_exists(image).unwrap() && !storage.image_partial_exists(image).unwrap());
    let listed = storage.images().unwrap();
    assert_eq!(listed.iter().map(|one| (one.uuid, one.origin)).collect::<Vec<_>>(), [(image, None)]);
    let age = triton_types::Timestamp::now().as_millis() - listed[0].created_at.as_millis();
    assert!((-2_000..600_000).contains(&age), "the time of creation is in seconds since 1970: {age} ms ago");
    assert!(matches!(storage.begin_image(image, None), Err(StorageError::Exists { .. })));

    let instance = InstanceUuid::random();
    storage.clone_image(image, instance, &quota(64)).unwrap();
    assert!(storage.instance_exists(instance).unwrap());
    assert_eq!(storage.instances().unwrap(), [instance]);
    assert_eq!(fs::read(storage.root(instance).join("etc/data")).unwrap().len(), 1 << 20, "the clone is mounted");
    let config = fs::metadata(bed.at(&format!("{instance}/config"))).unwrap();
    assert_eq!(config.mode() & 0o7777, 0o700);
    let device = run("zfs", &["get", "-H", "-o", "value", "devices,canmount,origin", &format!("{}/{instance}", bed.pool)]);
    assert_eq!(device, format!("off\nnoauto\n{}/{image}@final\n", bed.pool));
    assert_eq!(storage.image_clones(image).unwrap(), [instance.to_string()]);
    assert!(matches!(storage.delete_image(image), Err(StorageError::InUse { .. })));
    assert!(matches!(storage.clone_image(image, instance, &quota(64)), Err(StorageError::Exists { .. })));

    storage.destroy_instance(instance).unwrap();
    storage.destroy_instance(instance).unwrap();
    assert!(!bed.at(&instance.to_string()).join("root").exists());
    storage.delete_image(image).unwrap();
    assert!(storage.images().unwrap().is_empty() && storage.instances().unwrap().is_empty());
}

#[test]
fn a_quota_bites_and_can_be_changed() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(4)).unwrap();
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, Some(4 << 20));
    assert!(storage.usage(instance).unwrap().enforced);
    // Bytes that do not compress.
    let mut seed = 88_172_645_463_325_252u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    })
    .take(4 << 20)
    .collect();
    // ZFS counts when it writes out: a write may pass the quota by what is in flight, a later one does not.
    let refused = (0..6).any(|number| {
        let file = storage.root(instance).join(format!("big{number}"));
        let refused = fs::write(&file, &noise).is_err_and(|error| error.raw_os_error() == Some(nix::libc::EDQUOT));
        run("sync", &["-f", storage.root(instance).to_str().unwrap()]);
        refused
    });
    assert!(refused, "24 MiB went into a quota of 4 MiB");
    storage.set_quota(instance, None).unwrap();
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, None);
    fs::write(storage.root(instance).join("more"), &noise).unwrap();
    assert_eq!(storage.usages().unwrap().keys().copied().collect::<Vec<_>>(), [instance]);
}

/// Agents read an instance's files when they hear that it changes: a deletion waits for them, and names who stays.
#[test]
fn a_deletion_waits_for_who_reads_and_names_who_stays() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    let open = || fs::File::open(storage.root(instance).join("etc/data")).unwrap();
    let staying = open();
    let error = storage.destroy_instance(instance).unwrap_err();
    assert!(error.to_string().contains(&format!("({})", std::process::id())), "{error}");
    assert!(storage.instance_exists(instance).unwrap());
    drop(staying);
    storage.mount_instance(instance).unwrap();
    let reading = open();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            drop(reading);
        });
        storage.destroy_instance(instance).unwrap();
    });
    assert!(!storage.instance_exists(instance).unwrap());
}

/// instances cases 68 and 87
#[test]
fn snapshots_and_datasets_of_others_are_not_listed() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, ignored, instance) = (bed.image(), bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    storage.snapshot(instance, &"ours".parse().unwrap()).unwrap();
    run("zfs", &["snapshot", &format!("{}/{instance}@foo", bed.pool)]);
    let names: Vec<String> = storage.snapshots(instance).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["ours"]);

    run("zfs", &["set", "imgadm:ignore=true", &format!("{}/{ignored}", bed.pool)]);
    // An instance's own dataset with a snapshot of that name is no image.
    run("zfs", &["snapshot", &format!("{}/{instance}@final", bed.pool)]);
    fs::write(Layout::new(&bed.root).machine(instance), "{}").unwrap();
    let images: Vec<ImageUuid> = storage.images().unwrap().iter().map(|one| one.uuid).collect();
    assert_eq!(images, [image]);
}

#[test]
fn snapshots_are_made_listed_rolled_back_to_and_deleted() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    let file = storage.root(instance).join("state");
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    fs::write(&file, "one").unwrap();
    storage.snapshot(instance, &one).unwrap();
    assert!(matches!(storage.snapshot(instance, &one), Err(StorageError::Exists { .. })));
    fs::write(&file, "two").unwrap();
    storage.snapshot(instance, &two).unwrap();
    fs::write(&file, "three").unwrap();
    let names: Vec<String> = storage.snapshots(instance).unwrap().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names.len(), 2, "@install is none of the user's: {names:?}");
    storage.rollback(instance, &one).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert_eq!(storage.snapshots(instance).unwrap().len(), 1, "newer ones are gone");
    assert!(matches!(storage.rollback(instance, &two), Err(StorageError::NotFound { .. })));
    storage.delete_snapshot(instance, &one).unwrap();
    assert!(matches!(storage.delete_snapshot(instance, &one), Err(StorageError::NotFound { .. })));
}

/// A list that was asked for once is told again, so every way in which it can become another has to be seen.
#[test]
fn snapshots_are_those_of_zfs_whoever_changed_them() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    let dataset = format!("{}/{instance}", bed.pool);
    let file = storage.root(instance).join("state");
    let check = |what: &str| {
        let text = run("zfs", &["list", "-Hp", "-d", "1", "-t", "snapshot", "-o", "name,referenced", &dataset]);
        let mut truth: Vec<(String, u64)> = text
            .lines()
            .filter_map(|line| line.split_once("@vmsnap-")?.1.split_once('\t'))
            .map(|(name, referenced)| (name.to_owned(), referenced.parse().unwrap()))
            .collect();
        truth.sort();
        for _ in 0..2 {
            let mut told: Vec<_> =
                storage.snapshots(instance).unwrap().iter().map(|info| (info.name.to_string(), info.size_bytes)).collect();
            told.sort();
            assert_eq!(told, truth, "{what}");
        }
        let all = storage.all_snapshots().unwrap();
        assert_eq!(all.get(&instance).map_or(0, Vec::len), truth.len(), "{what}: in the list of all");
        truth.len()
    };
    let at = |name: &str| format!("{dataset}@vmsnap-{name}");
    assert_eq!(check("none"), 0);
    run("zfs", &["snapshot", &at("a")]);
    assert_eq!(check("one made by hand"), 1);
    run("zfs", &["rename", &at("a"), &at("b")]);
    assert_eq!(check("another name"), 1);
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    run("zfs", &["destroy", &at("b")]);
    run("zfs", &["snapshot", &at("b")]);
    assert_eq!(check("made anew under its name"), 1);
    run("zfs", &["snapshot", &at("c")]);
    assert_eq!(check("two"), 2);
    run("zfs", &["rollback", "-r", &at("b")]);
    assert_eq!(check("rolled back"), 1);
    run("zfs", &["unmount", &dataset]);
    run("zfs", &["snapshot", &at("d")]);
    assert_eq!(check("while it is not mounted"), 2);
    storage.mount_instance(instance).unwrap();
    assert_eq!(check("mounted again"), 2);
    run("zfs", &["destroy", &format!("{}%vmsnap-d", at("b"))]);
    assert_eq!(check("all destroyed"), 0);
}

#[test]
fn a_held_instance_is_indestructible_until_it_is_released() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let (image, instance) = (bed.image(), InstanceUuid::random());
    storage.clone_image(image, instance, &quota(64)).unwrap();
    assert!(!storage.indestructible(instance).unwrap());
    for _ in 0..2 {
        storage.set_indestructible(instance, true).unwrap();
    }
    assert!(storage.indestructible(instance).unwrap());
    assert!(matches!(storage.destroy_instance(instance), Err(StorageError::Indestructible(_))));
    // instances case 69: a hold that somebody put there by hand is released with ours.
    run("zfs", &["hold", "by_hand", &format!("{}/{instance}@install", bed.pool)]);
    for _ in 0..2 {
        storage.set_indestructible(instance, false).unwrap();
    }
    assert!(!storage.indestructible(instance).unwrap());
    storage.destroy_instance(instance).unwrap();
    assert!(!storage.instance_exists(instance).unwrap());
}

#[test]
fn a_zfs_stream_becomes_an_image_whatever_its_snapshot_was_called() {
    let Some(bed) = Bed::new() else { return };
    let storage = bed.storage();
    let source = bed.image();
    for words in [&["send"][..], &["send", "-R"]] {
        let snapshot = format!("{}/{source}@final", bed.pool);
        let output = Command::new("zfs").args(words).arg(&snapshot).output().unwrap();
        let image = ImageUuid::random();
        storage.receive_image(image, None, &mut Cursor::new(output.stdout)).unwrap();
        assert!(storage.image_partial_exists(image).unwrap() && !storage.image_exists(image).unwrap());
        storage.commit_image(image).unwrap();
        let instance = InstanceUuid::random();
        storage.clone_image(image, instance, &quota(64)).unwrap();
        assert_eq!(fs::read(storage.root(instance).join("etc/data")).unwrap().len(), 1 << 20, "{words:?}");
    }
    // instances case 80
    let dated = format!("{}/{source}@20140101", bed.pool);
    run("zfs", &["snapshot", &dated]);
    let image = ImageUuid::random();
    let stream = Command::new("zfs").args(["send", &dated]).output().unwrap().stdout;
    storage.receive_image(image, None, &mut Cursor::new(stream)).unwrap();
    storage.commit_image(image).unwrap();
    let snapshots = run("zfs", &["list", "-H", "-t", "snapshot", "-o", "name", &format!("{}/{image}", bed.pool)]);
    assert_eq!(snapshots, format!("{}/{image}@final\n", bed.pool));
    // With both of its snapshots it is refused, and nothing is left.
    let both = Command::new("zfs").args(["send", "-R", &dated]).output().unwrap().stdout;
    let image = ImageUuid::random();
    let refused = storage.receive_image(image, None, &mut Cursor::new(both));
    assert!(matches!(refused, Err(StorageError::UnexpectedNumberOfSnapshots { count: 2, .. })), "{refused:?}");
    assert!(!storage.image_partial_exists(image).unwrap());

    let broken = ImageUuid::random();
    assert!(storage.receive_image(broken, None, &mut Cursor::new(b"no stream".to_vec())).is_err());
    assert!(!storage.image_partial_exists(broken).unwrap(), "nothing is left of it");
}

#[test]
fn a_pool_that_is_gone_is_an_error_and_no_empty_list() {
    let Some(mut bed) = Bed::new() else { return };
    let status = bed.storage().pool_status().unwrap();
    assert_eq!(status.health, "ONLINE");
    assert!(status.size_bytes > 100 << 20 && status.used_bytes + status.available_bytes == status.size_bytes, "{status:?}");
    run("zpool", &["export", &bed.pool]);
    assert!(matches!(bed.storage().check(), Err(StorageError::PoolMissing { .. })));
    assert!(bed.storage().instances().is_err() && bed.storage().images().is_err());
    assert!(matches!(Storage::open(&Layout::new(&bed.root)), Err(StorageError::PoolMissing { .. })));
    bed.storage = None;
}
