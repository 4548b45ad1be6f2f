//! `triton-networking.json`: `{"nictags": [{"name", "mac", "uuid"?, "mtu"?}], "admin_tag"?, "etherstubs"?,
//! "aggregations"?}`, and whatever else the headnode puts there, which stays as it is.

use std::{io, path::PathBuf};

use serde_json::Value;
use triton_files::{Layout, read_bounded};
use triton_netconf::{Aggregation, Provider};
use triton_types::{JsonMap, NicTag};

use crate::{NicTagError, NicTags, Tag};

/// More than a node's networks ever need.
const LIMIT: u64 = 1 << 20;
/// The key of the list of tags.
pub(crate) const TAGS: &str = "nictags";
/// The key of the list of networks within the node that are only names.
pub(crate) const STUBS: &str = "etherstubs";

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
    let admin = content.map_or_else(default_admin, parse_admin).map_err(|problem| format_error(layout, problem))?;
    let aggregations = content.map(Aggregation::of_document).unwrap_or_default();
    let parse = |document| parse_tags(document, &aggregations, &admin);
    let tags = content.map_or(Ok(Vec::new()), parse).map_err(|problem| format_error(layout, problem))?;
    Ok(NicTags { layout: layout.clone(), document, tags, aggregations, admin })
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

fn array<'a>(document: &'a JsonMap, key: &str) -> Result<&'a [Value], String> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(entries)) => Ok(entries),
        Some(_) => Err(format!("{key}: not an array")),
    }
}

fn parse_tags(document: &JsonMap, aggregations: &[Aggregation], admin: &NicTag) -> Result<Vec<Tag>, String> {
    let mut tags: Vec<Tag> = Vec::new();
    for (index, entry) in array(document, TAGS)?.iter().enumerate() {
        let tag = parse_tag(entry, aggregations).map_err(|problem| format!("{TAGS}[{index}]{problem}"))?;
        if tag.name.as_str() == "admin" && tag.name != *admin {
            // Where the admin network has a tag of its own, this is only a word for it (platform.md section 3.4).
            tracing::debug!(index, "the nic tag admin is left out: the admin network has another");
        } else if tags.iter().any(|known| known.name == tag.name) {
            // A tag is on one NIC per node; named twice it counts for the first (net-agent.md section 10.1).
            tracing::warn!(tag = %tag.name, index, "a nic tag is listed twice; the first counts");
        } else {
            tags.push(tag);
        }
    }
    for (index, entry) in array(document, STUBS)?.iter().enumerate() {
        let name = entry.as_str().ok_or_else(|| format!("{STUBS}[{index}]: not a string"))?;
        let name = name.parse().map_err(|e| format!("{STUBS}[{index}]: {e}"))?;
        if tags.iter().all(|known| known.name != name) {
            tags.push(Tag { name, provider: Provider::Nothing, etherstub: true, uuid: None, mtu: None });
        }
    }
    Ok(tags)
}

/// The problem begins with the field.
fn parse_tag(entry: &Value, aggregations: &[Aggregation]) -> Result<Tag, String> {
    let entry = entry.as_object().ok_or(": not an object")?;
    let name = entry_name(entry).ok_or(".name: not a string")?;
    let name = name.parse().map_err(|e| format!(".name: {e}"))?;
    let (provider, etherstub) = match entry.get("mac") {
        None | Some(Value::Null) => (Provider::Nothing, false),
        Some(Value::String(mac)) => {
            let provider = Provider::parse(mac).ok_or_else(|| format!(".mac: {mac:?} is neither a MAC address nor an aggregation"))?;
            (provider.within(aggregations), mac == "-")
        }
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
    Ok(Tag { name, provider, etherstub, uuid, mtu })
}

/// The name of an entry of the list.
pub(crate) fn entry_name(entry: &JsonMap) -> Option<&str> {
    entry.get("name").and_then(Value::as_str)
}
