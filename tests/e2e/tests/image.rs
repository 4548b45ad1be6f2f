//! Images made from instances: `imgadm create`, and instances made from what it made.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use triton_e2e::{Headnode, IMAGE_UUID, Node, assert_no_trace};

/// Made inside the guest, by its root.
const MADE: &str = "mkdir -p /data; echo content > /data/file; ln /data/file /data/name; ln -s ../data/file /data/link; \
                    chown 33:44 /data/file; chmod 4755 /data/file; mkdir -m 1777 /data/open; touch /data/last; \
                    touch /data/very-long-name-of-a-file-that-does-not-fit-into-the-header-of-an-archive-since-it-has-more-than-one-hundred-bytes";
const SEEN: &str = "cd /data; stat -c '%n %u:%g %a %h' file name open; cat file; ls | wc -l; ls -l link | sed 's/.*-> //'";

struct Files {
    directory: PathBuf,
}

impl Files {
    fn new(node: &Node) -> Self {
        let directory = node.layout().at("/var/tmp/made");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A directory holds no ZFS stream, but what ends up in an instance is the same.
fn extension(node: &Node) -> &'static str {
    if node.is_machine() { "zfs" } else { "tar" }
}

/// instances section 8.9
#[test]
fn what_a_guest_made_is_in_the_image_and_in_instances_of_it_and_nothing_of_its_configuration_is() {
    let node = Node::with_image("image-create");
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["customer_metadata"] = json!({"secret-word": "correct horse"});
    let source = node.create(&payload);
    node.guest(&source, MADE);
    let files = Files::new(&node);
    let out = files.directory.to_str().unwrap();

    let running = node.run("imgadm", &["create", &source, "name=web", "version=1.0", "-o", out]);
    assert_eq!(running.code, Some(1));
    assert_eq!(running.last_error(), format!("imgadm create: error (VmNotStopped): VM {source} must be stopped, it is running"));
    node.vmadm(&["stop", &source, "-F"]).ok();
    for (words, code) in [
        (&["create", &source, "version=1.0", "-o", out][..], "ManifestValidation"),
        (&["create", &source, "name=a b;c", "version=1", "-o", out], "ManifestValidation"),
        (&["create", "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9fff", "name=web", "version=1", "-o", out], "VmNotFound"),
    ] {
        let said = node.run("imgadm", words);
        assert!(said.code == Some(1) && said.last_error().contains(code), "{}", said.stderr);
    }
    assert_eq!(files.names(), [""; 0], "what failed left nothing");

    let said = node.run("imgadm", &["create", &source, "name=web", "version=1.0", "-c", "gzip", "-o", out]).ok();
    let (image, manifest) = (format!("web-1.0.{}.gz", extension(&node)), "web-1.0.imgmanifest".to_owned());
    assert_eq!(files.names(), [manifest.clone(), image.clone()], "{}", said.stdout);
    let text = fs::read(files.directory.join(&manifest)).unwrap();
    let made: Value = serde_json::from_slice(&text).unwrap();
    let bytes = fs::read(files.directory.join(&image)).unwrap();
    assert_eq!(made["files"].as_array().unwrap().len(), 1);
    assert_eq!((&made["files"][0]["size"], &made["files"][0]["compression"]), (&json!(bytes.len()), &json!("gzip")));
    assert_eq!(made["files"][0].as_object().unwrap().len(), 3, "size, compression and sha1");
    assert_eq!((&made["type"], &made["requirements"]["brand"]), (&json!("lx-dataset"), &json!("lx")));
    assert_eq!(made.get("origin"), None);
    let again = node.run("imgadm", &["create", &source, "name=web", "version=1.0", "-c", "gzip", "-o", out]);
    assert!(again.code == Some(1) && again.stderr.contains("exists"), "{}", again.stderr);

    let path = |name: &str| files.directory.join(name).to_str().unwrap().to_owned();
    node.run("imgadm", &["install", "-m", &path(&manifest), "-f", &path(&image)]).ok();
    let uuid = made["uuid"].as_str().unwrap();
    let mut payload = node.payload(6);
    payload["image_uuid"] = json!(uuid);
    let copy = node.create(&payload);
    let seen = node.guest(&copy, SEEN);
    assert_eq!(seen, "file 33:44 4755 2\nname 33:44 4755 2\nopen 0:0 1777 2\ncontent\n6\n../data/file\n");
    assert_eq!(node.guest(&copy, "hostname"), "web6\n");
    let found = std::process::Command::new("grep").args(["-rl", "correct horse"]).arg(node.layout().at("/zones").join(&copy)).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "metadata of the source");
    // The source is as it was.
    node.vmadm(&["start", &source]).ok();
    assert_eq!(node.guest(&source, SEEN), seen);
    assert_eq!(node.get(&source)["image_uuid"], IMAGE_UUID);
    for uuid in [&source, &copy] {
        node.vmadm(&["delete", uuid]).ok();
    }
    node.run("imgadm", &["delete", uuid]).ok();
    drop(files);
    assert_no_trace(&node, &before);
}

/// instances section 8.9
#[test]
fn an_incremental_image_needs_its_origin_and_holds_only_what_differs() {
    let node = Node::with_image("image-incremental");
    let source = node.create(&node.payload(5));
    node.guest(&source, "echo second > /second");
    node.vmadm(&["stop", &source, "-F"]).ok();
    let files = Files::new(&node);
    let prefix = files.directory.join("small");
    let said = node.run("imgadm", &["create", &source, "name=web", "version=2", "-i", "-o", prefix.to_str().unwrap()]);
    if !node.is_machine() {
        assert!(said.code == Some(1) && said.last_error().contains("(NotSupported)"), "{}", said.stderr);
        assert_eq!(files.names(), [""; 0]);
    } else {
        said.ok();
        assert_eq!(files.names(), ["small.imgmanifest", "small.zfs"]);
        let manifest: Value = serde_json::from_slice(&fs::read(files.directory.join("small.imgmanifest")).unwrap()).unwrap();
        assert_eq!(manifest["origin"], IMAGE_UUID);
        let whole = node.run("imgadm", &["create", &source, "name=web", "version=3", "-o", files.directory.to_str().unwrap()]).ok();
        let size = |name: &str| fs::metadata(files.directory.join(name)).unwrap().len();
        assert!(size("small.zfs") * 4 < size("web-3.zfs"), "{}", whole.stdout);
        let path = |name: &str| files.directory.join(name).to_str().unwrap().to_owned();
        node.run("imgadm", &["install", "-m", &path("small.imgmanifest"), "-f", &path("small.zfs")]).ok();
        let uuid = manifest["uuid"].as_str().unwrap();
        assert_eq!(node.run("imgadm", &["ancestry", "-H", uuid]).ok().stdout.lines().count(), 2);
        let mut payload = node.payload(6);
        payload["image_uuid"] = json!(uuid);
        let copy = node.create(&payload);
        assert_eq!(node.guest(&copy, "cat /second"), "second\n");
        node.vmadm(&["delete", &copy]).ok();
        node.vmadm(&["delete", &source]).ok();
        node.run("imgadm", &["delete", uuid]).ok();
        return;
    }
    node.vmadm(&["delete", &source]).ok();
}

/// instances section 8.9: killed at every step
#[test]
fn an_image_whose_making_was_killed_at_any_step_can_be_made_again() {
    let node = Node::with_image("image-killed");
    let source = node.create(&node.payload(5));
    node.vmadm(&["stop", &source, "-F"]).ok();
    let files = Files::new(&node);
    let out = files.directory.to_str().unwrap();
    let words = ["create", &source, "name=web", "version=1", "-o", out];
    let list = node.layout().at("/var/tmp/steps");
    let _ = fs::remove_file(&list);
    node.run_with("imgadm", &words, "", &[("TRITON_STEP_TRACE", list.to_str().unwrap())]).ok();
    let text = fs::read_to_string(&list).unwrap();
    let mut steps: Vec<&str> = text.lines().collect();
    steps.dedup();
    assert!(steps.contains(&"image.create.file-complete"), "{steps:?}");
    for step in steps {
        for name in files.names() {
            fs::remove_file(files.directory.join(name)).unwrap();
        }
        let killed = node.run_with("imgadm", &words, "", &[("TRITON_STEP_KILL", step)]);
        assert_ne!(killed.code, Some(0), "{step}");
        assert!(!files.names().contains(&"web-1.imgmanifest".to_owned()), "{step}: a manifest without its image being complete");
        for name in files.names().iter().filter(|name| !name.ends_with(".partial")) {
            fs::remove_file(files.directory.join(name)).unwrap();
        }
        node.run("imgadm", &words).ok();
        assert_eq!(files.names(), ["web-1.imgmanifest".to_owned(), format!("web-1.{}", extension(&node))], "{step}");
    }
    node.vmadm(&["delete", &source]).ok();
    assert!(!node.layout().at("/zones").join(format!("{source}-imgadm-create")).exists());
}

/// cn-agent section 3.6, instances section 8.8
#[test]
fn an_image_is_made_by_a_task_published_and_provisioned_from() {
    let node = Node::new("image-publish");
    let headnode = Headnode::start(&node);
    node.run("imgadm", &["import", "-q", IMAGE_UUID]).ok();
    let source = node.create(&node.payload(5));
    node.guest(&source, "echo third > /third");
    node.vmadm(&["stop", &source, "-F"]).ok();
    let image = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d11";
    let manifest = json!({"v": 2, "uuid": image, "owner": "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013", "name": "web", "version": "3"});
    let url = format!("http://{}", Headnode::IMGAPI);
    let task = json!({"uuid": source, "compression": "gzip", "imgapi_url": url, "manifest": manifest});
    let reply = headnode.task("machine_create_image", &task);
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    let shown = node.run("imgadm", &["show", image]).ok().json();
    assert_eq!((&shown["state"], &shown["owner"]), (&json!("active"), &manifest["owner"]));
    // Again: it is there, and what the server says is what is told.
    let reply = headnode.task("machine_create_image", &task);
    let inner: Value = serde_json::from_str(reply.json()["error"].as_str().unwrap()).unwrap();
    assert!(reply.status == 500 && inner["message"].as_str().unwrap().contains("exists already"), "{inner}");
    assert_eq!(node.run("imgadm", &["show", image]).ok().json()["state"], "active", "the published one stays");

    node.run("imgadm", &["import", "-q", image]).ok();
    let mut payload = node.payload(6);
    payload["image_uuid"] = json!(image);
    let copy = node.create(&payload);
    assert_eq!(node.guest(&copy, "cat /third"), "third\n");
    // The manifest that the node has follows the server's.
    let path = node.layout().at("/var/tmp/images").join(format!("{image}.imgmanifest"));
    let mut changed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    changed["description"] = json!("changed at the server");
    fs::write(&path, changed.to_string()).unwrap();
    let said = node.run("imgadm", &["update", "-n"]).ok();
    assert!(said.stdout.contains(&format!("[dry-run] Updated manifest of image {image}")), "{}", said.stdout);
    assert_eq!(node.run("imgadm", &["get", image]).ok().json()["manifest"].get("description"), None);
    node.run("imgadm", &["update", image]).ok();
    assert_eq!(node.run("imgadm", &["get", image]).ok().json()["manifest"]["description"], "changed at the server");
    assert_eq!(node.run("imgadm", &["update", image]).ok().stdout, format!("Image {image} is up to date\n"));
    let scratch = fs::read_dir(node.layout().at("/var/tmp")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert!(!scratch.into_iter().any(|name| name.starts_with(".provisioner")), "the task's files are gone");
    for uuid in [&source, &copy] {
        node.vmadm(&["delete", uuid]).ok();
    }
}
