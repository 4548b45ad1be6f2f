//! Files: whole, named when bad, read again only when they changed.

use serde_json::json;
use triton_fwrule::Options;

use super::{look::LARGEST, *};

fn rule(last: u8, text: &str) -> Rule {
    let object = json!({"uuid": format!("10000000-0000-4000-8000-0000000000{last:02x}"), "global": true, "enabled": true, "version": "1.1", "rule": text});
    Rule::from_json(&object, &Options::default()).unwrap()
}

fn vm(last: u8) -> RemoteVm {
    RemoteVm::parse(
        json!({"uuid": format!("20000000-0000-4000-8000-0000000000{last:02x}"), "ips": [format!("10.9.0.{last}")]}).as_object().unwrap(),
    )
    .unwrap()
}

fn store() -> (tempfile::TempDir, Layout, Store) {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    layout.prepare().unwrap();
    let store = Store::new(&layout);
    (root, layout, store)
}

const TEXT: &str = "FROM any TO all vms ALLOW tcp PORT 22";

#[test]
fn what_is_written_is_read_again_by_anybody_and_what_is_removed_is_gone() {
    let (_root, layout, mut store) = store();
    assert!(store.load().unwrap().rules.is_empty());
    let lock = store.lock("test").unwrap();
    store
        .write(&lock, &Writes { rules: vec![rule(1, TEXT), rule(2, TEXT)], remote_vms: (1..40).map(vm).collect(), ..Writes::default() })
        .unwrap();
    let mut other = Store::new(&layout);
    let contents = other.load().unwrap();
    assert_eq!(contents.rules.values().cloned().collect::<Vec<_>>(), [rule(1, TEXT), rule(2, TEXT)]);
    assert_eq!(contents.remote_vms.len(), 39);
    let text = fs::read_to_string(layout.at("/var/fw/rules/10000000-0000-4000-8000-000000000001.json")).unwrap();
    assert!(text.starts_with("{\n  \"enabled\": true,\n  \"global\": true,\n"), "{text}");
    store
        .write(
            &lock,
            &Writes { no_rules: vec![rule(1, TEXT).uuid, rule(9, TEXT).uuid], no_remote_vms: vec![vm(5).uuid], ..Writes::default() },
        )
        .unwrap();
    let contents = other.load().unwrap();
    assert_eq!((contents.rules.len(), contents.remote_vms.len()), (1, 38));
}

#[test]
fn a_file_that_changed_is_read_again() {
    let (_root, layout, mut store) = store();
    let lock = store.lock("test").unwrap();
    store.write(&lock, &Writes { rules: vec![rule(1, TEXT)], ..Writes::default() }).unwrap();
    store.load().unwrap();
    let new = rule(1, "FROM any TO all vms ALLOW tcp PORT 23");
    Store::new(&layout).write(&lock, &Writes { rules: vec![new.clone()], ..Writes::default() }).unwrap();
    assert_eq!(store.load().unwrap().rules[&new.uuid], new);
}

/// Ruling 1.
#[test]
fn a_file_that_cannot_be_used_is_named_and_the_others_count() {
    let (_root, layout, mut store) = store();
    let lock = store.lock("test").unwrap();
    store.write(&lock, &Writes { rules: vec![rule(1, TEXT), rule(2, TEXT)], ..Writes::default() }).unwrap();
    let rules = layout.at("/var/fw/rules");
    fs::write(rules.join("10000000-0000-4000-8000-000000000003.json"), "{ half").unwrap();
    fs::write(rules.join("nonsense.json"), "{}").unwrap();
    fs::copy(rules.join("10000000-0000-4000-8000-000000000001.json"), rules.join("10000000-0000-4000-8000-000000000004.json")).unwrap();
    fs::write(rules.join("10000000-0000-4000-8000-000000000002.json"), vec![b' '; usize::try_from(LARGEST).unwrap() + 1]).unwrap();
    fs::write(rules.join("notes.txt"), "not looked at").unwrap();
    fs::write(rules.join("10000000-0000-4000-8000-000000000001.json.123.456"), "half written by another version").unwrap();
    let mut fresh = Store::new(&layout);
    let contents = fresh.load().unwrap();
    assert_eq!(contents.rules.values().cloned().collect::<Vec<_>>(), [rule(1, TEXT), rule(2, TEXT)], "of one there is a copy");
    let unknown: BTreeSet<RuleUuid> = [3_u8, 4].map(|last| rule(last, TEXT).uuid).into();
    assert_eq!(contents.unknown(), Unknown { rules: unknown, remote_vms: false });
    let bad: Vec<(String, &str)> =
        contents.bad.iter().map(|(path, reason)| (path.file_name().unwrap().to_string_lossy().into_owned(), reason.as_str())).collect();
    assert_eq!(bad.len(), 4, "{bad:?}");
    assert!(bad[0].0.contains("0002") && bad[0].1.contains("larger than"), "{bad:?}");
    assert!(bad[1].1.contains("EOF") || bad[1].1.contains("key must be"), "{bad:?}");
    assert!(bad[2].1.contains("it is about rule") && bad[3].1.contains("no uuid"), "{bad:?}");
    store.write(&lock, &Writes { rules: vec![rule(3, TEXT)], no_rules: vec![rule(2, TEXT).uuid], ..Writes::default() }).unwrap();
    let contents = store.load().unwrap();
    assert_eq!((contents.rules.len(), contents.bad.len()), (2, 2));
}

/// Invariant 1: empty is not none.
#[test]
fn a_store_whose_file_system_is_not_there_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(Store::new(&Layout::new(root.path())).load().is_err());
}

/// Ruling 1: what was known of a file that is damaged afterwards stays known.
#[test]
fn a_file_that_is_damaged_later_is_still_what_it_was_for_who_knew_it() {
    let (_root, layout, mut store) = store();
    let lock = store.lock("test").unwrap();
    store.write(&lock, &Writes { rules: vec![rule(1, TEXT)], remote_vms: vec![vm(1)], ..Writes::default() }).unwrap();
    let before = store.load().unwrap().edition();
    assert_eq!(store.load().unwrap().edition(), before, "nothing changed");
    fs::write(file(&layout.at("/var/fw/rules"), rule(1, TEXT).uuid), "").unwrap();
    fs::write(file(&layout.at("/var/fw/vms"), vm(1).uuid), "[]").unwrap();
    let contents = store.load().unwrap();
    assert_ne!(contents.edition(), before);
    assert_eq!((contents.rules[&rule(1, TEXT).uuid].clone(), contents.remote_vms.len(), contents.bad.len()), (rule(1, TEXT), 1, 2));
    assert!(contents.is_bad(vm(1).uuid) && !contents.is_bad(vm(2).uuid));
    assert_eq!(contents.unknown(), Unknown::default());
    fs::remove_file(file(&layout.at("/var/fw/rules"), rule(1, TEXT).uuid)).unwrap();
    assert!(store.load().unwrap().rules.is_empty(), "a file that is gone is a rule that is gone");
}

/// Invariant 4: a change of several files that was interrupted is ended by the next one who looks, and until then by nobody.
#[test]
fn a_change_that_was_interrupted_between_two_files_is_ended() {
    let (_root, layout, store) = store();
    let lock = store.lock("test").unwrap();
    store.write(&lock, &Writes { rules: vec![rule(1, TEXT), rule(2, TEXT)], remote_vms: vec![vm(1)], ..Writes::default() }).unwrap();
    assert!(!store.journal().exists());
    let other = "FROM any TO all vms ALLOW tcp PORT 23";
    let change = Writes {
        rules: vec![rule(1, other), rule(3, other)],
        remote_vms: vec![vm(2)],
        no_rules: vec![rule(2, TEXT).uuid],
        no_remote_vms: vec![vm(1).uuid],
    };
    // As a kill after the first file leaves it.
    journal::write(&store.journal(), &change).unwrap();
    write_json(&file(&store.rules(), rule(1, other).uuid), &rule(1, other).to_json(), 0o644).unwrap();
    drop(lock);
    let mut next = Store::new(&layout);
    next.settle().unwrap();
    let contents = next.load().unwrap();
    assert_eq!(contents.rules.values().cloned().collect::<Vec<_>>(), [rule(1, other), rule(3, other)]);
    assert_eq!(contents.remote_vms.values().cloned().collect::<Vec<_>>(), [vm(2)]);
    assert!(!next.journal().exists());
    // One that is damaged stops nobody; one of a newer version is refused by name.
    fs::write(next.journal(), "{ half").unwrap();
    next.settle().unwrap();
    assert!(!next.journal().exists());
    fs::write(next.journal(), r#"{"format":2}"#).unwrap();
    assert!(next.settle().unwrap_err().to_string().contains("newer version"));
}

/// Who knows the files looks at none of them until somebody says that he changed one, or replaced one without saying so.
#[test]
fn what_somebody_else_changed_is_found_without_looking_at_every_file() {
    let (_root, layout, mut store) = store();
    let mut other = Store::new(&layout);
    let change = |store: &mut Store, writes: Writes| {
        let lock = store.lock("test").unwrap();
        store.refresh().unwrap();
        store.write(&lock, &writes).unwrap();
        store.absorb(writes).unwrap();
    };
    let put = |rules: Vec<Rule>| Writes { rules, ..Writes::default() };
    change(&mut store, put(vec![rule(1, TEXT), rule(2, TEXT)]));
    assert!(store.mark.is_some() && store.mark == store.read_mark(), "its own change is none to it");
    assert_eq!(other.refresh().unwrap().rules.len(), 2);
    // Others, by the library; one file, several files, removal.
    let new = rule(1, "FROM any TO all vms ALLOW tcp PORT 23");
    change(&mut other, put(vec![new.clone()]));
    assert_ne!(store.mark, store.read_mark());
    assert_eq!(store.refresh().unwrap().rules[&new.uuid], new);
    change(&mut other, put(vec![rule(3, TEXT), rule(4, TEXT)]));
    change(&mut other, Writes { no_rules: vec![rule(2, TEXT).uuid], ..Writes::default() });
    assert_eq!(store.refresh().unwrap().rules.len(), 3);
    assert_eq!(store.take_news().rules, [1, 2, 3, 4].map(|last| rule(last, TEXT).uuid).into());
    assert_eq!(store.refresh().unwrap().rules.len(), 3);
    assert_eq!(store.take_news(), News::default());
    // Others, otherwise: the folder gives them away.
    std::thread::sleep(Duration::from_millis(20));
    let path = file(&store.rules(), rule(4, TEXT).uuid);
    fs::write(store.rules().join("4.new"), rule(4, "FROM any TO all vms ALLOW tcp PORT 24").to_json().to_string()).unwrap();
    fs::rename(store.rules().join("4.new"), &path).unwrap();
    assert_eq!(store.refresh().unwrap().rules[&rule(4, TEXT).uuid], rule(4, "FROM any TO all vms ALLOW tcp PORT 24"));
    // Who writes into a file is found by looking at all of them.
    fs::write(&path, "{}").unwrap();
    assert!(store.refresh().unwrap().bad.is_empty());
    assert_eq!(store.load().unwrap().bad.len(), 1);
}

/// While somebody writes, and after he was killed, nothing is taken for known.
#[test]
fn a_writer_that_was_killed_leaves_nothing_that_is_taken_for_known() {
    let (_root, layout, mut store) = store();
    let lock = store.lock("test").unwrap();
    store.write(&lock, &Writes { rules: vec![rule(1, TEXT)], ..Writes::default() }).unwrap();
    store.load().unwrap();
    drop(Writing::begin(&store.directory()).unwrap());
    assert_eq!(store.read_mark(), None);
    // Killed after the file and before he said so; the folder's time may be the same.
    write_json(&file(&store.rules(), rule(1, TEXT).uuid), &rule(1, "FROM any TO all vms ALLOW tcp PORT 25").to_json(), 0o644).unwrap();
    assert_eq!(store.refresh().unwrap().rules[&rule(1, TEXT).uuid], rule(1, "FROM any TO all vms ALLOW tcp PORT 25"));
    assert!(store.mark.is_none());
    drop(lock);
    let _lock = Store::new(&layout).lock("another").unwrap();
    assert!(store.read_mark().is_some(), "who has the lock knows that nobody writes");
    store.refresh().unwrap();
    assert!(store.mark.is_some());
}

/// Ruling 1: what a damaged file of a rule said is in a second copy, which never says less than the file did, nor that the rule exists.
#[test]
fn a_second_copy_says_what_a_damaged_file_of_a_rule_said() {
    let (_root, layout, store) = store();
    let lock = store.lock("test").unwrap();
    let copies = Copies::new(&store.directory());
    let put = |rules: Vec<Rule>| store.write(&lock, &Writes { rules, ..Writes::default() }).unwrap();
    let newer = rule(1, "FROM any TO all vms ALLOW tcp PORT 23");
    put(vec![rule(1, TEXT)]);
    put(vec![newer.clone(), rule(2, TEXT), rule(3, TEXT)]);
    assert_eq!(copies.find(newer.uuid), Some(newer.clone()));
    for last in [1, 2, 3] {
        fs::write(file(&store.rules(), rule(last, TEXT).uuid), "{ half").unwrap();
    }
    fs::write(layout.at("/var/fw/.copies").join(format!("{}.json", rule(2, TEXT).uuid)), "{ half").unwrap();
    let mut fresh = Store::new(&layout);
    let contents = fresh.load().unwrap();
    assert_eq!(contents.rules.values().cloned().collect::<Vec<_>>(), [newer, rule(3, TEXT)]);
    assert_eq!((contents.bad.len(), contents.unknown().rules), (3, [rule(2, TEXT).uuid].into()), "each is still named");
    // It goes with the rule, whoever removes that.
    store.write(&lock, &Writes { no_rules: vec![rule(3, TEXT).uuid], ..Writes::default() }).unwrap();
    assert_eq!(copies.find(rule(3, TEXT).uuid), None);
    fs::remove_file(file(&store.rules(), rule(1, TEXT).uuid)).unwrap();
    assert!(!fresh.load().unwrap().rules.contains_key(&rule(1, TEXT).uuid), "a copy alone is no rule");
}
