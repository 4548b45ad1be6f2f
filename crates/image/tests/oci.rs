//! Imports of OCI layouts into storage in directories.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

mod common;
mod ocilayout;

use std::{fs, path::Path};

use common::Node;
use ocilayout::{LayerTar, Layout, Packed, digest};
use serde_json::{Value, json};
use tar::EntryType;
use triton_image::{CancelToken, ImageError, Images, ImportOutcome, Imported, Quiet};

fn images(node: &Node) -> Images {
    Images::open(&node.layout, node.storage.clone()).unwrap()
}

fn import(node: &Node, path: &Path, tag: Option<&str>) -> Result<Imported, ImageError> {
    images(node).import_oci(path, tag, &CancelToken::default(), &Quiet)
}

fn process() -> Value {
    json!({"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["it's \"both\""], "Env": ["A=1", "B=two words"], "User": "web:www", "WorkingDir": "/srv",
        "StopSignal": "SIGINT", "Labels": {"a": "b"}, "Volumes": null})
}

fn base() -> Vec<u8> {
    let tar = LayerTar::new().directory("etc").file("etc/keep", "base").file("etc/gone", "base").file("etc/changed", "base");
    let tar =
        tar.directory("var").directory("var/lib").file("var/lib/old", "base").directory("var/lib/deep").file("var/lib/deep/x", "base");
    tar.directory("opt").file("opt/tree", "a file").directory("srv").file("srv/a", "a").link("link", "/etc").bytes()
}

/// Two layers over the base: whiteouts before and behind what they must not touch, an opaque directory, kinds that change.
fn changes() -> Vec<u8> {
    let tar = LayerTar::new().directory("etc").file("etc/.wh.gone", "").file("etc/changed", "top").file("etc/.wh.changed", "");
    let tar = tar.directory("var").directory("var/lib").file("var/lib/new", "top").file("var/lib/.wh..wh..opq", "");
    let tar = tar.directory("var/lib/deep").file("var/lib/deep/y", "top");
    tar.entry(EntryType::Regular, "srv", "", 0o600, b"now a file").file(".wh.opt", "").hard_link("etc/hard", "etc/keep").bytes()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn layers_are_origins_and_whiteouts_remove_what_is_below_them_only() {
    let node = Node::new();
    let mut layout = Layout::new();
    layout.image("1.0", &process(), &[(base(), Packed::Gzip), (changes(), Packed::Zstd), (LayerTar::new().bytes(), Packed::Plain)]);
    let path = layout.write_directory(&node.directory.path().join("my-image"));
    let imported = import(&node, &path, None).unwrap();
    assert_eq!((imported.outcome, imported.images.len()), (ImportOutcome::Imported, 3));
    let root = node.layout.at("/zones").join(imported.image.uuid.to_string()).join("root");
    assert_eq!(names(&root), ["etc", "link", "srv", "var"]);
    assert_eq!(names(&root.join("etc")), ["changed", "hard", "keep"]);
    assert_eq!(names(&root.join("var/lib")), ["deep", "new"]);
    assert_eq!(names(&root.join("var/lib/deep")), ["y"]);
    assert_eq!(fs::read_to_string(root.join("etc/changed")).unwrap(), "top");
    assert_eq!(fs::read_to_string(root.join("etc/hard")).unwrap(), "base");
    assert_eq!(fs::read_to_string(root.join("srv")).unwrap(), "now a file");

    let manifest = Value::Object(imported.image.manifest.clone());
    assert_eq!((&manifest["type"], &manifest["name"], &manifest["version"]), (&json!("docker"), &json!("my-image"), &json!("1.0")));
    assert_eq!(manifest["published_at"], "2026-01-02T03:04:05.123Z");
    assert_eq!(manifest["tags"]["docker:tag:1.0"], true);
    let mut expected = process();
    expected.as_object_mut().unwrap().remove("Volumes");
    assert_eq!(manifest["tags"]["docker:config"], expected);
    let chain = images(&node).ancestry(imported.image.uuid).unwrap();
    let files: Vec<_> = chain.iter().map(|image| image.manifest["files"][0]["compression"].as_str().unwrap().to_owned()).collect();
    assert_eq!(files, ["none", "zstd", "gzip"]);
    assert!(chain[1].manifest["tags"].get("docker:config").is_none(), "a layer is nothing to run");
    assert!(node.downloads().is_empty(), "{:?}", node.downloads());
    assert_eq!(import(&node, &path, Some("1.0")).unwrap().outcome, ImportOutcome::AlreadyInstalled);
}

#[test]
fn images_share_their_layers_and_an_archive_gives_the_same_uuids_as_a_directory() {
    let (node, other) = (Node::new(), Node::new());
    let mut layout = Layout::new();
    layout.image("a", &json!({"Cmd": ["/a"]}), &[(base(), Packed::Gzip), (changes(), Packed::Gzip)]);
    layout.image("b", &json!({"Cmd": ["/b"]}), &[(base(), Packed::Gzip), (changes(), Packed::Gzip)]);
    let archive = layout.write_archive(&node.directory.path().join("image.tar"));
    let directory = layout.write_directory(&node.directory.path().join("image"));
    let error = import(&node, &archive, None).unwrap_err();
    assert!(error.to_string().contains("has several images") && error.to_string().contains("a, b"), "{error}");
    let a = import(&node, &archive, Some("a")).unwrap();
    let b = import(&node, &archive, Some("b")).unwrap();
    assert_eq!((a.images.len(), b.images.len()), (2, 1), "the layer below is there");
    assert_ne!(a.image.uuid, b.image.uuid);
    assert_eq!(import(&other, &directory, Some("a")).unwrap().image.uuid, a.image.uuid);
    assert_eq!(images(&node).delete(b.images[0]).map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn the_manifest_for_this_platform_is_taken_from_an_index() {
    let node = Node::new();
    let mut layout = Layout::new();
    layout.image("x", &json!({}), &[(base(), Packed::Plain)]);
    let mut good = layout.entries.remove(0);
    good["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let foreign = json!({"mediaType": good["mediaType"], "digest": digest(b"elsewhere"), "size": 9,
        "platform": {"os": "linux", "architecture": "s390x"}});
    let index = json!({"schemaVersion": 2, "manifests": [foreign, good]});
    let entry = layout.json_blob("application/vnd.oci.image.index.v1+json", &index);
    layout.entries.push(entry);
    let path = layout.write_directory(&node.directory.path().join("multi"));
    assert_eq!(import(&node, &path, None).unwrap().images.len(), 1);
    let only = json!({"schemaVersion": 2, "manifests": [index["manifests"][0]]});
    let entry = layout.json_blob("application/vnd.oci.image.index.v1+json", &only);
    layout.entries = vec![entry];
    let path = layout.write_directory(&node.directory.path().join("foreign"));
    let error = import(&node, &path, None).unwrap_err().to_string();
    assert_eq!(error, "the image is for linux/s390x, this node is linux/amd64");
}

/// Imports one hostile layer over a good one; returns the error with its causes. Nothing of the layer stays.
fn refused(layer: Vec<u8>) -> String {
    let node = Node::new();
    let victim = node.directory.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "host").unwrap();
    let mut layout = Layout::new();
    layout.image("x", &json!({}), &[(base(), Packed::Plain), (layer, Packed::Gzip)]);
    let path = layout.write_directory(&node.directory.path().join("hostile"));
    let error = import(&node, &path, None).unwrap_err();
    assert_eq!(names(&victim), ["file"]);
    assert_eq!(images(&node).list().unwrap().len(), 1, "the good layer alone is there");
    assert!(node.downloads().is_empty(), "{:?}", node.downloads());
    assert_eq!(names(&node.layout.at("/zones")).len(), 2, "no partial image: {:?}", names(&node.layout.at("/zones")));
    triton_agent::chain(&error).to_string()
}

#[test]
fn layers_that_lead_out_are_refused_and_leave_nothing() {
    let file = |name: &str| LayerTar::new().file(name, "x").bytes();
    for (what, layer, expected) in [
        ("a parent", file("../victim/file"), "contains \"..\""),
        ("an absolute name", file("/etc/passwd"), "is absolute"),
        ("a file below a link", file("link/new"), "no directory of the image"),
        ("a file below its own link", LayerTar::new().link("own", "/").file("own/x", "x").bytes(), "no directory of the image"),
        ("a whiteout of a parent", file("etc/.wh..."), "outside of its directory"),
        ("a whiteout below a link", file("link/.wh.keep"), "no directory of the image"),
        ("an opaque link", file("link/.wh..wh..opq"), "no directory of the image"),
        ("a hard link out", LayerTar::new().hard_link("h", "../victim/file").bytes(), "contains \"..\""),
        ("a hard link through a link", LayerTar::new().hard_link("h", "link/keep").bytes(), "no directory of the image"),
        ("a disk", LayerTar::new().device(EntryType::Block, "sda", 8, 0).bytes(), "device 8:0"),
        ("memory", LayerTar::new().device(EntryType::Char, "mem", 1, 1).bytes(), "device 1:1"),
    ] {
        let error = refused(layer);
        assert!(error.contains(expected), "{what}: {error}");
    }
    let node = Node::new();
    let null = LayerTar::new().directory("dev").device(EntryType::Char, "dev/null", 1, 3).bytes();
    let path = {
        let mut layout = Layout::new();
        layout.image("x", &json!({}), &[(null, Packed::Plain)]);
        layout.write_directory(&node.directory.path().join("dev"))
    };
    let image = import(&node, &path, None).unwrap().image.uuid;
    assert!(names(&node.layout.at("/zones").join(image.to_string()).join("root/dev")).is_empty(), "a guest gets its own devices");
}

/// A layout that was changed after it was made.
fn broken(change: impl FnOnce(&mut Layout)) -> String {
    let node = Node::new();
    let mut layout = Layout::new();
    layout.image("x", &process(), &[(base(), Packed::Gzip), (changes(), Packed::Gzip)]);
    change(&mut layout);
    let path = layout.write_archive(&node.directory.path().join("image.tar"));
    let error = import(&node, &path, Some("x")).unwrap_err();
    assert!(node.downloads().is_empty());
    format!("{}: {}", error.code(), triton_agent::chain(&error))
}

fn blob_of<'a>(layout: &'a mut Layout, descriptor: &Value) -> &'a mut Vec<u8> {
    let name = format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
    layout.files.get_mut(&name).unwrap()
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let flip = |bytes: &mut Vec<u8>| bytes[20] ^= 1;
    let manifest = |layout: &Layout| layout.entries[0].clone();
    let text = broken(|layout| {
        let entry = manifest(layout);
        flip(blob_of(layout, &entry));
    });
    assert!(text.starts_with("ChecksumError: blob sha256:"), "{text}");
    let layer = |layout: &mut Layout| {
        let entry = manifest(layout);
        let manifest: Value = serde_json::from_slice(blob_of(layout, &entry)).unwrap();
        manifest["layers"][1].clone()
    };
    let text = broken(|layout| {
        let layer = layer(layout);
        flip(blob_of(layout, &layer));
    });
    assert!(text.starts_with("ChecksumError: blob sha256:"), "{text}");
    let text = broken(|layout| {
        let layer = layer(layout);
        blob_of(layout, &layer).push(0);
    });
    assert!(text.contains("its descriptor says"), "{text}");
    let text = broken(|layout| {
        let layer = layer(layout);
        layout.files.remove(&format!("blobs/{}", layer["digest"].as_str().unwrap().replace(':', "/")));
    });
    assert!(text.contains("has no blob sha256:"), "{text}");
    let text = broken(|layout| {
        layout.entries.clear();
        let layer = layout.layer(&base(), Packed::Gzip);
        layout.image_of("x", &process(), &[layer], &[digest(b"something else")]);
    });
    assert!(text.starts_with("ChecksumError") && text.contains("the unpacked content has digest"), "{text}");
}

#[test]
fn malformed_layouts_are_refused_by_name() {
    for (expected, change) in [
        (
            "is no OCI image layout: it has no file \"oci-layout\"",
            Box::new(|layout: &mut Layout| drop(layout.files.remove("oci-layout"))) as Box<dyn FnOnce(&mut Layout)>,
        ),
        (
            "its version is \"2.0.0\"",
            Box::new(|layout| drop(layout.files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec()))),
        ),
        ("index.json of the OCI layout is malformed", Box::new(|layout| drop(layout.files.insert("index.json".into(), b"{".to_vec())))),
        ("index.json of the OCI layout has", Box::new(|layout| drop(layout.files.insert("index.json".into(), vec![b' '; 5 << 20])))),
        ("has no image \"x\"; it has: none with a tag", Box::new(|layout| layout.entries.clear())),
        ("media type \"text/plain\" is not supported", Box::new(|layout| layout.entries[0]["mediaType"] = json!("text/plain"))),
        ("is no digest by sha256", Box::new(|layout| layout.entries[0]["digest"] = json!("sha1:../../etc/passwd"))),
        (
            "the image has no layers",
            Box::new(|layout| {
                layout.entries.clear();
                layout.image("x", &json!({}), &[]);
            }),
        ),
        (
            "names 1 layers, the manifest has 0",
            Box::new(|layout| {
                layout.entries.clear();
                layout.image_of("x", &json!({}), &[], &[digest(b"")]);
            }),
        ),
        (
            "at most 100 are allowed",
            Box::new(|layout| {
                layout.entries.clear();
                layout.image("x", &json!({}), &vec![(Vec::new(), Packed::Plain); 101]);
            }),
        ),
    ] {
        let text = broken(change);
        assert!(text.contains(expected) || (expected.starts_with("names 1") && text.contains("no layers")), "{expected}: {text}");
    }
    let node = Node::new();
    let path = node.directory.path().join("gz");
    fs::write(&path, common::gzip(b"x")).unwrap();
    assert!(import(&node, &path, None).unwrap_err().to_string().contains("must be decompressed first"));
}

#[test]
fn links_in_a_layout_are_not_followed() {
    let node = Node::new();
    let mut layout = Layout::new();
    layout.image("x", &json!({}), &[(base(), Packed::Plain)]);
    let path = layout.write_directory(&node.directory.path().join("linked"));
    let blobs = path.join("blobs/sha256");
    fs::rename(&blobs, node.directory.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(node.directory.path().join("elsewhere"), &blobs).unwrap();
    let error = triton_agent::chain(&import(&node, &path, None).unwrap_err()).to_string();
    assert!(error.contains("it is a link, or below one"), "{error}");
}

#[test]
fn an_import_that_was_stopped_between_layers_goes_on_there() {
    let node = Node::new();
    let mut layout = Layout::new();
    let bad = LayerTar::new().file("../x", "x").bytes();
    layout.image("bad", &json!({}), &[(base(), Packed::Plain), (changes(), Packed::Plain), (bad, Packed::Plain)]);
    layout.image("good", &json!({}), &[(base(), Packed::Plain), (changes(), Packed::Plain), (LayerTar::new().bytes(), Packed::Plain)]);
    let path = layout.write_directory(&node.directory.path().join("two"));
    assert!(import(&node, &path, Some("bad")).is_err());
    assert_eq!(import(&node, &path, Some("good")).unwrap().images.len(), 1, "the two layers below were complete");
    // What nothing is made from goes, from the top down.
    let mut gone = 0;
    images(&node).vacuum(false, |_| gone += 1).unwrap();
    assert_eq!((gone, images(&node).list().unwrap().len()), (3, 0));
}
