//! The verbs of storage in directories, on the real file system.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use triton_files::Layout;
use triton_types::{IdRange, ImageUuid, InstanceUuid, Ownership, StorageKind};

use crate::{
    CloneOptions, SnapshotLabel, Storage, StorageError,
    tree::testing::{Scratch, describe, fill, with_tmpfs},
};

mod crash;
mod volumes;

pub(super) struct Node {
    pub scratch: Scratch,
    pub layout: Layout,
    pub storage: Storage,
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        Self::in_scratch(scratch)
    }

    fn in_scratch(scratch: Scratch) -> Self {
        let layout = Layout::new(&scratch.0);
        layout.prepare().unwrap();
        let storage = Storage::choose(&layout, StorageKind::Dir, "zones").unwrap();
        Self { scratch, layout, storage }
    }

    pub(super) fn pool(&self) -> PathBuf {
        self.scratch.join("zones")
    }

    /// Names in the pool that are no marker.
    pub(super) fn names(&self) -> Vec<String> {
        names(&self.pool())
    }

    pub(super) fn image(&self) -> ImageUuid {
        let image = ImageUuid::random();
        let partial = self.storage.begin_image(image, None).unwrap();
        fill(&partial.join("root"));
        fs::create_dir(partial.join("config")).unwrap();
        fs::write(partial.join("config/metadata.json"), "of another instance").unwrap();
        fs::write(partial.join("lastexited"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", partial.join("seed")).unwrap();
        std::os::unix::fs::symlink("/etc", partial.join("volumes")).unwrap();
        self.storage.commit_image(image).unwrap();
        image
    }

    pub(super) fn instance(&self, image: ImageUuid) -> InstanceUuid {
        let instance = InstanceUuid::random();
        self.storage.clone_image(image, instance, &CloneOptions::default()).unwrap();
        instance
    }
}

pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != ".triton-pool.json").collect();
    names.sort();
    names
}

fn label(text: &str) -> SnapshotLabel {
    text.parse().unwrap()
}

#[test]
fn the_choice_is_stored_and_cannot_be_changed() {
    let scratch = Scratch::new("choice");
    let layout = Layout::new(&scratch.0);
    layout.prepare().unwrap();
    let error = Storage::open(&layout).unwrap_err();
    assert!(matches!(error, StorageError::NotChosen { .. }) && error.to_string().contains("storage.json"), "{error}");
    for _ in 0..2 {
        let storage = Storage::choose(&layout, StorageKind::Dir, "zones").unwrap();
        assert_eq!((storage.kind(), storage.pool()), (StorageKind::Dir, "zones"));
    }
    for (kind, pool) in [(StorageKind::Dir, "tank"), (StorageKind::Zfs, "zones")] {
        let error = Storage::choose(&layout, kind, pool).unwrap_err();
        assert!(matches!(error, StorageError::OtherChosen { .. }), "{error}");
        assert!(error.to_string().contains("is dir in pool \"zones\""), "{error}");
    }
    assert_eq!(Storage::open(&layout).unwrap().pool(), "zones");
    assert!(!scratch.join("tank").exists());
    fs::write(layout.state().join("storage.json"), r#"{"format":2,"kind":"dir","pool":"zones"}"#).unwrap();
    assert!(matches!(Storage::open(&layout), Err(StorageError::NewerFormat { format: 2, .. })));
}

#[test]
fn names_that_are_no_pool_are_refused() {
    let scratch = Scratch::new("pools");
    let layout = Layout::new(&scratch.0);
    layout.prepare().unwrap();
    for bad in ["", "..", "a/b", "-x", ".hidden", "a b", "/etc", "mirror"] {
        assert!(matches!(Storage::choose(&layout, StorageKind::Dir, bad), Err(StorageError::InvalidPool(_))), "{bad:?}");
    }
    assert!(!layout.state().join("storage.json").exists());
}

#[test]
fn without_zfs_choosing_it_is_a_clear_error_and_nothing_is_recorded() {
    if Path::new("/dev/zfs").exists() {
        return;
    }
    let scratch = Scratch::new("no-zfs");
    let layout = Layout::new(&scratch.0);
    layout.prepare().unwrap();
    let error = Storage::choose(&layout, StorageKind::Zfs, "zones").unwrap_err().to_string();
    assert!(error.starts_with("ZFS is not available"), "{error}");
    assert!(!layout.state().join("storage.json").exists());
}

#[test]
fn a_directory_with_other_files_does_not_become_a_pool() {
    let scratch = Scratch::new("occupied");
    let layout = Layout::new(&scratch.0);
    layout.prepare().unwrap();
    fs::create_dir_all(scratch.join("zones/lost+found")).unwrap();
    fs::write(scratch.join("zones/precious"), "x").unwrap();
    let error = Storage::choose(&layout, StorageKind::Dir, "zones").unwrap_err().to_string();
    assert!(error.contains("precious"), "{error}");
    fs::remove_file(scratch.join("zones/precious")).unwrap();
    Storage::choose(&layout, StorageKind::Dir, "zones").unwrap();
}

#[test]
fn a_pool_whose_marker_is_gone_is_an_error_and_never_empty() {
    let node = Node::new("marker");
    let image = node.image();
    let instance = node.instance(image);
    fs::rename(node.pool(), node.scratch.join("unmounted")).unwrap();
    fs::create_dir(node.pool()).unwrap();
    let storage = &node.storage;
    assert!(matches!(storage.check(), Err(StorageError::PoolMissing { .. })));
    assert!(storage.images().is_err() && storage.instances().is_err() && storage.usages().is_err() && storage.pool_status().is_err());
    assert!(
        storage.image_exists(image).is_err() && storage.instance_exists(instance).is_err() && storage.destroy_instance(instance).is_err()
    );
    assert!(storage.sweep().is_err() && storage.image_partial_exists(image).is_err());
    assert!(Storage::open(&node.layout).unwrap_err().to_string().contains("is its file system mounted?"));
}

#[test]
fn an_image_is_visible_when_it_is_complete_and_not_before() {
    let node = Node::new("image");
    let (storage, image) = (&node.storage, ImageUuid::random());
    let partial = storage.begin_image(image, None).unwrap();
    assert_eq!(partial, node.pool().join(format!("{image}-partial")));
    assert_eq!((storage.image_partial_exists(image).unwrap(), storage.image_exists(image).unwrap()), (true, false));
    assert!(storage.images().unwrap().is_empty() && storage.instances().unwrap().is_empty());
    fs::write(partial.join("root/file"), vec![1; 100_000]).unwrap();
    storage.commit_image(image).unwrap();
    assert_eq!((storage.image_partial_exists(image).unwrap(), storage.image_exists(image).unwrap()), (false, true));
    let listed = storage.images().unwrap();
    assert_eq!((listed.len(), listed[0].uuid, listed[0].origin), (1, image, None));
    assert!(listed[0].used_bytes >= 100_000 && listed[0].used_bytes < 200_000, "{listed:?}");
    assert_eq!(fs::metadata(node.pool().join(image.to_string())).unwrap().mode() & 0o777, 0o700);
    assert!(matches!(storage.begin_image(image, None), Err(StorageError::Exists { .. })));
    assert!(matches!(storage.commit_image(ImageUuid::random()), Err(StorageError::NotFound { .. })));
    storage.delete_image(image).unwrap();
    assert!(node.names().is_empty(), "{:?}", node.names());
    assert!(matches!(storage.delete_image(image), Err(StorageError::NotFound { .. })));
}

#[test]
fn a_partial_is_replaced_by_the_next_import_and_discarded_on_request() {
    let node = Node::new("partial");
    let (storage, image) = (&node.storage, ImageUuid::random());
    let partial = storage.begin_image(image, None).unwrap();
    fs::write(partial.join("root/stale"), "x").unwrap();
    let partial = storage.begin_image(image, None).unwrap();
    assert!(!partial.join("root/stale").exists() && partial.join("root").is_dir());
    assert!(storage.sweep().unwrap().is_empty() && partial.exists(), "a partial is its importer's");
    storage.discard_partial(image).unwrap();
    storage.discard_partial(image).unwrap();
    assert!(node.names().is_empty());
    let partial = storage.begin_image(image, None).unwrap();
    fs::remove_dir(partial.join("root")).unwrap();
    assert!(matches!(storage.commit_image(image), Err(StorageError::NoRoot(_))));
}

#[test]
fn an_increment_begins_with_its_origins_content_and_keeps_it_in_use() {
    let node = Node::new("origin");
    let base = node.image();
    let (storage, image) = (&node.storage, ImageUuid::random());
    assert!(matches!(storage.begin_image(image, Some(ImageUuid::random())), Err(StorageError::NotFound { .. })));
    assert!(!storage.image_partial_exists(image).unwrap());
    let partial = storage.begin_image(image, Some(base)).unwrap();
    assert!(partial.join("root/bin/su").exists() && !partial.join("@final").exists());
    storage.commit_image(image).unwrap();
    assert_eq!(storage.images().unwrap().iter().find(|i| i.uuid == image).unwrap().origin, Some(base));
    let error = storage.delete_image(base).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains(&image.to_string()), "{error}");
    assert!(matches!(storage.receive_image(ImageUuid::random(), None, &mut &b""[..]), Err(StorageError::Unsupported { .. })));
}

#[test]
fn an_instance_is_the_images_root_without_its_config() {
    let node = Node::new("clone");
    let image = node.image();
    let (storage, instance) = (&node.storage, InstanceUuid::random());
    let options = CloneOptions { quota_mib: Some(10_240), compression: Some("lz4".into()), ..Default::default() };
    storage.clone_image(image, instance, &options).unwrap();
    assert_eq!(describe(&node.pool().join(image.to_string()).join("root")), describe(&storage.root(instance)));
    let zonepath = storage.zonepath(instance);
    assert_eq!(names(&zonepath), [".dataset.json", "config", "root"]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(zonepath.clone()), mode(zonepath.join("config"))), (0o711, 0o700));
    assert_eq!(fs::read_dir(zonepath.join("config")).unwrap().count(), 0);
    assert_eq!((storage.instances().unwrap(), storage.instance_exists(instance).unwrap()), (vec![instance], true));
    assert_eq!(storage.image_clones(image).unwrap(), [instance.to_string()]);
    assert!(storage.delete_image(image).unwrap_err().is_busy());
    assert!(matches!(storage.clone_image(image, instance, &options), Err(StorageError::Exists { .. })));
    let other = InstanceUuid::random();
    assert!(matches!(storage.clone_image(ImageUuid::random(), other, &options), Err(StorageError::NotFound { .. })));
    storage.mount_instance(instance).unwrap();
    assert!(storage.mount_instance(other).is_err());
    assert_eq!(storage.detect_ownership(instance).unwrap(), Ownership::Idmapped);
    let ids = IdRange { base: 2_000_000, size: 65_536 };
    storage.shift(instance, ids).unwrap();
    assert_eq!(fs::metadata(storage.root(instance)).unwrap().uid(), 2_000_000);
    assert_eq!(fs::metadata(&zonepath).unwrap().uid(), 0);
    storage.unshift(instance, ids).unwrap();
    assert_eq!(fs::metadata(storage.root(instance)).unwrap().uid(), 0);
}

#[test]
fn destroying_removes_everything_of_the_instance_and_repeats_as_success() {
    let node = Node::new("destroy");
    let image = node.image();
    let (storage, instance) = (&node.storage, node.instance(image));
    storage.snapshot(instance, &label("a")).unwrap();
    fs::create_dir(node.pool().join(format!("{instance}-cloning"))).unwrap();
    symlink("/etc", storage.root(instance).join("etc-of-the-host")).unwrap();
    storage.set_indestructible(instance, true).unwrap();
    assert!(matches!(storage.destroy_instance(instance), Err(StorageError::Indestructible(_))));
    assert!(storage.indestructible(instance).unwrap() && storage.root(instance).exists());
    storage.set_indestructible(instance, false).unwrap();
    storage.destroy_instance(instance).unwrap();
    storage.destroy_instance(instance).unwrap();
    assert_eq!(node.names(), [".snapshots", image.to_string().as_str()]);
    assert!(names(&node.pool().join(".snapshots")).is_empty());
    assert!(Path::new("/etc/passwd").exists());
    let as_instance: InstanceUuid = image.to_string().parse().unwrap();
    assert!(storage.destroy_instance(as_instance).is_err() && storage.image_exists(image).unwrap());
}

#[test]
fn a_mount_inside_makes_an_instance_busy_and_nothing_is_destroyed() {
    let node = Node::new("busy");
    let instance = node.instance(node.image());
    let place = node.storage.root(instance).join("tmp/mnt");
    with_tmpfs(&place, 1 << 20, || {
        let error = node.storage.destroy_instance(instance).unwrap_err();
        assert!(error.is_busy() && error.to_string().contains("tmp/mnt"), "{error}");
        assert!(node.storage.instance_exists(instance).unwrap() && node.storage.root(instance).join("bin/su").exists());
    });
    node.storage.destroy_instance(instance).unwrap();
}

#[test]
fn a_quota_is_kept_and_said_not_to_be_enforced() {
    let node = Node::new("quota");
    let (storage, instance) = (&node.storage, node.instance(node.image()));
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, None);
    storage.set_quota(instance, Some(13 * 1024)).unwrap();
    let usage = storage.usage(instance).unwrap();
    assert_eq!((usage.quota_bytes, usage.enforced, usage.enforced_quota_bytes()), (Some(13 << 30), false, 0));
    assert!(usage.used_bytes > 3 << 20 && usage.used_bytes < 8 << 20, "{usage:?}");
    assert_eq!(storage.usages().unwrap()[&instance], usage);
    fs::write(storage.root(instance).join("more"), vec![1; 1 << 20]).unwrap();
    assert_eq!(storage.usages().unwrap()[&instance], usage, "counted less than a minute ago");
    assert!(storage.usage(instance).unwrap().used_bytes >= usage.used_bytes + (1 << 20));
    storage.set_quota(instance, Some(0)).unwrap();
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, None);
    assert!(storage.set_quota(InstanceUuid::random(), Some(1)).is_err());
}

#[test]
fn the_pools_numbers_are_those_of_its_file_system() {
    let node = Node::new("pool");
    let place = node.scratch.join("small");
    with_tmpfs(&place, 8 << 20, || {
        let layout = Layout::new(&place);
        layout.prepare().unwrap();
        let storage = Storage::choose(&layout, StorageKind::Dir, "zones").unwrap();
        let status = storage.pool_status().unwrap();
        assert_eq!((status.size_bytes, status.health.as_str()), (8 << 20, "ONLINE"));
        fs::write(place.join("zones/ballast"), vec![1; 1 << 20]).unwrap();
        let later = storage.pool_status().unwrap();
        assert_eq!((later.used_bytes, later.available_bytes), (status.used_bytes + (1 << 20), status.available_bytes - (1 << 20)));
        assert_eq!(storage.pools().unwrap()["zones"], later);
    });
}

#[test]
fn a_full_pool_leaves_nothing_half_done() {
    let scratch = Scratch::new("full");
    let place = scratch.join("pool");
    with_tmpfs(&place, 9 << 20, || {
        let layout = Layout::new(&place);
        layout.prepare().unwrap();
        let node = Node { storage: Storage::choose(&layout, StorageKind::Dir, "zones").unwrap(), layout, scratch: Scratch(place.clone()) };
        let image = node.image();
        let instance = node.instance(image);
        let before = (node.names(), describe(&node.pool()));
        let (storage, second) = (&node.storage, InstanceUuid::random());
        let error = storage.clone_image(image, second, &CloneOptions::default()).unwrap_err();
        assert!(error.is_no_space() && error.to_string().contains("root/"), "{error}");
        assert!(storage.snapshot(instance, &label("a")).unwrap_err().is_no_space());
        assert!(storage.begin_image(ImageUuid::random(), Some(image)).unwrap_err().is_no_space());
        let snapshots = node.pool().join(".snapshots").join(instance.to_string());
        assert!(names(&snapshots).is_empty() && storage.snapshots(instance).unwrap().is_empty());
        fs::remove_dir_all(node.pool().join(".snapshots")).unwrap();
        assert_eq!(before, (node.names(), describe(&node.pool())));
    });
}

/// instances case 67
#[test]
fn a_rollback_restores_root_and_config_and_drops_newer_snapshots() {
    let node = Node::new("rollback");
    let (storage, instance) = (&node.storage, node.instance(node.image()));
    let tags = storage.zonepath(instance).join("config/tags.json");
    for state in ["s1", "s2", "s3"] {
        fs::write(storage.root(instance).join("data"), state).unwrap();
        fs::write(&tags, state).unwrap();
        storage.snapshot(instance, &label(state)).unwrap();
        let newest = storage.snapshots(instance).unwrap()[0].created_at;
        // Creation times have milliseconds: the next one is to be later.
        while triton_types::Timestamp::now() <= newest {
            std::thread::yield_now();
        }
    }
    assert!(matches!(storage.snapshot(instance, &label("s1")), Err(StorageError::Exists { .. })));
    storage.set_quota(instance, Some(7)).unwrap();
    let sizes: Vec<u64> = storage.snapshots(instance).unwrap().iter().map(|s| s.size_bytes).collect();
    storage.rollback(instance, &label("s2")).unwrap();
    let listed = storage.snapshots(instance).unwrap();
    assert_eq!(listed.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["s2", "s1"]);
    assert_eq!(listed.iter().map(|s| s.size_bytes).collect::<Vec<_>>(), sizes[1..], "sizes are frozen");
    assert_eq!(fs::read_to_string(storage.root(instance).join("data")).unwrap(), "s2");
    assert_eq!(fs::read_to_string(&tags).unwrap(), "s2");
    assert_eq!(storage.usage(instance).unwrap().quota_bytes, Some(7 << 20), "a quota is not rolled back");
    assert_eq!(fs::metadata(storage.zonepath(instance)).unwrap().mode() & 0o7777, 0o711);
    storage.rollback(instance, &label("s2")).unwrap();
    for missing in ["s3", "none"] {
        assert!(matches!(storage.rollback(instance, &label(missing)), Err(StorageError::NotFound { .. })));
        assert!(matches!(storage.delete_snapshot(instance, &label(missing)), Err(StorageError::NotFound { .. })));
    }
    storage.delete_snapshot(instance, &label("s1")).unwrap();
    assert_eq!(storage.snapshots(instance).unwrap().len(), 1);
    for odd in [".", "..", "%"] {
        storage.snapshot(instance, &label(odd)).unwrap();
    }
    assert_eq!(storage.snapshots(instance).unwrap().len(), 4);
}

#[test]
fn a_sweep_removes_leftovers_and_spares_what_a_living_process_fills() {
    let node = Node::new("sweep");
    let instance = node.instance(node.image());
    let before = node.names();
    for leftover in [format!("{instance}-cloning"), format!("{instance}-rollback"), format!(".destroying-{instance}-1")] {
        fs::create_dir_all(node.pool().join(&leftover).join("a/b")).unwrap();
    }
    let unfinished = node.pool().join(".snapshots").join(instance.to_string()).join(".unfinished-a");
    fs::create_dir_all(&unfinished).unwrap();
    let pool = super::DirPool::open(&node.pool(), "zones").unwrap();
    let other = InstanceUuid::random();
    let work = pool.begin_work(node.pool().join(format!("{other}-cloning"))).unwrap();
    let mut removed = node.storage.sweep().unwrap();
    removed.sort();
    assert_eq!(removed.len(), 4, "{removed:?}");
    assert!(work.path.exists() && !unfinished.exists());
    assert!(pool.begin_work(work.path.clone()).is_err(), "nor is it taken by a second maker");
    drop(work);
    assert_eq!(node.storage.sweep().unwrap(), [format!("{other}-cloning")]);
    assert!(node.storage.sweep().unwrap().is_empty());
    fs::remove_dir_all(node.pool().join(".snapshots")).unwrap();
    assert_eq!(node.names(), before);
}
