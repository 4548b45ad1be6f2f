//! Copies of an instance in another pool, brought up to date by streams: the storage side of a migration (cn-agent.md section 3.12).
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod bed;

use std::{fs, io::Cursor, process::Command};

use bed::{Bed, quota, run};
use triton_storage::{DataOptions, Plan, Points, StorageError, plan_copy};
use triton_types::{ImageUuid, InstanceUuid, VolumeUuid};

/// One synchronisation; gives its plan and the bytes that went.
fn sync(from: &Bed, to: &Bed, instance: InstanceUuid, mark: &str, data: Option<&DataOptions>) -> (Plan, usize) {
    let (source, target) = (from.storage(), to.storage());
    source.mark_for_copy(instance, mark).unwrap();
    let image = source.origin(instance).unwrap().filter(|(image, guid)| target.has_image(*image, *guid).unwrap()).map(|(image, _)| image);
    let plan = plan_copy(&source.points(instance).unwrap(), &target.points(instance).unwrap(), image);
    let mut bytes = 0;
    for part in &plan.parts {
        let mut stream = Vec::new();
        source.send_part(instance, part, &mut stream).unwrap();
        bytes += stream.len();
        target.receive_part(instance, part, &mut Cursor::new(stream)).unwrap();
    }
    target.complete_copy(instance, &quota(64), data).unwrap();
    for storage in [source, target] {
        storage.forget_marks(instance, 1).unwrap();
    }
    (plan, bytes)
}

/// The same image, to the bit, in another pool.
fn share(image: ImageUuid, from: &Bed, to: &Bed) {
    let stream = Command::new("zfs").args(["send", &format!("{}/{image}@final", from.pool)]).output().unwrap().stdout;
    to.storage().receive_image(image, None, &mut Cursor::new(stream)).unwrap();
    to.storage().commit_image(image).unwrap();
}

#[test]
fn a_copy_has_everything_and_later_only_what_changed_is_sent() {
    let (Some(one), Some(two)) = (Bed::new(), Bed::new()) else { return };
    let (source, target) = (one.storage(), two.storage());
    let (image, instance, volume) = (one.image(), InstanceUuid::random(), VolumeUuid::random());
    share(image, &one, &two);
    source.clone_image(image, instance, &quota(64)).unwrap();
    let theirs = source.make_volume(instance, volume).unwrap();
    fs::write(theirs.join("file"), "one").unwrap();
    fs::write(source.root(instance).join("file"), "one").unwrap();
    source.snapshot(instance, &"user".parse().unwrap()).unwrap();
    fs::write(source.root(instance).join("file"), "two").unwrap();

    let (plan, bytes) = sync(&one, &two, instance, "1", None);
    assert_eq!((plan.anew, plan.parts[0].origin), (false, Some(image)));
    assert!(bytes < 1 << 20, "what is the image's is not sent: {bytes}");
    assert_eq!(target.image_clones(image).unwrap(), [instance.to_string()]);
    let copied = two.at(&format!("{instance}/volumes/{volume}/file"));
    assert_eq!(fs::read_to_string(target.root(instance).join("file")).unwrap(), "two");
    assert_eq!(fs::read_to_string(&copied).unwrap(), "one");
    assert_eq!(fs::read(target.root(instance).join("etc/data")).unwrap().len(), 1 << 20);
    let names = |storage: &triton_storage::Storage| -> Vec<String> {
        storage.snapshots(instance).unwrap().iter().map(|info| info.name.to_string()).collect()
    };
    assert_eq!((names(source), names(target)), (vec!["user".to_owned()], vec!["user".to_owned()]));
    let shown = run("zfs", &["get", "-H", "-p", "-o", "value", "devices,canmount,quota", &format!("{}/{instance}", two.pool)]);
    assert_eq!(shown, format!("off\nnoauto\n{}\n", 64 << 20));

    // What was changed in the copy is lost, what was changed in the original comes.
    fs::write(target.root(instance).join("file"), "mine").unwrap();
    fs::write(&copied, "mine").unwrap();
    fs::write(source.root(instance).join("file"), "three").unwrap();
    let added = VolumeUuid::random();
    fs::write(source.make_volume(instance, added).unwrap().join("file"), "added").unwrap();
    source.snapshot(instance, &"later".parse().unwrap()).unwrap();
    let (plan, later) = sync(&one, &two, instance, "2", None);
    assert!(!plan.anew && plan.parts[0].from.is_some() && later < bytes, "{plan:?}: {later} of {bytes}");
    assert_eq!(fs::read_to_string(target.root(instance).join("file")).unwrap(), "three");
    assert_eq!(fs::read_to_string(&copied).unwrap(), "one");
    assert_eq!(fs::read_to_string(two.at(&format!("{instance}/volumes/{added}/file"))).unwrap(), "added");
    assert_eq!(names(target), ["later", "user"]);
    // One mark is kept on each node, and goes with the migration's cleanup.
    let marks = |bed: &Bed| {
        let all = run("zfs", &["list", "-H", "-r", "-t", "snapshot", "-o", "name", &format!("{}/{instance}", bed.pool)]);
        all.lines().filter(|name| name.contains("@vm-migration-")).count()
    };
    assert_eq!((marks(&one), marks(&two)), (3, 3));
    source.forget_marks(instance, 0).unwrap();
    assert_eq!(marks(&one), 0);
    // The snapshot that both have since the creation is enough.
    let (plan, _) = sync(&one, &two, instance, "3", None);
    assert!(!plan.anew, "{plan:?}");
    // A copy of something else is of no use.
    source.destroy_instance(instance).unwrap();
    source.clone_image(image, instance, &quota(64)).unwrap();
    source.mark_for_copy(instance, "4").unwrap();
    let plan = plan_copy(&source.points(instance).unwrap(), &target.points(instance).unwrap(), None);
    assert!(plan.anew && plan.parts[0].from.is_none(), "{plan:?}");
    target.destroy_instance(instance).unwrap();
    assert_eq!(target.points(instance).unwrap(), Points::new());
}

/// instances section 7.6: what the guest made in its dataset comes with it.
#[test]
fn the_dataset_of_a_guest_comes_with_all_that_is_below_it() {
    let (Some(one), Some(two)) = (Bed::new(), Bed::new()) else { return };
    let (image, instance) = (one.image(), InstanceUuid::random());
    one.storage().clone_image(image, instance, &quota(64)).unwrap();
    let options = DataOptions { compression: Some("lz4".to_owned()), recordsize: None };
    one.storage().create_data(instance, &options).unwrap();
    let [data, copy] = [&one, &two].map(|bed| format!("{}/{instance}/data", bed.pool));
    run("zfs", &["create", "-o", "atime=off", &format!("{data}/db")]);
    run("zfs", &["snapshot", &format!("{data}/db@guests")]);
    let (plan, _) = sync(&one, &two, instance, "1", Some(&options));
    assert_eq!(plan.parts[0].origin, None, "the target has no such image");
    let shown = run("zfs", &["get", "-H", "-o", "value", "zoned,compression,mounted", &copy]);
    assert_eq!(shown, "on\nlz4\nno\n");
    assert_eq!(run("zfs", &["get", "-H", "-o", "value", "atime", &format!("{copy}/db")]), "off\n");
    run("zfs", &["destroy", &format!("{data}/db@guests")]);
    run("zfs", &["create", &format!("{data}/new")]);
    run("zfs", &["snapshot", &format!("{data}@after")]);
    sync(&one, &two, instance, "2", Some(&options));
    let all = run("zfs", &["list", "-H", "-r", "-t", "all", "-o", "name", &copy]);
    assert!(all.contains(&format!("{copy}/new\n")) && all.contains(&format!("{copy}@after\n")) && !all.contains("@guests"), "{all}");
}

#[test]
fn a_stream_for_a_snapshot_that_the_copy_lacks_changes_nothing() {
    let (Some(one), Some(two)) = (Bed::new(), Bed::new()) else { return };
    let (image, instance) = (one.image(), InstanceUuid::random());
    one.storage().clone_image(image, instance, &quota(64)).unwrap();
    let (mut plan, _) = sync(&one, &two, instance, "1", None);
    let mut part = plan.parts.pop().unwrap();
    fs::write(two.storage().root(instance).join("file"), "kept").unwrap();
    part.from = Some(triton_storage::Point { name: "install".to_owned(), guid: 7 });
    let refused = two.storage().receive_part(instance, &part, &mut Cursor::new(b"nothing".to_vec()));
    assert!(matches!(refused, Err(StorageError::NotFound { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(two.storage().root(instance).join("file")).unwrap(), "kept");
    part.place = "../other".to_owned();
    assert!(two.storage().receive_part(instance, &part, &mut Cursor::new(Vec::new())).is_err());
}
