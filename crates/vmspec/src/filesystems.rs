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
        entry.source = if source.parse::<InstanceUuid>().is_ok() {
            // A bare uuid is a private volume of this instance: its dataset is made together with the instance.
            format!("/{pool}/{vm}/volumes/{source}")
        } else if source == entry.source || source.starts_with(&format!("/{pool}/{vm}/volumes/")) || world.path_exists(&source) {
            source
        } else {
            return Err(PayloadError::MissingFilesystem { source_path: source });
        };
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

fn text(input: &JsonMap, key: &str) -> Option<String> {
    input.get(key).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.trim().is_empty())
}
