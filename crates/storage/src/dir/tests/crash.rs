//! Every change is killed at each of its steps; afterwards it has happened or not, can be repeated, and nothing leaks.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use triton_types::{ImageUuid, InstanceUuid};

use super::{Node, label};
use crate::{CloneOptions, Storage};

/// One change, with what it needs before and must leave.
#[derive(Clone, Copy, Debug)]
enum Change {
    Import,
    Clone,
    Snapshot,
    Rollback,
    DeleteSnapshot,
    Destroy,
    DeleteImage,
}

const ALL: [Change; 7] =
    [Change::Import, Change::Clone, Change::Snapshot, Change::Rollback, Change::DeleteSnapshot, Change::Destroy, Change::DeleteImage];

const IMAGE: &str = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";
const OTHER_IMAGE: &str = "1f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";
const INSTANCE: &str = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
const FRESH: &str = "7a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";

fn image(text: &str) -> ImageUuid {
    text.parse().unwrap()
}

fn instance(text: &str) -> InstanceUuid {
    text.parse().unwrap()
}

fn import(storage: &Storage, uuid: ImageUuid) {
    let partial = storage.begin_image(uuid, None).unwrap();
    fs::create_dir_all(partial.join("root/etc")).unwrap();
    fs::write(partial.join("root/etc/hostname"), "image").unwrap();
    storage.commit_image(uuid).unwrap();
}

fn prepared(name: &str) -> Node {
    let node = Node::new(name);
    import(&node.storage, image(IMAGE));
    node.storage.clone_image(image(IMAGE), instance(INSTANCE), &CloneOptions::default()).unwrap();
    let hostname = node.storage.root(instance(INSTANCE)).join("etc/hostname");
    for state in ["s1", "s2"] {
        fs::write(&hostname, state).unwrap();
        node.storage.snapshot(instance(INSTANCE), &label(state)).unwrap();
    }
    fs::write(&hostname, "now").unwrap();
    node
}

/// Makes the change; true when it had been made already by a killed call.
fn make(storage: &Storage, change: Change) -> bool {
    let uuid = instance(INSTANCE);
    match change {
        Change::Import => {
            let done = storage.image_exists(image(OTHER_IMAGE)).unwrap();
            if !done {
                import(storage, image(OTHER_IMAGE));
            }
            done
        }
        Change::Clone => {
            let done = storage.instance_exists(instance(FRESH)).unwrap();
            if !done {
                storage.clone_image(image(IMAGE), instance(FRESH), &CloneOptions::default()).unwrap();
            }
            done
        }
        Change::Snapshot => {
            let done = storage.snapshots(uuid).unwrap().len() == 3;
            if !done {
                storage.snapshot(uuid, &label("s3")).unwrap();
            }
            done
        }
        Change::Rollback => {
            storage.rollback(uuid, &label("s1")).unwrap();
            false
        }
        Change::DeleteSnapshot => {
            let done = storage.snapshots(uuid).unwrap().len() == 1;
            if !done {
                storage.delete_snapshot(uuid, &label("s1")).unwrap();
            }
            done
        }
        Change::Destroy => {
            storage.destroy_instance(uuid).unwrap();
            false
        }
        Change::DeleteImage => {
            if storage.instance_exists(uuid).unwrap() {
                storage.destroy_instance(uuid).unwrap();
            }
            let done = !storage.image_exists(image(IMAGE)).unwrap();
            if !done {
                storage.delete_image(image(IMAGE)).unwrap();
            }
            done
        }
    }
}

fn hostname(storage: &Storage, uuid: &str) -> String {
    fs::read_to_string(storage.root(instance(uuid)).join("etc/hostname")).unwrap()
}

/// What an operator sees; whatever exists is whole.
fn seen(node: &Node) -> (Vec<String>, Vec<String>, Vec<String>) {
    let storage = Storage::open(&node.layout).unwrap();
    let images: Vec<String> = storage.images().unwrap().iter().map(|i| i.uuid.to_string()).collect();
    for uuid in &images {
        let file = node.pool().join(uuid).join("root/etc/hostname");
        assert_eq!(fs::read_to_string(file).unwrap(), "image");
    }
    let instances: Vec<String> =
        storage.instances().unwrap().iter().map(|i| format!("{i} {}", hostname(&storage, &i.to_string()))).collect();
    let snapshots = match storage.instance_exists(instance(INSTANCE)).unwrap() {
        true => storage.snapshots(instance(INSTANCE)).unwrap().iter().map(|s| s.name.to_string()).collect(),
        false => Vec::new(),
    };
    (images, instances, snapshots)
}

fn child(node: &Node, change: Change, variable: &str, value: &str) -> ExitStatus {
    let number = ALL.iter().position(|c| c.to_string() == change.to_string()).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dir::tests::crash::changing_child", "--ignored"])
        .env("TRITON_TEST_ROOT", node.layout.root())
        .env("TRITON_TEST_CHANGE", number.to_string())
        .env(variable, value)
        .output()
        .unwrap()
        .status
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[test]
#[ignore = "the child of the crash test below, killed while it makes a change"]
fn changing_child() {
    let layout = triton_files::Layout::new(std::env::var_os("TRITON_TEST_ROOT").unwrap());
    let number: usize = std::env::var("TRITON_TEST_CHANGE").unwrap().parse().unwrap();
    make(&Storage::open(&layout).unwrap(), ALL[number]);
}

/// instances case 71 (storage's part)
#[test]
fn a_change_killed_at_any_step_has_happened_or_not_and_can_be_repeated() {
    for change in ALL {
        let node = prepared("crash-trace");
        let before = seen(&node);
        let trace = node.scratch.join("trace");
        assert!(child(&node, change, "TRITON_STEP_TRACE", trace.to_str().unwrap()).success(), "{change}");
        let after = seen(&node);
        let steps = fs::read_to_string(&trace).unwrap();
        assert!(steps.lines().count() >= 2, "{change}: {steps}");
        drop(node);
        let mut counts = std::collections::HashMap::new();
        for step in steps.lines() {
            let count = counts.entry(step).and_modify(|n| *n += 1).or_insert(1);
            let node = prepared("crash");
            let status = child(&node, change, "TRITON_STEP_KILL", &format!("{step}:{count}"));
            assert_eq!(status.signal(), Some(9), "{change} at {step}:{count}");
            let now = seen(&node);
            check_between(change, step, &before, &after, &now);
            let storage = Storage::open(&node.layout).unwrap();
            make(&storage, change);
            assert_eq!(seen(&node), after, "{change} killed at {step}:{count} and repeated");
            clean_up(&node, change, step);
        }
    }
}

type Seen = (Vec<String>, Vec<String>, Vec<String>);

/// A killed change shows the old state or the new one in each list; only the rollback's newer snapshots and the two
/// destructions of the last change go one after the other.
fn check_between(change: Change, step: &str, before: &Seen, after: &Seen, now: &Seen) {
    for (before, after, now) in [(&before.0, &after.0, &now.0), (&before.1, &after.1, &now.1), (&before.2, &after.2, &now.2)] {
        assert!(now == before || now == after, "{change} killed at {step}: {now:?} is neither {before:?} nor {after:?}");
    }
}

/// Everything can be destroyed afterwards, and nothing stays.
fn clean_up(node: &Node, change: Change, step: &str) {
    let storage = Storage::open(&node.layout).unwrap();
    storage.sweep().unwrap();
    for uuid in storage.instances().unwrap() {
        storage.destroy_instance(uuid).unwrap();
    }
    for found in storage.images().unwrap() {
        storage.delete_image(found.uuid).unwrap();
    }
    let names = node.names();
    assert_eq!(names, [".snapshots"], "{change} killed at {step}");
    assert!(super::names(&node.pool().join(".snapshots")).is_empty(), "{change} killed at {step}");
}
