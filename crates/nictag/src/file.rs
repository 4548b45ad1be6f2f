//! `triton-networking.json`: `{"nictags": [{"name", "mac", "uuid"?, "mtu"?}], "admin_tag"?}`, and whatever else the
//! headnode puts there, which stays as it is.

use std::{io, path::PathBuf};

use serde_json::Value;
use triton_files::{Layout, read_bounded};
use triton_types::{JsonMap, Mac, NicTag};

use crate::{NicTagError, NicTags, Tag};

/// More than a node's networks ever need.
const LIMIT: u64 = 1 << 20;
/// The key of the list of tags.
pub(crate) const TAGS: &str = "nictags";

pub(crate) fn path(layout: &Layout) -> PathBuf {
    layout.config().join("triton-networking.json")
}

pub(crate) fn load(layout: &Layout) -> Result<NicTags, NicTagError> {
    let path = path(layout);
    let document = match read_bounded(&path, LIMIT) {
        Ok(bytes) => Some(parse_document(&bytes).map_err(|problem| format_error(layout, problem))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    interpret(layout, document)
}

/// The tags that `document` holds.
pub(crate) fn interpret(layout: &Layout, document: Option<JsonMap>) -> Result<NicTags, NicTagError> {
    let content = document.as_ref();
    let tags = content.map_or(Ok(Vec::new()), parse_tags).map_err(|problem| format_error(layout, problem))?;
    let admin = content.map_or_else(default_admin, parse_admin).map_err(|problem| format_error(layout, problem))?;
    Ok(NicTags { layout: layout.clone(), document, tags, admin })
}

fn format_error(layout: &Layout, problem: String) -> NicTagError {
    NicTagError::Format { path: path(layout).display().to_string(), problem }
}

fn parse_document(bytes: &[u8]) -> Result<JsonMap, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("not a JSON object: {e}"))
}

fn default_admin() -> Result<NicTag, String> {
    "admin".parse().map_err(|e| format!("{e}"))
}

fn parse_admin(document: &JsonMap) -> Result<NicTag, String> {
    match document.get("admin_tag") {
        None | Some(Value::Null) => default_admin(),
        Some(Value::String(name)) => name.parse().map_err(|e| format!("admin_tag: {e}")),
        Some(_) => Err("admin_tag: not a string".to_owned()),
    }
}

fn parse_tags(document: &JsonMap) -> Result<Vec<Tag>, String> {
    let entries = match document.get(TAGS) {
        None => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("{TAGS}: not an array")),
    };
    let mut tags: Vec<Tag> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let tag = parse_tag(entry).map_err(|problem| format!("{TAGS}[{index}]{problem}"))?;
        if tags.iter().any(|known| known.name == tag.name) {
            // A tag is on one NIC per node; named twice it counts for the first (net-agent.md section 10.1).
            tracing::warn!(tag = %tag.name, index, "a nic tag is listed twice; the first counts");
        } else {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// The problem begins with the field.
fn parse_tag(entry: &Value) -> Result<Tag, String> {
    let entry = entry.as_object().ok_or(": not an object")?;
    let name = entry_name(entry).ok_or(".name: not a string")?;
    let name = name.parse().map_err(|e| format!(".name: {e}"))?;
    let mac = match entry.get("mac") {
        None | Some(Value::Null) => None,
        Some(Value::String(mac)) if mac == "-" => None,
        Some(Value::String(mac)) => Some(mac.parse::<Mac>().map_err(|e| format!(".mac: {e}"))?),
        Some(_) => return Err(".mac: not a string".to_owned()),
    };
    let mtu = match entry.get("mtu") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let mtu = value.as_u64().and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| (1500..=9000).contains(mtu));
            Some(mtu.ok_or_else(|| format!(".mtu: {value} is not a number from 1500 to 9000"))?)
        }
    };
    let uuid = entry.get("uuid").and_then(Value::as_str).map(str::to_owned);
    Ok(Tag { name, mac, uuid, mtu })
}

/// The name of an entry of the list.
pub(crate) fn entry_name(entry: &JsonMap) -> Option<&str> {
    entry.get("name").and_then(Value::as_str)
}
