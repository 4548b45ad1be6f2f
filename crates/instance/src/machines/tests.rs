//! Files of instances: read, written, broken, and changed several at a time.

use triton_types::{Lifecycle, VmConfig};

use super::*;

struct Node(Layout);
impl Node {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("triton-machines-{}-{name}", std::process::id()));
        let layout = Layout::new(&root);
        layout.prepare().unwrap();
        Self(layout)
    }
    fn machine(&self, uuid: InstanceUuid) -> MachineFile {
        let mut config = VmConfig::bare(uuid);
        config.zpool = Some("zones".into());
        fs::create_dir_all(self.0.at("/zones").join(uuid.to_string())).unwrap();
        MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config }
    }
}
impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

#[test]
fn metadata_lives_in_its_own_files_and_comes_back_with_its_types() {
    let node = Node::new("docs");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    let mut file = node.machine(uuid);
    file.config.tags.insert("odd key".into(), 42.into());
    file.config.customer_metadata.insert("a".into(), true.into());
    machines.write(&file).unwrap();
    machines.write_documents(&file).unwrap();
    let text = fs::read_to_string(node.0.machine(uuid)).unwrap();
    assert!(!text.contains("odd key") && !text.contains("customer_metadata"), "{text}");
    let back = machines.read(uuid).unwrap();
    assert_eq!(back.file.config, file.config);
    assert_eq!(machines.uuids().unwrap(), [uuid]);
}

/// instances case 65
#[test]
fn last_modified_strictly_increases() {
    let node = Node::new("mtime");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    let file = node.machine(uuid);
    machines.write(&file).unwrap();
    let mut last = machines.read(uuid).unwrap().modified;
    for round in 0..20 {
        if round % 2 == 0 {
            machines.write(&file).unwrap();
        } else {
            machines.touch(uuid).unwrap();
        }
        let now = machines.read(uuid).unwrap().modified;
        assert!(now > last);
        last = now;
    }
}

/// instances case 73
#[test]
fn a_truncated_machine_file_is_an_instance_that_cannot_be_read() {
    let node = Node::new("broken");
    let machines = Machines::new(&node.0);
    let (good, bad) = (InstanceUuid::random(), InstanceUuid::random());
    machines.write(&node.machine(good)).unwrap();
    fs::write(node.0.machine(bad), "{\"uuid\": \"").unwrap();
    assert_eq!(machines.uuids().unwrap().len(), 2);
    assert!(matches!(machines.read(bad), Err(InstanceError::Unreadable { .. })));
    assert!(machines.read(good).is_ok() && machines.exists(bad));
    assert!(matches!(machines.read(InstanceUuid::random()), Err(InstanceError::NotFound { .. })));
}

#[test]
fn without_the_marker_there_is_no_list_rather_than_an_empty_one() {
    let node = Node::new("marker");
    fs::remove_file(node.0.marker()).unwrap();
    assert!(Machines::new(&node.0).uuids().is_err());
    assert!(!matches!(Machines::new(&node.0).read(InstanceUuid::random()), Err(InstanceError::NotFound { .. })));
}

fn changed(file: &MachineFile, value: u64) -> MachineFile {
    let mut new = file.clone();
    new.config.cpu_cap = Some(value);
    for map in [&mut new.config.tags, &mut new.config.customer_metadata, &mut new.config.internal_metadata, &mut new.config.routes] {
        map.insert("value".into(), value.into());
    }
    new
}

#[test]
fn a_change_of_several_files_counts_as_a_whole_from_its_pending_file_on() {
    let node = Node::new("pending");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    let old = node.machine(uuid);
    machines.write(&old).unwrap();
    let new = changed(&old, 7);
    // As a change that was killed right after it counted.
    write_json(&machines.pending_path(uuid), &new, 0o600).unwrap();
    let seen = machines.read(uuid).unwrap();
    assert_eq!(seen.file.config, new.config);
    assert!(machines.finish_pending(uuid).unwrap() && !machines.finish_pending(uuid).unwrap());
    let settled = machines.read(uuid).unwrap();
    assert_eq!(settled.file.config, new.config);
    assert!(settled.modified >= seen.modified);
    assert!(!fs::read_to_string(node.0.machine(uuid)).unwrap().contains("customer_metadata"), "documents stay out of the machine file");
    assert_eq!(machines.uuids().unwrap(), [uuid], "no other file counts as an instance");
}

#[test]
fn readers_see_an_instance_before_or_after_each_change_and_never_between() {
    let node = Node::new("torn");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    let mut file = changed(&node.machine(uuid), 0);
    machines.write(&file).unwrap();
    machines.write_documents(&file).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut last) = (0, Timestamp::from_millis(0));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let machine = machines.read(uuid).unwrap();
                let config = machine.file.config;
                let cap = config.cpu_cap.unwrap();
                for map in [&config.tags, &config.customer_metadata, &config.internal_metadata, &config.routes] {
                    assert_eq!(map["value"], cap, "a mixture of two states");
                }
                assert!(machine.modified >= last, "last_modified went back");
                (reads, last) = (reads + 1, machine.modified);
            }
            reads
        });
        for value in 1..=40 {
            let new = changed(&file, value);
            machines.commit(&file, &new).unwrap();
            file = new;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn a_pending_file_of_an_instance_that_is_gone_makes_no_instance() {
    let node = Node::new("ghost");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    write_json(&machines.pending_path(uuid), &node.machine(uuid), 0o600).unwrap();
    assert!(matches!(machines.read(uuid), Err(InstanceError::NotFound { .. })));
    assert!(machines.uuids().unwrap().is_empty());
}

#[test]
fn a_change_whose_files_cannot_be_written_does_not_count() {
    let node = Node::new("refused");
    let machines = Machines::new(&node.0);
    let uuid = InstanceUuid::random();
    let old = node.machine(uuid);
    machines.write(&old).unwrap();
    // There is no directory for the documents.
    fs::remove_dir_all(machines.zonepath(&old)).unwrap();
    assert!(machines.commit(&old, &changed(&old, 7)).is_err());
    assert!(!machines.pending_path(uuid).exists());
    assert_eq!(machines.read(uuid).unwrap().file.config, old.config);
}
