//! What a guest may have put where the host mounts something at its next boot (metadata.md section 10, attacks 7 and 8).
//!
//! liblxc follows no link on the way to a target, but it fails for one, and it waits for ever for a FIFO. So what a mount
//! would meet is looked at before each boot, while the guest does not run and cannot change it.

use std::{
    fs,
    path::{Component, Path},
};

use triton_lxc::Mount;

/// Directories that liblxc itself covers before it mounts anything of ours.
const COVERED: [&str; 1] = ["dev"];

/// Mounts that can be made below `root`, and the targets of those that cannot. A mount that the guest must have, which is
/// neither `optional` nor a tmpfs, is never left out: its start fails instead.
pub(crate) fn possible(root: &Path, mounts: Vec<Mount>) -> (Vec<Mount>, Vec<String>) {
    let mut kept: Vec<Mount> = Vec::new();
    let mut left_out = Vec::new();
    for mount in mounts {
        let may_be_left_out = mount.kind == "tmpfs" || mount.options.iter().any(|option| option == "optional");
        let covered =
            |path: &Path| COVERED.iter().any(|dev| path == Path::new(dev)) || kept.iter().any(|one| path == Path::new(&one.target));
        if may_be_left_out && !is_free(root, Path::new(&mount.target), covered) {
            left_out.push(mount.target);
        } else {
            kept.push(mount);
        }
    }
    (kept, left_out)
}

/// True if every part of the way is a directory or missing, as far as nothing is mounted over it.
fn is_free(root: &Path, target: &Path, covered: impl Fn(&Path) -> bool) -> bool {
    let mut below = std::path::PathBuf::new();
    for part in target.components() {
        let Component::Normal(name) = part else { return false };
        below.push(name);
        if covered(&below) {
            return true;
        }
        match fs::symlink_metadata(root.join(&below)) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return false,
            // Nothing is there: liblxc makes it.
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// metadata attack cases 7 and 8
    #[test]
    fn what_stands_in_a_targets_place_costs_that_mount_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        symlink("/etc", root.join(".zonecontrol")).unwrap();
        symlink("/etc", root.join("dev")).unwrap();
        fs::create_dir(root.join("native")).unwrap();
        symlink("/", root.join("native/.zonecontrol")).unwrap();
        fs::write(root.join("tmp"), "").unwrap();
        fs::create_dir_all(root.join("var/lib")).unwrap();
        nix::unistd::mkfifo(&root.join("var/lib/cloud"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let optional = |target: &str| {
            let mut mount = Mount::bind_directory("/x", target, true);
            mount.options.push("optional".to_owned());
            mount
        };
        let lofs = Mount::bind_directory("/x", "tmp/data", false);
        let targets = ["native", ".zonecontrol", "native/.zonecontrol", "dev/ttyS1", "var/lib/cloud/seed", "new/place", "../up"];
        let mut mounts: Vec<Mount> = targets.map(optional).to_vec();
        mounts.extend([Mount::tmpfs("tmp", 16), lofs]);
        let (kept, left_out) = possible(root, mounts);
        let kept: Vec<&str> = kept.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(kept, ["native", "native/.zonecontrol", "dev/ttyS1", "new/place", "tmp/data"]);
        assert_eq!(left_out, [".zonecontrol", "var/lib/cloud/seed", "../up", "tmp"]);
    }
}
