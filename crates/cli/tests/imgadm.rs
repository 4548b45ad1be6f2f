//! The program `imgadm`: streams, texts, exit statuses, and SIGKILL at every step of its changes.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

#[path = "../../image/tests/common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
};

use common::{Fault, Imgapi, Node, combined, gzip, tar};
use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

fn imgadm(node: &Node, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgadm"));
    command.arg("--root").arg(node.layout.root()).args(args);
    for name in ["IMGADM_LOG_LEVEL", "TRITON_ROOT", "TRITON_STEP_KILL", "TRITON_STEP_TRACE", "REQ_ID"] {
        command.env_remove(name);
    }
    command
}

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(node: &Node, args: &[&str]) -> Ran {
    ran(imgadm(node, args).output().unwrap())
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }
    #[track_caller]
    fn failed(self, status: i32, stderr: &str) {
        assert_eq!((self.status, self.stderr.trim_end()), (Some(status), stderr), "{}", self.stdout);
    }
}

/// A node whose only source is `server`.
fn node(server: &Imgapi) -> Node {
    let node = Node::new();
    run(&node, &["sources", "-d", "https://images.smartos.org"]).ok();
    run(&node, &["sources", "-a", &server.url]).ok();
    node
}

/// An image server with one combined LXD image.
fn shelf() -> (Imgapi, ImageUuid) {
    let (server, uuid) = (Imgapi::start(), ImageUuid::random());
    server.add(uuid, "lxd", &json!({}), vec![("gzip", combined("hello"))]);
    (server, uuid)
}

#[test]
fn sources_are_listed_added_and_deleted_with_upstreams_texts() {
    let (server, node) = (Imgapi::start(), Node::new());
    assert_eq!(run(&node, &["sources"]).ok(), "https://images.smartos.org\n");
    let url = server.url.as_str();
    assert_eq!(run(&node, &["sources", "-a", url]).ok(), format!("Added \"imgapi\" image source \"{url}\"\n"));
    assert_eq!(run(&node, &["sources", "-a", url]).ok(), format!("Already have \"imgapi\" image source \"{url}\", no change\n"));
    assert_eq!(run(&node, &["sources", "-d", "https://images.smartos.org"]).status, Some(0));
    assert_eq!(run(&node, &["sources", "-d", "http://x"]).ok(), "Do not have image source \"http://x\", no change\n");
    assert_eq!(run(&node, &["sources", "-v"]).ok(), format!("{:<w$}  TYPE    INSECURE\n{url}  imgapi  false\n", "URL", w = url.len()));
    assert_eq!(serde_json::from_str::<Value>(&run(&node, &["sources", "-j"]).ok()).unwrap(), json!([{"url": url, "type": "imgapi"}]));
    assert!(run(&node, &["sources", "-c"]).ok().contains("ok"));
    let nobody = "http://127.0.0.1:1";
    let refused = run(&node, &["sources", "-a", nobody]);
    assert!(refused.status == Some(1) && refused.stderr.starts_with("imgadm sources: error (ClientError): "), "{}", refused.stderr);
    assert_eq!(run(&node, &["sources", "-f", "-a", nobody]).status, Some(0));
    let check = run(&node, &["sources", "-c"]);
    assert!(check.status == Some(1) && check.stdout.contains(nobody) && check.stdout.contains("ok"), "{}", check.stdout);
    assert_eq!(run(&node, &["sources", "-a", "gopher://x"]).status, Some(2));
}

/// Directories that are unmounted when it is dropped.
struct Mounted(Vec<std::path::PathBuf>);

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// Ruling 46: the files of a node in a pinned mount namespace are those that its tools see.
#[test]
fn the_tool_enters_the_nodes_pinned_mount_namespace_by_itself() {
    let node = Node::new();
    let pins = node.layout.namespaces();
    fs::create_dir_all(&pins).unwrap();
    let shell = |script: String| assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success(), "{script}");
    let (at, pin) = (pins.display(), pins.join("mnt"));
    let _mounted = Mounted(vec![pins.clone(), pin.clone()]);
    shell(format!("mount --bind {at} {at}; mount --make-private {at}; : > {at}/mnt; unshare --mount={at}/mnt true"));
    let imgadm_directory = node.layout.imgadm();
    let conf = r#"{"sources": [{"url": "http://inside", "type": "imgapi"}]}"#;
    shell(format!(
        "nsenter --mount={at}/mnt sh -ec 'mount -t tmpfs none {d}; printf %s \"$0\" > {d}/imgadm.conf' '{conf}'",
        d = imgadm_directory.display()
    ));
    assert!(!imgadm_directory.join("imgadm.conf").exists(), "the file is in the namespace only");
    assert_eq!(run(&node, &["sources"]).ok(), "http://inside\n");
}

#[test]
fn sources_are_edited_with_the_operators_editor() {
    let node = Node::new();
    let edit = |script: &str| {
        let editor = node.directory.path().join("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        ran(imgadm(&node, &["sources", "-e"]).env_remove("VISUAL").env("EDITOR", &editor).output().unwrap())
    };
    assert_eq!(edit(r#"echo '[{"url": "http://imgapi.dc.example.com/"}]' > "$1""#).ok(), "Changed the image sources\n");
    assert_eq!(run(&node, &["sources"]).ok(), "http://imgapi.dc.example.com\n");
    assert_eq!(edit(r#"echo 'nonsense' > "$1""#).status, Some(1));
    assert_eq!(edit("exit 1").status, Some(1));
    assert_eq!(run(&node, &["sources"]).ok(), "http://imgapi.dc.example.com\n");
}

/// instances cases 75 and 81
#[test]
fn import_get_list_show_and_delete_speak_as_upstream() {
    let (server, uuid) = shelf();
    let node = node(&server);
    let id = uuid.to_string();
    let id = id.as_str();
    let absent = run(&node, &["get", id]);
    assert_eq!(absent.stdout, "");
    absent.failed(3, &format!("imgadm get: error (ImageNotInstalled): image \"{id}\" was not found on zpool \"zones\""));
    let imported = run(&node, &["import", "-q", "-P", "zones", id]).ok();
    assert_eq!(imported.lines().last().unwrap(), format!("Imported image {id} (alpine@3.12)"));
    assert_eq!(run(&node, &["import", id]).ok(), format!("Image {id} (alpine 3.12) is already installed, skipping\n"));
    let got: Value = serde_json::from_str(&run(&node, &["get", id]).ok()).unwrap();
    assert_eq!((&got["manifest"]["uuid"], &got["zpool"], &got["source"]), (&json!(id), &json!("zones"), &json!(server.url)));
    let got: Value = serde_json::from_str(&run(&node, &["info", "-r", id]).ok()).unwrap();
    assert_eq!(got["children"], json!({"clones": []}));
    assert_eq!(run(&node, &["get", "-P", "other", id]).status, Some(3));
    let shown: Value = serde_json::from_str(&run(&node, &["show", id]).ok()).unwrap();
    assert_eq!(shown, got["manifest"]);
    assert_eq!(run(&node, &["delete", id]).ok(), format!("Deleted image {id}\n"));
    run(&node, &["delete", id])
        .failed(3, &format!("imgadm delete: error (ImageNotInstalled): image \"{id}\" was not found on zpool \"zones\""));
    run(&node, &["import", "-P", "other", id])
        .failed(1, "imgadm import: error (ZpoolNotFound): zpool \"other\" is not the pool of this node, which is \"zones\"");
    run(&node, &["import", "x"]).failed(1, "imgadm import: error (InvalidUUID): invalid uuid: \"x\"");
}

/// instances case 88
#[test]
fn a_list_is_a_table_or_json_sorted_and_filtered() {
    let server = Imgapi::start();
    let mut uuids = [ImageUuid::random(), ImageUuid::random()];
    uuids.sort();
    for (uuid, name, at) in [(uuids[0], "newer", "2026-02-01T00:00:00.000Z"), (uuids[1], "older", "2025-02-01T00:00:00.000Z")] {
        server.add(uuid, "lxd", &json!({"name": name, "published_at": at}), vec![("gzip", combined("x"))]);
    }
    let node = node(&server);
    for uuid in uuids {
        run(&node, &["import", "-q", &uuid.to_string()]).ok();
    }
    let instance = InstanceUuid::random();
    node.storage.clone_image(uuids[0], instance, &triton_storage::CloneOptions::default()).unwrap();
    assert_eq!(
        run(&node, &["list"]).ok(),
        format!(
            "{:<36}  NAME   VERSION  OS     TYPE  PUB\n{}  older  3.12     linux  lxd   2025-02-01\n{}  newer  3.12     linux  lxd   2026-02-01\n",
            "UUID", uuids[1], uuids[0]
        )
    );
    assert_eq!(run(&node, &["list", "-o", "uuid", "-H", "-s", "-published_at"]).ok(), format!("{}\n{}\n", uuids[0], uuids[1]));
    assert_eq!(run(&node, &["list", "-Ho", "name,clones", "name=~new"]).ok(), "newer  1\n");
    assert_eq!(run(&node, &["list", "-H", "type=other"]).ok(), "");
    let listed: Value = serde_json::from_str(&run(&node, &["list", "-j"]).ok()).unwrap();
    let item = &listed[1];
    assert_eq!((&item["manifest"]["name"], &item["zpool"], &item["clones"]), (&json!("newer"), &json!("zones"), &json!(1)));
    assert_eq!(item["cloneNames"], json!([format!("zones/{instance}")]));
    assert_eq!(run(&node, &["avail", "-Ho", "name", "-s", "name"]).ok(), "newer\nolder\n");
    // instances case 82
    let id = uuids[0].to_string();
    run(&node, &["delete", &id])
        .failed(1, &format!("imgadm delete: error (ImageHasDependentClones): image \"{id}\" has dependent clones: zones/{instance}"));
    // instances case 83
    assert_eq!(run(&node, &["vacuum", "-n"]).ok(), format!("[dry-run] Deleted image {} (older@3.12)\n", uuids[1]));
    assert_eq!(ran(imgadm(&node, &["vacuum"]).stdin(Stdio::null()).output().unwrap()).status, Some(2));
    assert_eq!(run(&node, &["vacuum", "-f"]).ok(), format!("Deleted image {} (older@3.12)\n", uuids[1]));
    assert_eq!(run(&node, &["list", "-Ho", "uuid"]).ok(), format!("{id}\n"));
}

/// instances case 86
#[test]
fn an_unknown_command_is_a_record_with_its_code_when_asked_for() {
    let node = Node::new();
    let bogus = run(&node, &["-E", "bogus"]);
    assert_eq!(bogus.status, Some(1));
    let record: Value = serde_json::from_str(bogus.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&record["err"]["code"], &record["level"], &record["name"]), (&json!("UnknownCommand"), &json!(50), &json!("imgadm")));
    run(&node, &["bogus"]).failed(1, "imgadm: error (UnknownCommand): unknown command: \"bogus\"");
    let nothing = run(&node, &[]);
    assert!(nothing.status == Some(1) && nothing.stdout.contains("Usage:") && nothing.stderr.is_empty(), "{}", nothing.stderr);
    let record: Value = serde_json::from_str(run(&node, &["-E"]).stderr.trim()).unwrap();
    assert_eq!(record["err"]["code"], "NoCommand");
}

#[test]
fn help_version_completion_and_wrong_usage() {
    let node = Node::new();
    assert_eq!(run(&node, &["--version"]).ok(), format!("imgadm {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["-h"][..], &["help"], &["help", "import"], &["import", "-h"]] {
        assert!(run(&node, args).ok().contains("Usage:"), "{args:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&node, &["completion", shell]).ok().contains("imgadm"));
    }
    let wrong = run(&node, &["list", "--bogus"]);
    assert!(wrong.status == Some(2) && wrong.stderr.starts_with("imgadm list: error (UsageError): "), "{}", wrong.stderr);
    assert_eq!(run(&node, &["import"]).status, Some(2));
}

#[test]
fn a_node_without_storage_or_sources_says_so() {
    let (node, uuid) = (Node::new(), ImageUuid::random().to_string());
    let failed = run(&node, &["import", &uuid]);
    assert!(
        failed.status == Some(1) && failed.stderr.contains("https://images.smartos.org") && failed.stderr.contains("TLS"),
        "{}",
        failed.stderr
    );
    run(&node, &["sources", "-d", "https://images.smartos.org"]).ok();
    run(&node, &["import", &uuid])
        .failed(1, "imgadm import: error (NoSources): no image sources are configured; add one with 'imgadm sources -a URL'");
    fs::remove_file(node.layout.state().join("storage.json")).unwrap();
    let failed = run(&node, &["list"]);
    assert!(failed.status == Some(1) && failed.stderr.contains("no storage was chosen"), "{}", failed.stderr);
}

#[test]
fn a_failed_import_has_its_code_in_the_last_line_and_leaves_nothing() {
    let (server, uuid) = shelf();
    let node = node(&server);
    server.fault(Fault::OtherBytes);
    let failed = run(&node, &["-E", "import", "-q", &uuid.to_string()]);
    assert_eq!(failed.status, Some(1));
    let record: Value = serde_json::from_str(failed.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(record["err"]["code"], "DownloadError");
    node.assert_nothing_of(uuid);
}

#[test]
fn an_image_is_installed_from_its_manifest_and_file() {
    let (node, uuid) = (Node::new(), ImageUuid::random());
    let file = combined("hello");
    let at = |name: &str| node.directory.path().join(name).display().to_string();
    let manifest = common::manifest_of(uuid, "lxd", &json!({}), &[("gzip", file.clone())]);
    fs::write(at("manifest.json"), manifest.to_string()).unwrap();
    fs::write(at("image.tar.gz"), &file).unwrap();
    let installed = run(&node, &["install", "-q", "-m", &at("manifest.json"), "-f", &at("image.tar.gz")]).ok();
    assert!(installed.ends_with(&format!("Installed image {uuid} (alpine@3.12)\n")), "{installed}");
    assert_eq!(node.content(uuid, "etc/issue"), "hello");
    fs::write(at("manifest.json"), "{\"v\": 2}").unwrap();
    let failed = run(&node, &["install", "-m", &at("manifest.json"), "-f", &at("image.tar.gz")]);
    assert!(
        failed.stderr.starts_with("imgadm install: error (ManifestValidation): invalid manifest: uuid is missing"),
        "{}",
        failed.stderr
    );
}

/// instances case 77
#[test]
fn three_processes_import_one_image_with_one_download() {
    let (server, uuid) = shelf();
    let node = node(&server);
    let start = || imgadm(&node, &["import", "-q", &uuid.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    for child in children {
        ran(child.wait_with_output().unwrap()).ok();
    }
    assert_eq!(server.file_requests().len(), 1);
}

/// instances cases 76 and 85: an import of an image with its origin, killed at each step it reaches.
#[test]
fn an_import_killed_at_any_step_is_made_good_by_the_next() {
    let server = Imgapi::start();
    let [base, top] = [ImageUuid::random(), ImageUuid::random()];
    let layer = |name: &str| vec![("gzip", gzip(&tar(&[(&format!("root/{name}"), name.as_bytes())])))];
    server.add(base, "lx-dataset", &json!({}), layer("base"));
    server.add(top, "lx-dataset", &json!({"origin": base.to_string()}), layer("top"));
    let id = top.to_string();
    let args = ["import", "-q", id.as_str()];

    let traced = node(&server);
    let trace = traced.directory.path().join("steps");
    ran(imgadm(&traced, &args).env("TRITON_STEP_TRACE", &trace).output().unwrap()).ok();
    let mut counts = BTreeMap::new();
    let mut kills = Vec::new();
    for step in fs::read_to_string(&trace).unwrap().lines() {
        let count = counts.entry(step.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        kills.push(format!("{step}:{count}"));
    }
    for step in ["image.import.downloaded", "image.install.recorded", "image.install.filled", "image.install.committed"] {
        assert_eq!(counts.get(step), Some(&2), "{step}: {counts:?}");
    }
    for kill in kills {
        let node = node(&server);
        let killed = imgadm(&node, &args).env("TRITON_STEP_KILL", &kill).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{kill}");
        // What there is must be usable, or gone as far as anybody can see.
        for uuid in [base, top] {
            if node.storage.image_exists(uuid).unwrap() {
                assert!(node.has_record(uuid), "{kill}: a complete image without a manifest");
            }
        }
        run(&node, &["list", "-j"]).ok();
        let again = run(&node, &args);
        assert_eq!((again.status, again.stderr.as_str()), (Some(0), ""), "{kill}: {}", again.stdout);
        assert_eq!((node.content(top, "base"), node.content(top, "top")), ("base".to_owned(), "top".to_owned()), "{kill}");
        for uuid in [base, top] {
            assert!(!node.storage.image_partial_exists(uuid).unwrap() && node.has_record(uuid), "{kill}");
        }
        assert_eq!(node.downloads(), [""; 0], "{kill}");
        let instance = InstanceUuid::random();
        node.storage.clone_image(top, instance, &triton_storage::CloneOptions::default()).unwrap();
        node.storage.destroy_instance(instance).unwrap();
        run(&node, &["delete", &id, &base.to_string()]).ok();
        node.assert_nothing_of(top);
        node.assert_nothing_of(base);
    }
}

#[test]
fn a_deletion_killed_at_any_step_is_made_good_by_the_next() {
    let (server, uuid) = shelf();
    let id = uuid.to_string();
    let import = |node: &Node| run(node, &["import", "-q", &id]).ok();
    let traced = node(&server);
    import(&traced);
    let trace = traced.directory.path().join("steps");
    ran(imgadm(&traced, &["delete", &id]).env("TRITON_STEP_TRACE", &trace).output().unwrap()).ok();
    let steps = fs::read_to_string(&trace).unwrap();
    assert!(steps.lines().count() >= 2, "{steps}");
    for step in steps.lines() {
        let node = node(&server);
        import(&node);
        let killed = imgadm(&node, &["delete", &id]).env("TRITON_STEP_KILL", step).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{step}");
        let again = run(&node, &["delete", &id]);
        assert!(matches!(again.status, Some(0 | 3)), "{step}: {}", again.stderr);
        node.assert_nothing_of(uuid);
        import(&node);
    }
}
