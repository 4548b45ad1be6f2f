//! The file systems of an instance after a payload (instances.md section 2.5). They are told apart by `target`.

use std::collections::HashSet;

use serde_json::Value;
use triton_types::{Filesystem, InstanceUuid, JsonMap};

use crate::{PayloadError, World, limits, validate::Warnings, value};

/// What a payload asks of the file systems.
#[derive(Default)]
pub(crate) struct FilesystemWishes {
    add: Vec<JsonMap>,
    update: Vec<JsonMap>,
    remove: HashSet<String>,
}

impl FilesystemWishes {
    /// Takes the file system properties out of a payload that passed validation.
    pub(crate) fn take(payload: &mut JsonMap) -> Self {
        let mut objects = |name: &str| match payload.shift_remove(name) {
            Some(Value::Array(list)) => {
                list.into_iter().filter_map(|v| if let Value::Object(map) = v { Some(map) } else { None }).collect()
            }
            _ => Vec::new(),
        };
        let (mut add, added, update): (Vec<_>, Vec<_>, _) =
            (objects("filesystems"), objects("add_filesystems"), objects("update_filesystems"));
        add.extend(added);
        let remove = payload.shift_remove("remove_filesystems").and_then(|list| value::list(&list).ok()).unwrap_or_default();
        Self { add, update, remove: remove.into_iter().collect() }
    }
}

/// The file systems of instance `vm` on `pool` after the wishes: removals, then changes, then additions.
pub(crate) fn apply(
    vm: InstanceUuid,
    pool: &str,
    old: &[Filesystem],
    wishes: FilesystemWishes,
    world: &dyn World,
    warnings: &mut Warnings,
) -> Result<Vec<Filesystem>, PayloadError> {
    if wishes.add.len() > limits::FILESYSTEMS || wishes.update.len() > limits::FILESYSTEMS {
        return Err(PayloadError::TooMany { field: "filesystems", limit: limits::FILESYSTEMS });
    }
    let mut all: Vec<Filesystem> = old.iter().filter(|fs| !wishes.remove.contains(&fs.target)).cloned().collect();
    for input in wishes.update {
        let target = text(&input, "target").ok_or(PayloadError::FilesystemWithoutTarget)?;
        let entry = all.iter_mut().find(|fs| fs.target == target).ok_or(PayloadError::UnknownFilesystem(target))?;
        overlay(entry, &input, vm, pool, world, warnings)?;
    }
    for input in wishes.add {
        let target = text(&input, "target").unwrap_or_default();
        if all.iter().any(|fs| fs.target == target) {
            return Err(PayloadError::DuplicateTarget(target));
        }
        let kind = text(&input, "type").unwrap_or_default();
        let mut entry = Filesystem { kind, source: String::new(), target, raw: None, options: Vec::new(), extra: JsonMap::new() };
        overlay(&mut entry, &input, vm, pool, world, warnings)?;
        all.push(entry);
    }
    if all.len() > limits::FILESYSTEMS {
        return Err(PayloadError::TooMany { field: "filesystems", limit: limits::FILESYSTEMS });
    }
    Ok(all)
}

fn overlay(
    entry: &mut Filesystem,
    input: &JsonMap,
    vm: InstanceUuid,
    pool: &str,
    world: &dyn World,
    warnings: &mut Warnings,
) -> Result<(), PayloadError> {
    if let Some(kind) = text(input, "type") {
        entry.kind = kind;
    }
    if let Some(source) = text(input, "source") {
        if source.parse::<InstanceUuid>().is_err() && !may_be_shown(&source, pool) {
            return Err(PayloadError::InvalidValues(vec!["filesystems.*.source".to_owned()]));
        }
        entry.source = if source.parse::<InstanceUuid>().is_ok() {
            // A bare uuid is a private volume of this instance: its dataset is made together with the instance.
            format!("/{pool}/{vm}/volumes/{source}")
        } else if source == entry.source || source.starts_with(&format!("/{pool}/{vm}/volumes/")) || world.path_exists(&source) {
            source
        } else {
            return Err(PayloadError::MissingFilesystem { source_path: source });
        };
    }
    if !is_plain(&entry.target) {
        return Err(PayloadError::InvalidValues(vec!["filesystems.*.target".to_owned()]));
    }
    if input.contains_key("raw") {
        entry.raw = text(input, "raw");
    }
    if let Some(options) = input.get("options") {
        entry.options = value::list(options).unwrap_or_default();
        for option in &entry.options {
            if !["ro", "rw", "nodevice", "nodevices", "nosuid", "noexec", "noatime"].contains(&option.as_str()) {
                warnings.push(format!("mount option {option:?} of {} has no effect", entry.target));
            }
        }
    }
    Ok(())
}

/// An absolute path to something below the root, which says where it leads.
fn is_plain(path: &str) -> bool {
    let mut names = path.split('/').filter(|name| !name.is_empty() && *name != ".").peekable();
    path.starts_with('/') && !path.contains(char::is_control) && names.peek().is_some() && names.all(|name| name != "..")
}

/// Paths of the host that no guest may be given: what is not files, the node's own state, and the pool. Of the pool only whole
/// private volumes: what is in one belongs to a guest, who could put a link there that leads anywhere.
fn may_be_shown(source: &str, pool: &str) -> bool {
    const NEVER: [&str; 8] = ["proc", "sys", "dev", "run", "boot", "var/run", "var/triton", "var/imgadm"];
    let names: Vec<&str> = source.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let below = |top: &str| top.split('/').eq(names.iter().copied().take(top.split('/').count()));
    let is_uuid = |name: &str| name.parse::<InstanceUuid>().is_ok();
    if names.first() == Some(&pool) {
        return is_plain(source) && matches!(names[1..], [vm, "volumes", volume] if is_uuid(vm) && is_uuid(volume));
    }
    is_plain(source) && !NEVER.iter().any(|top| below(top))
}

fn text(input: &JsonMap, key: &str) -> Option<String> {
    input.get(key).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::*;

    #[test]
    fn no_path_leads_a_guest_to_the_node_itself_or_to_another_guests_files() {
        let config = created(json!({}));
        let add = |source: &str, target: &str| {
            try_update(&config, json!({"add_filesystems": [{"type": "lofs", "source": source, "target": target}]}))
        };
        let other = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c12";
        for source in [
            "/",
            "//",
            "/proc",
            "/proc/1/root",
            "/sys",
            "/dev/zfs",
            "/run/triton",
            "/var/triton/vmadm",
            "/zones",
            "data",
            "/data/../proc",
            "/data\n",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("/zones/{other}/root"), format!("/zones/{other}/volumes/{other}/link"), format!("/zones/{other}/config")])
        {
            let error = add(&source, "/mnt").unwrap_err().to_string();
            assert!(error.starts_with("Invalid value(s) for: ") && error.ends_with("filesystems.*.source"), "{source}: {error}");
        }
        for target in ["mnt", "/", "/mnt/../etc", "/mnt\tx"] {
            let error = add("/data", target).unwrap_err().to_string();
            assert!(error.starts_with("Invalid value(s) for: ") && error.ends_with("filesystems.*.target"), "{target}: {error}");
        }
        assert_eq!(add("/data", "/mnt").unwrap().config.filesystems[0].source, "/data");
        assert_eq!(add("/devious", "/mnt").unwrap_err().to_string(), "missing requested filesystem: /devious");
        assert_eq!(add(other, "/mnt").unwrap().config.filesystems[0].source, format!("/zones/{UUID}/volumes/{other}"));
    }
}
