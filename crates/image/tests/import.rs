//! Imports from a real HTTP server into storage in directories.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

mod common;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Fault, Imgapi, Node, combined, gzip, tar};
use serde_json::json;
use triton_image::{CancelToken, Event, ImageError, Images, ImportOptions, ImportOutcome, Platform, Progress, Quiet, Source};
use triton_types::{ImageUuid, InstanceUuid};

fn options(server: &Imgapi) -> ImportOptions {
    let mut options = ImportOptions { sources: vec![Source::new(&server.url).unwrap()], ..ImportOptions::default() };
    options.http.stall_timeout = Duration::from_millis(300);
    options.download.pause = Duration::from_millis(1);
    options.download.attempts = 3;
    options
}

fn images(node: &Node) -> Images {
    Images::open(&node.layout, node.storage.clone()).unwrap()
}

/// Remembers events.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Progress for Told {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn an_imported_image_has_its_files_its_manifest_and_its_source() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    let manifest = server.add(uuid, "lxd", &json!({"tags": {"lxd:arch": "amd64"}}), vec![("gzip", combined("hello"))]);
    let images = images(&node);
    let imported = images.import(uuid, &options(&server), &Quiet).unwrap();
    assert_eq!((imported.outcome, imported.images), (ImportOutcome::Imported, vec![uuid]));
    assert_eq!(node.content(uuid, "etc/issue"), "hello");
    assert_eq!(serde_json::Value::Object(imported.image.manifest), manifest);
    assert_eq!((imported.image.zpool.as_str(), imported.image.source.as_deref()), ("zones", Some(server.url.as_str())));
    assert!(node.downloads().is_empty());
    assert_eq!(images.import(uuid, &options(&server), &Quiet).unwrap().outcome, ImportOutcome::AlreadyInstalled);
    assert_eq!(images.list().unwrap().len(), 1);
}

/// instances case 76
#[test]
fn origins_are_imported_first_and_only_those_that_are_missing() {
    let (server, node) = (Imgapi::start(), Node::new());
    let [base, middle, top] = [(); 3].map(|()| ImageUuid::random());
    let layer = |name: &str| vec![("gzip", gzip(&tar(&[(&format!("root/{name}"), name.as_bytes())])))];
    server.add(base, "lx-dataset", &json!({"state": "disabled"}), layer("base"));
    server.add(middle, "lx-dataset", &json!({"origin": base.to_string()}), layer("middle"));
    server.add(top, "lx-dataset", &json!({"origin": middle.to_string()}), layer("top"));
    let images = images(&node);
    assert_eq!(images.import(middle, &options(&server), &Quiet).unwrap().images, [base, middle]);
    assert_eq!(images.import(top, &options(&server), &Quiet).unwrap().images, [top]);
    for uuid in [base, middle, top] {
        assert!(node.layout.at("/zones").join(uuid.to_string()).join("@final").exists());
    }
    assert_eq!(["base", "middle", "top"].map(|name| node.content(top, name)), ["base", "middle", "top"]);
    let chain: Vec<_> = images.ancestry(middle).unwrap().into_iter().map(|image| image.uuid).collect();
    assert_eq!(chain, [middle, base]);
    // A clone in the sense of "depends on": the origin may not go before its child.
    assert_eq!(images.delete(base).unwrap_err().code(), "ImageHasDependentClones");
}

#[test]
fn a_chain_of_origins_that_bites_its_tail_is_refused() {
    let (server, node) = (Imgapi::start(), Node::new());
    let [a, b] = [ImageUuid::random(), ImageUuid::random()];
    server.add(a, "lxd", &json!({"origin": b.to_string()}), vec![("gzip", combined("a"))]);
    server.add(b, "lxd", &json!({"origin": a.to_string()}), vec![("gzip", combined("b"))]);
    assert_eq!(images(&node).import(a, &options(&server), &Quiet).unwrap_err().code(), "ManifestValidation");
}

/// instances case 77
#[test]
fn concurrent_imports_of_one_image_all_succeed_with_one_download() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let images = images(&node);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| images.import(uuid, &options(&server), &Quiet).unwrap().outcome)).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|&&outcome| outcome == ImportOutcome::Imported).count(), 1, "{outcomes:?}");
    });
    assert_eq!(server.file_requests().len(), 1);
}

#[test]
fn a_waiting_import_says_so_after_a_second_and_gives_up_in_the_end() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let _held = triton_files::Lock::take(&node.layout.image_lock(uuid), "import", Duration::ZERO).unwrap();
    let told = Told::default();
    let patient = ImportOptions { patience: Duration::from_millis(1300), ..options(&server) };
    let error = images(&node).import(uuid, &patient, &told).unwrap_err();
    assert_eq!(error.code(), "LockError");
    assert_eq!(*told.0.lock().unwrap(), [Event::WaitingForLock(uuid)]);
    assert_eq!(Event::WaitingForLock(uuid).to_string(), format!("Waiting for image {uuid} import lock"));
}

/// instances case 78
#[test]
fn a_download_that_is_there_is_used_if_it_is_the_right_one() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    let file = combined("hello");
    server.add(uuid, "lxd", &json!({}), vec![("gzip", file.clone())]);
    let place = node.layout.downloads().join(format!("{uuid}.file"));
    let images = images(&node);
    let mut other = file.clone();
    other[1000] ^= 1;
    for (content, requests) in [(file.clone(), 0), (other, 1), (file[1..].to_vec(), 1)] {
        fs::write(&place, content).unwrap();
        images.import(uuid, &options(&server), &Quiet).unwrap();
        assert_eq!(server.file_requests().len(), requests);
        assert!(node.downloads().is_empty());
        images.delete(uuid).unwrap();
    }
}

/// instances case 79
#[test]
fn a_file_with_another_sha1_is_refused_and_nothing_stays() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    server.fault(Fault::OtherBytes);
    let error = images(&node).import(uuid, &options(&server), &Quiet).unwrap_err();
    assert_eq!(error.code(), "DownloadError");
    assert!(triton_agent::chain(&error).to_string().contains("sha1"));
    node.assert_nothing_of(uuid);
    assert!(node.downloads().is_empty());
    assert_eq!(server.file_requests().len(), 1, "the same bytes are not asked for again");
}

#[test]
fn every_way_in_which_a_download_fails_is_a_download_error() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    for (fault, word, requests) in [
        (Fault::Longer, "manifest says", 1),
        (Fault::Status(404), "404", 1),
        (Fault::Status(503), "503", 3),
        (Fault::StallAfter(0), "nothing came", 3),
        (Fault::CutAfter(0), "broke off", 3),
    ] {
        server.fault(fault);
        let error = images(&node).import(uuid, &options(&server), &Quiet).unwrap_err();
        let text = triton_agent::chain(&error).to_string();
        assert!(error.code() == "DownloadError" && text.contains(word), "{fault:?}: {text}");
        assert_eq!(server.file_requests().len(), requests, "{fault:?}");
        node.assert_nothing_of(uuid);
    }
    server.fault(None);
    images(&node).import(uuid, &options(&server), &Quiet).unwrap();
}

#[test]
fn a_download_that_broke_off_is_continued_in_the_same_and_in_the_next_import() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    server.fault(Fault::CutOnceAfter(5000));
    let images = images(&node);
    images.import(uuid, &options(&server), &Quiet).unwrap();
    assert_eq!(server.file_requests(), [format!("/images/{uuid}/file?0"), format!("/images/{uuid}/file?0 from 5000")]);
    images.delete(uuid).unwrap();

    server.fault(Fault::StallAfter(5000));
    let once = |options: ImportOptions| {
        let mut options = options;
        options.download.attempts = 1;
        options
    };
    // With progress each time, more than one attempt is made even so: 5000 bytes each.
    let error = images.import(uuid, &once(options(&server)), &Quiet).unwrap_err();
    assert_eq!(error.code(), "DownloadError");
    assert_eq!(node.downloads(), [format!("{uuid}.file.partial")]);
    server.file_requests();
    server.fault(None);
    images.import(uuid, &options(&server), &Quiet).unwrap();
    assert!(server.file_requests()[0].contains(" from "));
    assert!(node.downloads().is_empty());
}

#[test]
fn a_kept_beginning_of_another_file_or_a_server_without_ranges_costs_a_new_download_only() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    let file = combined("hello");
    server.add(uuid, "lxd", &json!({}), vec![("gzip", file.clone())]);
    let partial = node.layout.downloads().join(format!("{uuid}.file.partial"));
    let images = images(&node);
    for (kept, fault) in
        [(vec![9; 5000], None), (file[..5000].to_vec(), Some(Fault::NoRange)), (vec![9; file.len()], None), (vec![9; 1 << 20], None)]
    {
        fs::write(&partial, kept).unwrap();
        server.fault(fault);
        images.import(uuid, &options(&server), &Quiet).unwrap();
        assert_eq!(node.content(uuid, "etc/issue"), "hello");
        assert!(node.downloads().is_empty());
        images.delete(uuid).unwrap();
    }
    // Complete, but not renamed yet when its importer was killed.
    fs::write(&partial, &file).unwrap();
    server.file_requests();
    images.import(uuid, &options(&server), &Quiet).unwrap();
    assert!(server.file_requests().is_empty());
}

/// instances case 81
#[test]
fn a_split_image_is_fetched_in_two_parts_and_its_root_may_be_a_tar_or_a_squashfs() {
    let (server, node) = (Imgapi::start(), Node::new());
    let metadata = gzip(&tar(&[("metadata.yaml", b"architecture: x86_64\n")]));
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("tree/etc")).unwrap();
    fs::write(directory.path().join("tree/etc/issue"), "squashed").unwrap();
    std::os::unix::fs::chown(directory.path().join("tree/etc/issue"), Some(1000), Some(1001)).unwrap();
    let packed = directory.path().join("root.squashfs");
    let made = std::process::Command::new("mksquashfs").arg(directory.path().join("tree")).arg(&packed).arg("-quiet").output().unwrap();
    assert!(made.status.success());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    std::io::Write::write_all(&mut xz, &tar(&[("./etc/issue", b"packed")])).unwrap();
    for (compression, root, content) in [("none", fs::read(&packed).unwrap(), "squashed"), ("xz", xz.finish().unwrap(), "packed")] {
        let uuid = ImageUuid::random();
        server.add(uuid, "lxd", &json!({}), vec![("gzip", metadata.clone()), (compression, root)]);
        images(&node).import(uuid, &options(&server), &Quiet).unwrap();
        assert_eq!(node.content(uuid, "etc/issue"), content);
        assert_eq!(server.file_requests(), [format!("/images/{uuid}/file?0"), format!("/images/{uuid}/file?1")]);
        if content == "squashed" {
            use std::os::unix::fs::MetadataExt;
            let issue = fs::metadata(node.layout.at("/zones").join(uuid.to_string()).join("root/etc/issue")).unwrap();
            assert_eq!((issue.uid(), issue.gid()), (1000, 1001));
        }
    }
    assert!(node.downloads().is_empty());
}

/// instances case 82
#[test]
fn an_image_in_use_is_not_deleted_until_its_last_instance_is_gone() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let images = images(&node);
    images.import(uuid, &options(&server), &Quiet).unwrap();
    let mut instances = [InstanceUuid::random(), InstanceUuid::random()];
    instances.sort();
    for instance in instances {
        node.storage.clone_image(uuid, instance, &triton_storage::CloneOptions::default()).unwrap();
    }
    let error = images.delete(uuid).unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("ImageHasDependentClones", 1));
    assert_eq!(error.to_string(), format!("image \"{uuid}\" has dependent clones: zones/{} and 1 others...", instances[0]));
    for instance in instances {
        node.storage.destroy_instance(instance).unwrap();
    }
    images.delete(uuid).unwrap();
    node.assert_nothing_of(uuid);
    assert_eq!(images.delete(uuid).unwrap_err().exit_code(), 3);
}

/// instances case 83
#[test]
fn vacuum_deletes_unused_images_and_then_their_unused_origins() {
    let (server, node) = (Imgapi::start(), Node::new());
    let [base, child, used] = [(); 3].map(|()| ImageUuid::random());
    let layer = |name: &str| vec![("gzip", gzip(&tar(&[(&format!("root/{name}"), b"x")])))];
    server.add(base, "lx-dataset", &json!({}), layer("base"));
    server.add(child, "lx-dataset", &json!({"origin": base.to_string()}), layer("child"));
    server.add(used, "lx-dataset", &json!({}), layer("used"));
    let images = images(&node);
    for uuid in [child, used] {
        images.import(uuid, &options(&server), &Quiet).unwrap();
    }
    let instance = InstanceUuid::random();
    node.storage.clone_image(used, instance, &triton_storage::CloneOptions::default()).unwrap();
    for dry_run in [true, false] {
        let mut deleted = Vec::new();
        images.vacuum(dry_run, |image| deleted.push(image.uuid)).unwrap();
        assert_eq!(deleted, [child, base], "dry run: {dry_run}");
    }
    assert_eq!(images.list().unwrap().into_iter().map(|image| image.uuid).collect::<Vec<_>>(), [used]);
}

/// instances case 84
#[test]
fn an_image_for_a_newer_platform_is_refused_before_it_is_downloaded() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    let newer = json!({"requirements": {"min_platform": {"7.0": "99990101T000000Z"}}});
    server.add(uuid, "lxd", &newer, vec![("gzip", combined("hello"))]);
    let platform = Platform { live_image: Some("20260101T000000Z".to_owned()), sdc_version: "7.0".to_owned() };
    let error = images(&node).import(uuid, &ImportOptions { platform, ..options(&server) }, &Quiet).unwrap_err();
    assert_eq!(error.code(), "MinPlatform");
    assert!(server.file_requests().is_empty());
    node.assert_nothing_of(uuid);
}

/// instances case 85
#[test]
fn a_stale_partial_image_is_destroyed_by_the_next_import() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let stale = node.storage.begin_image(uuid, None).unwrap();
    fs::write(stale.join("root/junk"), "x").unwrap();
    let images = images(&node);
    assert!(images.import_in_progress(uuid).unwrap());
    images.import(uuid, &options(&server), &Quiet).unwrap();
    assert!(!images.import_in_progress(uuid).unwrap());
    assert!(!node.layout.at("/zones").join(uuid.to_string()).join("root/junk").exists());
}

#[test]
fn sources_are_asked_in_order_and_broken_ones_count_only_when_no_other_has_the_image() {
    let (first, second, node, uuid) = (Imgapi::start(), Imgapi::start(), Node::new(), ImageUuid::random());
    first.add(uuid, "lxd", &json!({"state": "unactivated"}), vec![("gzip", combined("wrong"))]);
    second.add(uuid, "lxd", &json!({}), vec![("gzip", combined("right"))]);
    let images = images(&node);
    let with = |urls: &[&str]| ImportOptions { sources: urls.iter().map(|url| Source::new(url).unwrap()).collect(), ..options(&first) };
    let tls = "https://images.smartos.org";
    let error = images.import(uuid, &with(&[&first.url]), &Quiet).unwrap_err();
    assert_eq!(error.to_string(), format!("an active image \"{uuid}\" was not found in image sources"));
    let error = images.import(uuid, &with(&[tls]), &Quiet).unwrap_err();
    assert!(error.code() == "ClientError" && error.to_string().contains(tls) && error.to_string().contains("TLS"), "{error}");
    second.shelf.lock().unwrap().manifest_status = Some(500);
    let error = images.import(uuid, &with(&[tls, &second.url]), &Quiet).unwrap_err();
    assert!(error.code() == "MultiError" && error.to_string().contains("500"), "{error}");
    second.shelf.lock().unwrap().manifest_status = None;
    images.import(uuid, &with(&[tls, &first.url, &second.url]), &Quiet).unwrap();
    assert_eq!(node.content(uuid, "etc/issue"), "right");
}

#[test]
fn a_manifest_that_is_invalid_or_another_images_is_refused() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    let images = images(&node);
    for extra in
        [json!({"name": "a\nb"}), json!({"uuid": ImageUuid::random().to_string()}), json!({"type": "docker"}), json!({"files": []})]
    {
        server.add(uuid, "lxd", &extra, vec![("gzip", combined("x"))]);
        let error = images.import(uuid, &options(&server), &Quiet).unwrap_err();
        assert!(error.code() == "ManifestValidation" && error.to_string().starts_with("invalid manifest: "), "{extra}: {error}");
    }
}

#[test]
fn content_that_cannot_be_installed_is_refused_clearly_and_nothing_stays() {
    let (server, node) = (Imgapi::start(), Node::new());
    let images = images(&node);
    let mut zfs = vec![0; 2000];
    zfs[8..16].copy_from_slice(&0x2_F5BA_CBAC_u64.to_le_bytes());
    for (kind, file, code, word) in [
        ("lx-dataset", gzip(&zfs), "NotSupported", "dir"),
        ("lxd", gzip(b"hello"), "NotSupported", "neither"),
        ("lxd", gzip(&tar(&[("metadata.yaml", b"")])), "InternalError", "rootfs"),
        ("lxd", gzip(&tar(&[("rootfs/a", &[7; 9000])])[..5000]), "InternalError", "damaged"),
        ("lxd", combined("x")[..60_000].to_vec(), "InternalError", "damaged"),
    ] {
        let uuid = ImageUuid::random();
        server.add(uuid, kind, &json!({}), vec![("gzip", file)]);
        let error = images.import(uuid, &options(&server), &Quiet).unwrap_err();
        let text = triton_agent::chain(&error).to_string();
        assert!(error.code() == code && text.contains(word), "{}: {text}", error.code());
        node.assert_nothing_of(uuid);
    }
}

/// A small file system in the place of the pool, unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: &std::path::Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), path, Some("tmpfs"), none, Some("size=128k")).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_pool_is_said_and_nothing_stays() {
    let (server, uuid) = (Imgapi::start(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello").repeat(1))]);
    let directory = tempfile::tempdir().unwrap();
    let layout = triton_files::Layout::new(directory.path());
    let _tmpfs = Tmpfs::mount(&layout.at("/zones"));
    layout.prepare().unwrap();
    let storage = triton_storage::Storage::choose(&layout, triton_types::StorageKind::Dir, "zones").unwrap();
    let node = Node { directory, layout, storage: Arc::new(storage) };
    let error = images(&node).import(uuid, &options(&server), &Quiet).unwrap_err();
    let text = triton_agent::chain(&error).to_string();
    assert!(text.contains("no space is left in pool zones"), "{text}");
    node.assert_nothing_of(uuid);
    assert_eq!(node.downloads(), [format!("{uuid}.file")], "the download is kept for when there is space");
}

#[test]
fn an_instances_tree_goes_into_what_is_mounted_below_it() {
    let directory = tempfile::tempdir().unwrap();
    let volume = Tmpfs::mount(&directory.path().join("volumes/one"));
    let archive = tar(&[("volumes/one/kept/file", b"content")]);
    triton_image::unpack_tree(archive.as_slice(), directory.path(), &CancelToken::default()).unwrap();
    assert_eq!(fs::read_to_string(volume.0.join("kept/file")).unwrap(), "content");
}

#[test]
fn a_cancelled_import_ends_soon_and_keeps_only_its_download() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    /// Cancels at the first piece.
    struct Stop(CancelToken);
    impl Progress for Stop {
        fn bytes(&self, _: u64, _: u64) {
            self.0.cancel();
        }
    }
    let options = options(&server);
    let error = images(&node).import(uuid, &options, &Stop(options.cancel.clone())).unwrap_err();
    assert!(matches!(error, ImageError::Cancelled(cancelled) if cancelled == uuid), "{error:?}");
    node.assert_nothing_of(uuid);
}

#[tokio::test]
async fn an_agent_imports_through_its_blocking_threads() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let (images, options) = (images(&node), options(&server));
    let import = move || images.import(uuid, &options, &Quiet).map(|imported| imported.outcome);
    assert_eq!(tokio::task::spawn_blocking(import).await.unwrap().unwrap(), ImportOutcome::Imported);
}

#[test]
fn files_are_installed_if_they_are_what_the_manifest_says() {
    let (node, uuid) = (Node::new(), ImageUuid::random());
    let file = combined("hello");
    let manifest = common::manifest_of(uuid, "lxd", &json!({}), &[("gzip", file.clone())]);
    let path = node.directory.path().join("image.tar.gz");
    let images = images(&node);
    let install = |manifest: &serde_json::Value| images.install(manifest, std::slice::from_ref(&path), &CancelToken::default(), &Quiet);
    fs::write(&path, &file[1..]).unwrap();
    assert_eq!(install(&manifest).unwrap_err().code(), "DownloadError");
    fs::write(&path, &file).unwrap();
    let mut child = manifest.clone();
    child["origin"] = json!(ImageUuid::random().to_string());
    let error = install(&child).unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("OriginNotInstalled", 3));
    node.assert_nothing_of(uuid);
    assert_eq!(install(&manifest).unwrap(), uuid);
    assert_eq!(images.get(uuid).unwrap().unwrap().source, None);
    assert!(path.exists(), "the operator's file stays");
    assert_eq!(install(&manifest).unwrap_err().code(), "ImageUuidAlreadyExists");
}

#[test]
fn an_image_without_a_record_lists_with_its_uuid_only() {
    let (server, node, uuid) = (Imgapi::start(), Node::new(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    let images = images(&node);
    images.import(uuid, &options(&server), &Quiet).unwrap();
    fs::remove_file(node.layout.imgadm().join(format!("images/zones-{uuid}.json"))).unwrap();
    let image = images.get(uuid).unwrap().unwrap();
    assert!(!image.has_manifest() && image.text("uuid") == uuid.to_string());
}
