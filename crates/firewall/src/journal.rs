//! The journal of a change of several files in `/var/fw`: what is to be, written before the first of them and gone after the last.
//! Whoever finds one carries it out from the beginning (section 12.6; invariant 4).

use std::path::Path;

use serde_json::{Value, json};
use triton_files::{FileError, read_bounded, remove_if_present, write_json};
use triton_fwrule::{Options, RemoteVm, Rule};
use triton_types::JsonMap;

use crate::{StoreError, store::Writes};

/// Its name in `/var/fw`.
pub(crate) const NAME: &str = ".change.json";
/// More than all rules and remote instances of a node.
const LARGEST: u64 = 512 << 20;
const FORMAT: u64 = 1;

/// Writes it durably.
pub(crate) fn write(path: &Path, writes: &Writes) -> Result<(), FileError> {
    let all = json!({
        "format": FORMAT,
        "rules": writes.rules.iter().map(Rule::to_json).collect::<Vec<_>>(),
        "vms": writes.remote_vms.iter().map(RemoteVm::to_json).collect::<Vec<_>>(),
        "no_rules": writes.no_rules,
        "no_vms": writes.no_remote_vms,
    });
    write_json(path, &all, 0o600)
}

/// Reads it; none without a change that was interrupted. One that cannot be read was damaged after it was written, since it appears
/// whole: it is removed, and what was done of its change stays.
pub(crate) fn read(path: &Path) -> Result<Option<Writes>, StoreError> {
    if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let bytes = read_bounded(path, LARGEST)?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match value["format"].as_u64() {
        Some(FORMAT) => {}
        Some(format) => return Err(StoreError::Format { path: path.to_owned(), format }),
        None => {
            tracing::error!(path = %path.display(), "the journal of a change of rules is damaged: what was done of it stays");
            remove_if_present(path)?;
            return Ok(None);
        }
    }
    let objects = |key: &str| value[key].as_array().into_iter().flatten().filter_map(Value::as_object);
    let rule = |object: &JsonMap| Rule::parse(object, &Options::default()).ok();
    fn uuids<T: std::str::FromStr>(value: &Value) -> Vec<T> {
        value.as_array().into_iter().flatten().filter_map(|uuid| uuid.as_str()?.parse().ok()).collect()
    }
    Ok(Some(Writes {
        rules: objects("rules").filter_map(rule).collect(),
        remote_vms: objects("vms").filter_map(|object| RemoteVm::parse(object).ok()).collect(),
        no_rules: uuids(&value["no_rules"]),
        no_remote_vms: uuids(&value["no_vms"]),
    }))
}
