//! Copying, measuring and removing on the real file system.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use super::{
    testing::{Scratch, describe, fill, with_tmpfs},
    *,
};

/// A chain of `depth` directories, deeper than any path may be long, with a file at its end.
fn chain(top: &Path, depth: usize) {
    let mut current = open_directory(top).unwrap();
    for _ in 0..depth {
        nix::sys::stat::mkdirat(&current, "directory-of-a-deep-chain", nix::sys::stat::Mode::S_IRWXU).unwrap();
        current = nix::fcntl::openat(&current, "directory-of-a-deep-chain", walk::DIRECTORY, nix::sys::stat::Mode::empty()).unwrap();
    }
    let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
    nix::fcntl::openat(&current, "end", flags, nix::sys::stat::Mode::S_IRUSR).unwrap();
}

fn pair(name: &str) -> (Scratch, PathBuf, PathBuf) {
    let scratch = Scratch::new(name);
    let (from, to) = (scratch.join("from"), scratch.join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    (scratch, from, to)
}

#[test]
fn a_copy_is_equal_in_everything_that_can_be_told() {
    let (_scratch, from, to) = pair("copy");
    fill(&from);
    let copied = copy_tree(&from, &to, &[]).unwrap();
    let (mut a, mut b) = (describe(&from), describe(&to));
    a.remove(Path::new(""));
    b.remove(Path::new(""));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (path, described) in &a {
        assert_eq!(described, &b[path], "{}", path.display());
    }
    assert_eq!(copied.files, 13, "second names are links, not copies");
    let inode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().ino();
    assert_eq!(inode("bin/su"), inode("bin/sudo"));
    assert_ne!(inode("bin/su"), fs::metadata(from.join("bin/su")).unwrap().ino(), "a copy, not a link");
}

#[test]
fn holes_stay_holes() {
    let (_scratch, from, to) = pair("sparse");
    fill(&from);
    copy_tree(&from, &to, &[]).unwrap();
    let copy = fs::metadata(to.join("sparse")).unwrap();
    assert_eq!(copy.len(), 16 << 20);
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    assert!(measure(&to).unwrap() < 6 << 20);
}

#[test]
fn a_copy_between_file_systems_is_equal_too() {
    let (_scratch, from, to) = pair("across");
    fill(&from);
    with_tmpfs(&to.clone(), 64 << 20, || {
        copy_tree(&from, &to, &[]).unwrap();
        let (mut a, mut b) = (describe(&from), describe(&to));
        a.remove(Path::new(""));
        b.remove(Path::new(""));
        assert_eq!(a, b);
    });
}

#[test]
fn excluded_names_are_left_out_at_the_top_only() {
    let (_scratch, from, to) = pair("exclude");
    fs::create_dir_all(from.join("config/x")).unwrap();
    fs::create_dir_all(from.join("root/config")).unwrap();
    fs::write(from.join("lastexited"), "x").unwrap();
    copy_tree(&from, &to, &["config", "lastexited"]).unwrap();
    assert!(!to.join("config").exists() && !to.join("lastexited").exists());
    assert!(to.join("root/config").is_dir());
}

#[test]
fn links_are_copied_and_never_followed() {
    let (scratch, from, to) = pair("links");
    fs::create_dir(scratch.join("outside")).unwrap();
    fs::write(scratch.join("outside/secret"), "x").unwrap();
    symlink(scratch.join("outside"), from.join("directory")).unwrap();
    symlink(".", from.join("self")).unwrap();
    copy_tree(&from, &to, &[]).unwrap();
    assert!(fs::symlink_metadata(to.join("directory")).unwrap().is_symlink());
    remove_tree(&to).unwrap();
    assert!(scratch.join("outside/secret").exists() && !to.exists());
    assert!(copy_tree(&from.join("directory"), &from, &[]).is_err(), "a link is not a tree");
}

#[test]
fn trees_deeper_than_a_path_can_be_are_copied_measured_and_removed() {
    let (_scratch, from, to) = pair("deep");
    chain(&from, 1500);
    copy_tree(&from, &to, &[]).unwrap();
    assert_eq!(measure(&from).unwrap(), measure(&to).unwrap());
    remove_tree(&from).unwrap();
    remove_tree(&to).unwrap();
    assert!(!from.exists() && !to.exists());
}

#[test]
fn a_directory_with_more_names_than_one_batch_is_removed_whole() {
    let (_scratch, from, _) = pair("many");
    for number in 0..2500 {
        fs::write(from.join(number.to_string()), "").unwrap();
    }
    remove_tree(&from).unwrap();
    assert!(!from.exists());
    remove_tree(&from).unwrap();
}

#[test]
fn what_is_mounted_inside_is_neither_removed_nor_copied() {
    let (_scratch, from, to) = pair("mounted");
    let inside = from.join("a dir/mnt");
    with_tmpfs(&inside, 1 << 20, || {
        fs::write(inside.join("precious"), "x").unwrap();
        assert_eq!(mount_below(&from), Some(inside.clone()));
        let error = remove_tree(&from).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{error}");
        assert!(copy_tree(&from, &to, &[]).unwrap_err().to_string().contains("a dir/mnt"));
        assert!(inside.join("precious").exists());
    });
    assert_eq!(mount_below(&from), None);
}

#[test]
fn a_full_file_system_is_told_with_the_path() {
    let (_scratch, from, to) = pair("full");
    fill(&from);
    with_tmpfs(&to.clone(), 1 << 20, || {
        let error = copy_tree(&from, &to, &[]).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert!(error.to_string().contains(from.join("large").to_str().unwrap()), "{error}");
    });
}
