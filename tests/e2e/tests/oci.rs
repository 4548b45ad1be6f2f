//! An image of an OCI layout, from its import to the process that runs of it.
#![allow(clippy::unwrap_used)] // a panic is a failed test

#[path = "../../../crates/image/tests/ocilayout/mod.rs"]
mod ocilayout;

use std::{fs, path::Path};

use ocilayout::{LayerTar, Layout, Packed};
use serde_json::{Value, json};
use tar::EntryType;
use triton_e2e::{Node, assert_no_trace, until};

/// Says what it is given and what it is, waits for the signal that asks it to end, and ends with 7.
const APP: &str = "#!/bin/sh\n{ id -u; id -g; pwd; echo \"$GREETING\"; echo \"$HOME_OF\"; hostname; for word in \"$@\"; do echo \"<$word>\"; done; } \
                   > /out/told.new\nmv /out/told.new /out/told\ntrap 'echo asked > /out/asked; exit 7' INT\nwhile :; do sleep 0.1; done\n";

/// Two layers: a user land, and an application over it that replaces a part.
fn layout() -> Layout {
    let busybox = fs::read("/bin/busybox").unwrap();
    let mut base = LayerTar::new().directory("bin").entry(EntryType::Regular, "bin/busybox", "", 0o755, &busybox);
    for applet in ["sh", "id", "pwd", "hostname", "sleep", "cat", "mv", "ls", "ip"] {
        base = base.link(&format!("bin/{applet}"), "busybox");
    }
    let base = base.directory("etc").file("etc/passwd", "root:x:0:0::/:/bin/sh\n").file("etc/removed", "x");
    let top = LayerTar::new().file("etc/.wh.removed", "").file("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n");
    let top = top.file("etc/group", "www:x:44:\nlogs:x:55:web\n").entry(EntryType::Directory, "out", "", 0o777, b"");
    let top = top.directory("usr").directory("usr/bin").entry(EntryType::Regular, "usr/bin/app", "", 0o755, APP.as_bytes());
    let mut layout = Layout::new();
    let process = json!({"Entrypoint": ["app"], "Cmd": ["it's", "\"both\" kinds", ""], "User": "web", "WorkingDir": "/srv/made",
        "Env": ["GREETING= hello\nworld ", "HOME_OF=nobody", "PATH=/bin:/usr/bin"], "StopSignal": "SIGINT"});
    layout.image("1.0", &process, &[(base.bytes(), Packed::Gzip), (top.bytes(), Packed::Zstd)]);
    layout
}

fn import(node: &Node, path: &Path) -> String {
    let outcome = node.run("imgadm", &["import-oci", "-q", &format!("{}:1.0", path.display())]).ok();
    assert!(outcome.stdout.contains("Imported image"), "{}", outcome.stdout);
    let list = node.run("imgadm", &["list", "-j"]).ok().json();
    let top = list.as_array().unwrap().iter().find(|image| image["manifest"]["version"] == "1.0").unwrap();
    top["manifest"]["uuid"].as_str().unwrap().to_owned()
}

fn payload(node: &Node, image: &str) -> Value {
    let mut payload = node.payload(5);
    payload["image_uuid"] = image.into();
    payload
}

#[test]
fn an_instance_runs_the_process_of_its_image_as_docker_would() {
    let node = Node::new("oci");
    let before = node.traces();
    let directory = tempfile::tempdir().unwrap();
    let image = import(&node, &layout().write_archive(&directory.path().join("app.tar")));
    let again =
        node.run("imgadm", &["import-oci", "-q", &layout().write_directory(&directory.path().join("app")).display().to_string()]).ok();
    assert!(again.stdout.contains("is already installed, skipping"), "{}", again.stdout);

    let mut wanted = payload(&node, &image);
    wanted["docker"] = true.into();
    wanted["internal_metadata"] = json!({"docker:env": "[\"HOME_OF=me\"]"});
    let uuid = node.create(&wanted);
    let vm = node.get(&uuid);
    assert_eq!((&vm["docker"], &vm["restart_init"], &vm["internal_metadata"]["docker:user"]), (&json!(true), &json!(false), &json!("web")));
    let out = node.layout().at(&format!("/zones/{uuid}/root/out"));
    until("the application has told", || out.join("told").exists());
    let told = fs::read_to_string(out.join("told")).unwrap();
    assert_eq!(told, "33\n44\n/srv/made\n hello\nworld \nme\nweb5\n<it's>\n<\"both\" kinds>\n<>\n");
    assert!(!node.layout().at(&format!("/zones/{uuid}/root/etc/removed")).exists(), "the whiteout holds for instances");
    assert!(node.guest(&uuid, "/bin/ip addr").contains("10.64.0.5/24"), "the host sets the addresses, whatever runs");

    let first = vm["pid"].as_i64();
    fs::remove_file(out.join("told")).unwrap();
    node.vmadm(&["reboot", &uuid]).ok();
    until("the application has told again", || out.join("told").exists());
    assert_ne!(node.get(&uuid)["pid"].as_i64(), first);
    assert!(fs::read_to_string(out.join("asked")).is_ok(), "it was asked by the image's own signal");
    node.vmadm(&["stop", &uuid]).ok();
    let vm = node.get(&uuid);
    assert_eq!((&vm["state"], &vm["exit_status"]), (&json!("stopped"), &json!(7)), "what it ended with is its exit status");

    let refused = node.run("imgadm", &["create", &uuid, "name=x", "version=1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("NotSupported"), "{}", refused.stderr);
    node.vmadm(&["delete", &uuid]).ok();
    let used = node.run("imgadm", &["vacuum", "-f"]).ok().stdout;
    assert_eq!(used.lines().count(), 2, "the image and its layer go: {used}");
    assert_no_trace(&node, &before);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() {
    let node = Node::with_image("oci-bad");
    let directory = tempfile::tempdir().unwrap();
    let mut layout = layout();
    layout.image("nothing", &json!({}), &[(LayerTar::new().directory("bin").bytes(), Packed::Plain)]);
    let path = layout.write_directory(&directory.path().join("app"));
    let image = import(&node, &path);
    let create = |payload: &Value| node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    let mut wanted = node.payload(5);
    wanted["docker"] = true.into();
    let outcome = create(&wanted);
    assert!(
        outcome.code == Some(1) && outcome.stderr.contains("docker must be true for instances of images of type docker"),
        "{outcome:?}"
    );
    let layer = node.run("imgadm", &["ancestry", "-H", "-o", "uuid", &image]).ok().stdout.lines().nth(1).unwrap().trim().to_owned();
    let outcome = create(&payload(&node, &layer));
    assert!(outcome.code == Some(1) && outcome.stderr.contains("is a layer of other images"), "{outcome:?}");
    assert_eq!(node.vmadm(&["list", "-H"]).ok().stdout, "", "nothing was made");

    let mut wanted = payload(&node, &image);
    wanted["autoboot"] = false.into();
    let uuid = node.create(&wanted);
    let fails = |metadata: Value, expected: &str| {
        node.run_with("vmadm", &["update", &uuid], &json!({"set_internal_metadata": metadata}).to_string(), &[]).ok();
        let outcome = node.vmadm(&["start", &uuid]);
        assert!(outcome.code == Some(1) && outcome.stderr.contains(expected), "{expected}: {outcome:?}");
        assert_eq!(node.state(&uuid), "stopped");
    };
    fails(json!({"docker:user": "nobody"}), "user \"nobody\" is not in the guest's /etc/passwd");
    fails(json!({"docker:user": "0", "docker:entrypoint": "[\"/no/such\"]"}), "No such file");
    fails(json!({"docker:entrypoint": "no list"}), "docker:entrypoint is no JSON array of strings");
    let nothing = node.run("imgadm", &["import-oci", "-q", &format!("{}:nothing", path.display())]);
    assert_eq!(nothing.code, Some(0));
    let unknown = node.run("imgadm", &["import-oci", &format!("{}:2.0", path.display())]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(unknown.last_error(), "imgadm import-oci: error (ImageNotFound): the OCI layout has no image \"2.0\"; it has: 1.0, nothing");
}
