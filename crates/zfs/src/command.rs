//! Command lines of `zfs` and `zpool`, built and tested apart from running them. No shell, no user text without a type.

use std::path::Path;

use crate::{DatasetName, Properties, SnapshotName};

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Datasets.
    Zfs,
    /// Pools.
    Zpool,
}

impl Program {
    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zfs => "zfs",
            Self::Zpool => "zpool",
        }
    }
}

/// A command with its arguments, and the words for an error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The command.
    pub program: Program,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it does, as in "could not {action} {target}".
    pub action: &'static str,
    /// On what.
    pub target: String,
}

/// Columns of `zfs list` for file systems and volumes, in the order that `parse_datasets` expects.
const DATASET_COLUMNS: &str =
    "name,type,used,available,referenced,quota,origin,mounted,mountpoint,compression,recordsize,creation,imgadm:ignore";
/// Columns of `zfs list` for snapshots.
const SNAPSHOT_COLUMNS: &str = "name,used,referenced,creation,userrefs,guid";
/// Columns of `zpool list`.
const POOL_COLUMNS: &str = "name,size,allocated,free,health,guid";

impl Invocation {
    fn new<S: AsRef<str>>(program: Program, action: &'static str, target: &dyn std::fmt::Display, arguments: &[S]) -> Self {
        let arguments = arguments.iter().map(|a| a.as_ref().to_owned()).collect();
        Self { program, arguments, action, target: target.to_string() }
    }

    fn zfs<S: AsRef<str>>(action: &'static str, target: &dyn std::fmt::Display, arguments: &[S]) -> Self {
        Self::new(Program::Zfs, action, target, arguments)
    }

    pub(crate) fn list(top: &DatasetName, depth: u8) -> Self {
        let depth = depth.to_string();
        Self::zfs(
            "list datasets of",
            top,
            &["list", "-H", "-p", "-t", "filesystem,volume", "-d", &depth, "-o", DATASET_COLUMNS, top.as_str()],
        )
    }

    pub(crate) fn list_snapshots(top: &DatasetName, depth: u8) -> Self {
        let depth = depth.to_string();
        Self::zfs("list snapshots of", top, &["list", "-H", "-p", "-t", "snapshot", "-d", &depth, "-o", SNAPSHOT_COLUMNS, top.as_str()])
    }

    pub(crate) fn get(dataset: &DatasetName, property: &str) -> Self {
        Self::zfs("read a property of", dataset, &["get", "-H", "-p", "-o", "value", property, dataset.as_str()])
    }

    pub(crate) fn get_all(dataset: &DatasetName) -> Self {
        Self::zfs("read the properties of", dataset, &["get", "-H", "-p", "-o", "property,value,source", "all", dataset.as_str()])
    }

    pub(crate) fn set(dataset: &DatasetName, properties: &Properties) -> Self {
        let mut arguments = vec!["set".to_owned()];
        arguments.extend(properties.words());
        arguments.push(dataset.to_string());
        Self::zfs("set properties of", dataset, &arguments)
    }

    pub(crate) fn mount(dataset: &DatasetName) -> Self {
        Self::zfs("mount", dataset, &["mount", dataset.as_str()])
    }

    pub(crate) fn unmount(dataset: &DatasetName) -> Self {
        Self::zfs("unmount", dataset, &["unmount", dataset.as_str()])
    }

    pub(crate) fn zone(namespace: &Path, dataset: &DatasetName) -> Self {
        Self::zfs("give to a guest", dataset, &["zone", &namespace.to_string_lossy(), dataset.as_str()])
    }

    pub(crate) fn rename(from: &DatasetName, to: &DatasetName) -> Self {
        Self::zfs("rename", &format!("{from} to {to}"), &["rename", from.as_str(), to.as_str()])
    }

    pub(crate) fn rename_snapshot(from: &SnapshotName, to: &str) -> Self {
        Self::zfs("rename", &format!("{from} to @{to}"), &["rename", from.as_str(), &format!("@{to}")])
    }

    pub(crate) fn destroy_recursive(dataset: &DatasetName) -> Self {
        Self::zfs("destroy", dataset, &["destroy", "-r", dataset.as_str()])
    }

    pub(crate) fn rollback_recursive(snapshot: &SnapshotName) -> Self {
        Self::zfs("roll back to", snapshot, &["rollback", "-r", snapshot.as_str()])
    }

    /// `whole`: with everything below, all snapshots since `from` and all properties.
    pub(crate) fn send(snapshot: &SnapshotName, from: Option<&SnapshotName>, whole: bool) -> Self {
        let mut arguments = vec!["send"];
        arguments.extend(whole.then_some("-R"));
        if let Some(from) = from {
            arguments.extend([if whole { "-I" } else { "-i" }, from.as_str()]);
        }
        arguments.push(snapshot.as_str());
        Self::zfs("send", snapshot, &arguments)
    }

    pub(crate) fn receive(dataset: &DatasetName, origin: Option<&SnapshotName>, force: bool) -> Self {
        let mut arguments = vec!["receive".to_owned(), "-u".to_owned()];
        arguments.extend(force.then(|| "-F".to_owned()));
        if let Some(origin) = origin {
            arguments.extend(["-o".to_owned(), format!("origin={origin}")]);
        }
        arguments.push(dataset.to_string());
        Self::zfs("receive", dataset, &arguments)
    }

    pub(crate) fn pools() -> Self {
        Self::new(Program::Zpool, "list", &"pools", &["list", "-H", "-p", "-o", POOL_COLUMNS])
    }

    pub(crate) fn pool_status(pool: &DatasetName) -> Self {
        Self::new(Program::Zpool, "read the status of", &pool.pool(), &["status", pool.pool()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CanMount;

    fn line(invocation: &Invocation) -> String {
        format!("{} {}", invocation.program.name(), invocation.arguments.join(" "))
    }

    #[test]
    fn every_command_line_is_the_documented_one() {
        let dataset: DatasetName = "zones/a".parse().unwrap();
        let snapshot: SnapshotName = "zones/a@s".parse().unwrap();
        let properties = Properties { quota: Some(1 << 30), canmount: Some(CanMount::NoAuto), ..Default::default() };
        for (invocation, expected) in [
            (
                Invocation::list(&"zones".parse().unwrap(), 1),
                "zfs list -H -p -t filesystem,volume -d 1 -o name,type,used,available,referenced,quota,origin,mounted,mountpoint,compression,recordsize,creation,imgadm:ignore zones",
            ),
            (
                Invocation::list_snapshots(&dataset, 1),
                "zfs list -H -p -t snapshot -d 1 -o name,used,referenced,creation,userrefs,guid zones/a",
            ),
            (Invocation::get(&dataset, "quota"), "zfs get -H -p -o value quota zones/a"),
            (Invocation::get_all(&dataset), "zfs get -H -p -o property,value,source all zones/a"),
            (Invocation::set(&dataset, &properties), "zfs set quota=1073741824 canmount=noauto zones/a"),
            (Invocation::mount(&dataset), "zfs mount zones/a"),
            (Invocation::unmount(&dataset), "zfs unmount zones/a"),
            (Invocation::zone(Path::new("/proc/7/ns/user"), &dataset), "zfs zone /proc/7/ns/user zones/a"),
            (Invocation::rename(&dataset, &"zones/b".parse().unwrap()), "zfs rename zones/a zones/b"),
            (Invocation::rename_snapshot(&snapshot, "final"), "zfs rename zones/a@s @final"),
            (Invocation::destroy_recursive(&dataset), "zfs destroy -r zones/a"),
            (Invocation::rollback_recursive(&snapshot), "zfs rollback -r zones/a@s"),
            (Invocation::receive(&dataset, None, false), "zfs receive -u zones/a"),
            (Invocation::receive(&dataset, None, true), "zfs receive -u -F zones/a"),
            (Invocation::receive(&dataset, Some(&snapshot), false), "zfs receive -u -o origin=zones/a@s zones/a"),
            (Invocation::send(&snapshot, None, false), "zfs send zones/a@s"),
            (Invocation::send(&snapshot, Some(&"zones/a@r".parse().unwrap()), false), "zfs send -i zones/a@r zones/a@s"),
            (Invocation::send(&snapshot, None, true), "zfs send -R zones/a@s"),
            (Invocation::send(&snapshot, Some(&"zones/a@r".parse().unwrap()), true), "zfs send -R -I zones/a@r zones/a@s"),
            (Invocation::pools(), "zpool list -H -p -o name,size,allocated,free,health,guid"),
            (Invocation::pool_status(&dataset), "zpool status zones"),
        ] {
            assert_eq!(line(&invocation), expected);
        }
    }
}
