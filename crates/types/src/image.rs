//! Image manifests, version 2 (instances.md section 8.1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ImageUuid, JsonMap};

/// Kind of an image's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageType {
    /// SmartOS zone.
    ZoneDataset,
    /// Linux userland for lx zones.
    LxDataset,
    /// LXD image: combined tar, or metadata and root apart.
    Lxd,
    /// Disk of a virtual machine.
    Zvol,
    /// Docker layer.
    Docker,
    /// Anything else.
    Other,
    /// From a newer peer: kept unchanged.
    #[serde(untagged)]
    Unknown(String),
}

impl ImageType {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ZoneDataset => "zone-dataset",
            Self::LxDataset => "lx-dataset",
            Self::Lxd => "lxd",
            Self::Zvol => "zvol",
            Self::Docker => "docker",
            Self::Other => "other",
            Self::Unknown(text) => text,
        }
    }
}

/// Whether an image may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// Usable.
    Active,
    /// Not yet.
    Unactivated,
    /// Not any more.
    Disabled,
    /// Being made.
    Creating,
    /// Was not made.
    Failed,
    /// From a newer peer: kept unchanged.
    #[serde(untagged)]
    Other(String),
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Hex SHA-1 of the file as served.
    pub sha1: String,
    /// Bytes of the file as served.
    pub size: u64,
    /// `none`, `gzip`, `bzip2`, `xz`; zstd is accepted too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// ZFS guid of the image's snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_guid: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: JsonMap,
}

/// An image manifest. Fields that nothing here acts on are kept in `extra`, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// Version of the manifest, 2.
    pub v: u64,
    /// Identity.
    pub uuid: ImageUuid,
    /// Name.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Kind of content.
    #[serde(rename = "type")]
    pub kind: ImageType,
    /// Operating system of the content.
    pub os: String,
    /// Whether it may be used; absent in manifests for `imgadm install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ImageState>,
    /// Parent of an incremental image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ImageUuid>,
    /// The files: at most one, two for type `lxd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ImageFile>,
    /// Platform and hardware that the image needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<JsonMap>,
    /// When it was published, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: JsonMap,
}

/// One reason why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestProblem {
    /// Key of the manifest.
    pub field: String,
    /// `MissingParameter` or `Invalid`.
    pub code: &'static str,
    /// Why, absent for a missing parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ImageManifest {
    /// Bytes of the first file, 0 without one.
    pub fn size(&self) -> u64 {
        self.files.first().map_or(0, |file| file.size)
    }

    /// Reads and checks a manifest (instances.md section 8.1): version, required fields, forms and bounds.
    ///
    /// # Errors
    /// Every problem that was found, in the order of the fields.
    pub fn from_value(value: &Value) -> Result<Self, Vec<ManifestProblem>> {
        let problems = crate::image::check(value);
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_json::from_value(value.clone())
            .map_err(|error| vec![ManifestProblem { field: "manifest".into(), code: "Invalid", message: Some(error.to_string()) }])
    }
}

fn missing(field: &str) -> ManifestProblem {
    ManifestProblem { field: field.to_owned(), code: "MissingParameter", message: None }
}

fn invalid(field: &str, message: impl Into<String>) -> ManifestProblem {
    ManifestProblem { field: field.to_owned(), code: "Invalid", message: Some(message.into()) }
}

/// Largest file of an image: 20 GiB (instances.md section 8.1).
const MAX_FILE_SIZE: u64 = 20 << 30;

fn check(value: &Value) -> Vec<ManifestProblem> {
    let Some(map) = value.as_object() else {
        return vec![invalid("manifest", "not a JSON object")];
    };
    let mut problems = Vec::new();
    match map.get("v") {
        None | Some(Value::Null) => problems.push(missing("v")),
        Some(v) if v.as_u64() != Some(2) => problems.push(invalid("v", format!("unsupported manifest version {v}, 2 is needed"))),
        Some(_) => {}
    }
    for field in ["uuid", "origin"] {
        match map.get(field) {
            None | Some(Value::Null) if field == "origin" => {}
            None | Some(Value::Null) => problems.push(missing(field)),
            Some(uuid) => {
                if let Err(error) = uuid.as_str().unwrap_or_default().parse::<ImageUuid>() {
                    problems.push(invalid(field, error.to_string()));
                }
            }
        }
    }
    let word = |extra: &'static str| move |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
    check_text(&mut problems, map, "name", 1024, word("._/ -"));
    check_text(&mut problems, map, "version", 512, word("._/+-"));
    for (field, known) in [
        ("type", &["zone-dataset", "lx-dataset", "lxd", "zvol", "docker", "other"][..]),
        ("os", &["smartos", "linux", "windows", "bsd", "illumos", "other"][..]),
    ] {
        match map.get(field) {
            None | Some(Value::Null) => problems.push(missing(field)),
            Some(Value::String(text)) if known.contains(&text.as_str()) => {}
            Some(other) => problems.push(invalid(field, format!("{other} is not one of {}", known.join(", ")))),
        }
    }
    check_files(&mut problems, map);
    problems
}

fn check_text(problems: &mut Vec<ManifestProblem>, map: &JsonMap, field: &str, max: usize, legal: impl Fn(char) -> bool) {
    match map.get(field) {
        None | Some(Value::Null) => problems.push(missing(field)),
        Some(Value::String(text)) if text.is_empty() || text.len() > max || !text.chars().all(legal) => {
            problems.push(invalid(field, format!("must be 1 to {max} characters of its alphabet")));
        }
        Some(Value::String(_)) => {}
        Some(_) => problems.push(invalid(field, "not a string")),
    }
}

fn check_files(problems: &mut Vec<ManifestProblem>, map: &JsonMap) {
    let Some(files) = map.get("files").filter(|files| !files.is_null()) else { return };
    let Some(files) = files.as_array() else {
        return problems.push(invalid("files", "not an array"));
    };
    let most = if map.get("type").and_then(Value::as_str) == Some("lxd") { 2 } else { 1 };
    if files.len() > most {
        problems.push(invalid("files", format!("{} files given, at most {most} allowed for this type", files.len())));
    }
    for (index, file) in files.iter().enumerate() {
        let sha1 = file.get("sha1").and_then(Value::as_str).unwrap_or_default();
        if sha1.len() != 40 || !sha1.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            problems.push(invalid(&format!("files.{index}.sha1"), "must be 40 lower-case hex digits"));
        }
        match file.get("size").and_then(Value::as_u64) {
            Some(size) if size <= MAX_FILE_SIZE => {}
            _ => problems.push(invalid(&format!("files.{index}.size"), "must be an integer from 0 to 20 GiB")),
        }
        match file.get("compression").map(|c| c.as_str().unwrap_or("?")) {
            None | Some("none" | "gzip" | "bzip2" | "xz" | "zstd") => {}
            Some(other) => problems.push(invalid(&format!("files.{index}.compression"), format!("unknown compression {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({"v": 2, "uuid": "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10", "name": "base", "version": "1.0", "type": "lxd", "os": "linux"})
    }

    #[test]
    fn the_minimal_manifest_is_accepted_and_unknown_fields_are_kept() {
        let mut value = minimal();
        value["tags"] = json!({"role": "os"});
        let manifest = ImageManifest::from_value(&value).unwrap();
        assert_eq!(serde_json::to_value(&manifest).unwrap()["tags"], value["tags"]);
    }

    #[test]
    fn each_problem_names_its_field() {
        let mut value = minimal();
        value["v"] = json!(1);
        value["name"] = json!("a\nb");
        value["files"] = json!([{"sha1": "xx", "size": -1}, {"sha1": "yy", "size": 1}, {}]);
        value.as_object_mut().unwrap().remove("os");
        let fields: Vec<_> = ImageManifest::from_value(&value).unwrap_err().into_iter().map(|p| p.field).collect();
        for field in ["v", "name", "os", "files", "files.0.sha1", "files.0.size", "files.2.size"] {
            assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
        }
    }
}
