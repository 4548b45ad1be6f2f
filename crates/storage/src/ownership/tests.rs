//! Ownership on the real file system: idmapped mounts tried, trees shifted there and back, also after kills.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::PathBuf,
    process::Command,
};

use triton_types::{IdRange, Ownership};

use super::{detect, shift, unshift};
use crate::tree::testing::{CAPABILITY, Scratch, acl, describe, fill, with_tmpfs};

const IDS: IdRange = IdRange { base: 1_000_000, size: 65_536 };

fn tree(name: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new(name);
    let root = scratch.join("root");
    fs::create_dir(&root).unwrap();
    fill(&root);
    (scratch, root)
}

/// Kernel 5.12 and later map ext4, 6.3 and later tmpfs; no kernel maps proc.
#[test]
fn the_trial_says_which_file_systems_can_be_idmapped_and_leaves_nothing() {
    let scratch = Scratch::new("detect");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert_eq!(detect(&scratch.0).unwrap(), Ownership::Idmapped);
    assert_eq!(detect("/proc".as_ref()).unwrap(), Ownership::Shifted);
    assert!(detect(&scratch.join("absent")).unwrap_err().to_string().contains("absent"));
    assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), mounts);
    let place = scratch.join("tmpfs");
    assert_eq!(with_tmpfs(&place, 1 << 20, || detect(&place)).unwrap(), Ownership::Idmapped);
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "", "no process stays");
}

#[test]
fn a_shift_moves_owners_acls_and_capabilities_and_keeps_the_rest() {
    let (_scratch, root) = tree("shift");
    let before = describe(&root);
    shift(&root, IDS).unwrap();
    let after = describe(&root);
    for (path, old) in &before {
        let new = &after[path];
        let mut expected = old.clone();
        expected.owner = (old.owner.0 + IDS.base, old.owner.1 + IDS.base);
        if let Some(value) = expected.attributes.get_mut("security.capability") {
            let mut version_3 = CAPABILITY.to_vec();
            version_3[3] = 3;
            version_3.extend(IDS.base.to_le_bytes());
            *value = version_3;
        }
        if let Some(value) = expected.attributes.get_mut("system.posix_acl_access") {
            *value = acl(1000 + IDS.base, 50 + IDS.base);
        }
        if let Some(value) = expected.attributes.get_mut("system.posix_acl_default") {
            *value = acl(1001 + IDS.base, 51 + IDS.base);
        }
        assert_eq!(new, &expected, "{}", path.display());
    }
    assert_eq!(after[&PathBuf::from("bin/su")].mode & 0o7777, 0o4755);
    shift(&root, IDS).unwrap();
    assert_eq!(describe(&root), after, "a second shift changes nothing");
    unshift(&root, IDS).unwrap();
    assert_eq!(describe(&root), before, "and back is as it was");
}

#[test]
fn an_id_of_somebody_else_is_refused_by_name() {
    let (_scratch, root) = tree("foreign");
    std::os::unix::fs::chown(root.join("large"), Some(70_000), Some(0)).unwrap();
    let error = shift(&root, IDS).unwrap_err().to_string();
    assert!(error.contains("large") && error.contains("70000"), "{error}");
    assert_eq!(fs::metadata(root.join("large")).unwrap().uid(), 70_000);
}

#[test]
fn ranges_that_overlap_the_images_ids_or_the_end_are_refused() {
    let scratch = Scratch::new("range");
    for ids in [
        IdRange { base: 0, size: 65_536 },
        IdRange { base: 65_535, size: 65_536 },
        IdRange { base: u32::MAX - 65_536, size: 65_536 },
        IdRange { base: u32::MAX, size: 65_536 },
        IdRange { base: 1_000_000, size: 0 },
    ] {
        assert!(shift(&scratch.0, ids).is_err(), "{ids:?}");
    }
}

#[test]
#[ignore = "the child of the crash test below, killed while it shifts"]
fn shifting_child() {
    let root = PathBuf::from(std::env::var_os("TRITON_TEST_TREE").unwrap());
    match std::env::var("TRITON_TEST_BACK").as_deref() {
        Ok("1") => unshift(&root, IDS).unwrap(),
        _ => shift(&root, IDS).unwrap(),
    }
}

#[test]
fn a_shift_killed_at_any_step_is_completed_by_the_next_and_can_be_undone() {
    for back in [false, true] {
        for step in [
            "journalled",
            "owner-changed:1",
            "owner-changed:2",
            "owner-changed:5",
            "owner-changed:9",
            "mode-restored",
            "capability-restored",
        ] {
            let (_scratch, root) = tree("killed");
            let plain = describe(&root);
            shift(&root, IDS).unwrap();
            let shifted = describe(&root);
            if !back {
                unshift(&root, IDS).unwrap();
            }
            for kills in 1..=2 {
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "ownership::tests::shifting_child", "--ignored"])
                    .env("TRITON_TEST_TREE", &root)
                    .env("TRITON_TEST_BACK", if back { "1" } else { "0" })
                    .env("TRITON_STEP_KILL", format!("storage.shift.{step}"))
                    .output()
                    .unwrap()
                    .status;
                // The second run may find less to do than the step's number.
                assert!(status.signal() == Some(9) || kills == 2 && status.success(), "{step}: {status}");
                if status.signal() == Some(9) {
                    assert_ne!(describe(&root), if back { plain.clone() } else { shifted.clone() }, "{step}: it was killed too late");
                }
            }
            let there = if back { unshift } else { shift };
            there(&root, IDS).unwrap();
            assert_eq!(describe(&root), if back { plain.clone() } else { shifted.clone() }, "{step}");
            let again = if back { shift } else { unshift };
            again(&root, IDS).unwrap();
            assert_eq!(describe(&root), if back { shifted } else { plain }, "{step}");
        }
    }
}
