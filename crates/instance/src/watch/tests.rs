//! Tests of [`Watcher`] below a root of their own.

use triton_types::{Lifecycle, MachineFile, VmConfig};

use super::*;

struct Node(Layout);
impl Node {
    fn new(name: &str) -> Self {
        let layout = Layout::new(std::env::temp_dir().join(format!("triton-watch-{}-{name}", std::process::id())));
        layout.prepare().unwrap();
        Self(layout)
    }
    fn write(&self, uuid: InstanceUuid) {
        let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config: VmConfig::bare(uuid) };
        Machines::new(&self.0).write(&file).unwrap();
    }
}
impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.root());
    }
}
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn creation_change_and_deletion_are_told_apart_and_coalesced() {
    let node = Node::new("kinds");
    let (old, new) = (InstanceUuid::random(), InstanceUuid::random());
    node.write(old);
    let mut watcher = Watcher::new(&node.0).unwrap();
    assert_eq!(watcher.known(), [old]);
    node.write(new);
    assert_eq!(watcher.wait(PATIENCE).unwrap(), [Change { uuid: new, kind: ChangeKind::Created }]);
    for _ in 0..50 {
        RunStates::new(&node.0).bump(old).unwrap();
    }
    let changes = watcher.wait(PATIENCE).unwrap();
    assert_eq!(changes, [Change { uuid: old, kind: ChangeKind::Modified }]);
    Machines::new(&node.0).remove(new).unwrap();
    loop {
        let changes = watcher.wait(PATIENCE).unwrap();
        assert!(!changes.is_empty(), "the deletion was not seen");
        if changes.contains(&Change { uuid: new, kind: ChangeKind::Deleted }) {
            break;
        }
    }
}

/// vm-agent case 38
#[test]
fn thousands_of_changes_at_a_time_lose_no_last_one() {
    let node = Node::new("storm");
    let uuids: Vec<InstanceUuid> = (0..10).map(|_| InstanceUuid::random()).collect();
    uuids.iter().for_each(|uuid| node.write(*uuid));
    let mut watcher = Watcher::new(&node.0).unwrap();
    std::thread::scope(|scope| {
        for uuid in &uuids {
            let runs = RunStates::new(&node.0);
            scope.spawn(move || (0..240).for_each(|_| runs.bump(*uuid).unwrap()));
        }
    });
    let last: BTreeMap<InstanceUuid, u64> =
        uuids.iter().map(|uuid| (*uuid, RunStates::new(&node.0).read(*uuid).unwrap().generation)).collect();
    assert!(last.values().all(|generation| *generation >= 240));
    let mut told = BTreeSet::new();
    while told.len() < 10 {
        let changes = watcher.wait(PATIENCE).unwrap();
        assert!(!changes.is_empty(), "some were not told");
        told.extend(changes.into_iter().map(|change| change.uuid));
    }
    assert!(last.iter().all(|(uuid, generation)| watcher.seen[uuid].generation == *generation), "the last of each was seen");
}

#[test]
fn a_store_that_vanishes_is_an_error_and_nothing_is_deleted() {
    let node = Node::new("vanish");
    let uuid = InstanceUuid::random();
    node.write(uuid);
    let mut watcher = Watcher::new(&node.0).unwrap();
    std::fs::remove_file(node.0.marker()).unwrap();
    std::fs::remove_file(node.0.machine(uuid)).unwrap();
    assert!(watcher.wait(PATIENCE).is_err());
    assert_eq!(watcher.known(), [uuid]);
}

/// Nobody writes a file here: as if the supervisor were dead, or slow.
#[test]
fn the_death_of_an_init_is_a_change_for_who_follows_it() {
    let node = Node::new("inits");
    let (uuid, other) = (InstanceUuid::random(), InstanceUuid::random());
    node.write(uuid);
    node.write(other);
    let sleeper = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let runs = |uuid: InstanceUuid, child: &std::process::Child| {
        let init = triton_process::reference(i32::try_from(child.id()).unwrap());
        RunStates::new(&node.0).update(uuid, |run| (run.phase, run.init) = (triton_types::RunPhase::Running, init)).unwrap();
    };
    let end = |mut child: std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let (early, late) = (sleeper(), sleeper());
    runs(uuid, &early);
    let (mut follows, mut does_not) = (Watcher::with_inits(&node.0).unwrap(), Watcher::new(&node.0).unwrap());
    let changed = |uuid| [Change { uuid, kind: ChangeKind::Modified }];
    end(early);
    assert_eq!(follows.wait(PATIENCE).unwrap(), changed(uuid), "one that ran before");
    runs(other, &late);
    assert_eq!(follows.wait(PATIENCE).unwrap(), changed(other), "it runs");
    end(late);
    assert_eq!(follows.wait(PATIENCE).unwrap(), changed(other), "one that began to run later");
    assert_eq!(follows.wait(Duration::from_millis(30)).unwrap(), []);
    assert_eq!(does_not.wait(PATIENCE).unwrap(), changed(other), "files alone");
    assert_eq!(does_not.wait(Duration::from_millis(30)).unwrap(), []);
}

#[test]
fn nothing_is_reported_when_nothing_happens() {
    let node = Node::new("rest");
    let mut watcher = Watcher::new(&node.0).unwrap();
    assert_eq!(watcher.wait(Duration::from_millis(30)).unwrap(), []);
}

#[test]
fn a_full_look_tells_what_events_did_not_and_lets_events_through() {
    let node = Node::new("full");
    let uuids: BTreeSet<InstanceUuid> = (0..5 * PORTION).map(|_| InstanceUuid::random()).collect();
    uuids.iter().for_each(|uuid| node.write(*uuid));
    let mut watcher = Watcher::new(&node.0).unwrap();
    // As if the events of all these had been lost, and of one that was never there.
    let gone = InstanceUuid::random();
    let other = Seen { generation: 77, modified: 0, inode: 0 };
    watcher.seen.extend(uuids.iter().chain([&gone]).map(|uuid| (*uuid, other)));
    watcher.looked -= FULL_LOOK;

    let new = InstanceUuid::random();
    node.write(new);
    let first = watcher.wait(PATIENCE).unwrap();
    assert!(first.contains(&Change { uuid: new, kind: ChangeKind::Created }), "it came first, with one portion of the look: {first:?}");
    assert!(first.len() <= PORTION + 1 && watcher.rest.len() >= 4 * PORTION, "{} told, {} to come", first.len(), watcher.rest.len());
    let mut told: Vec<Change> = first;
    while !watcher.rest.is_empty() {
        told.extend(watcher.wait(PATIENCE).unwrap());
    }
    let kinds = |kind| told.iter().filter(|change| change.kind == kind).map(|change| change.uuid).collect::<BTreeSet<_>>();
    assert_eq!((kinds(ChangeKind::Modified), kinds(ChangeKind::Deleted)), (uuids, [gone].into()));
    assert_eq!(told.len(), 5 * PORTION + 2, "each once");
    assert_eq!(watcher.wait(Duration::from_millis(30)).unwrap(), [], "the next look is due in a minute");
}
