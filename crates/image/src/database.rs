//! `/var/imgadm/images/<zpool>-<uuid>.json`: manifests of installed images (instances.md section 8.7). A cache.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use triton_files::{Layout, read_optional, remove_if_present, write_json};
use triton_types::{ImageUuid, JsonMap};

use crate::ImageError;

/// One file of the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) manifest: JsonMap,
    pub(crate) zpool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(flatten)]
    pub(crate) extra: JsonMap,
}

#[derive(Debug)]
pub(crate) struct Database {
    layout: Layout,
    pool: String,
}

impl Database {
    pub(crate) fn new(layout: &Layout, pool: &str) -> Self {
        Self { layout: layout.clone(), pool: pool.to_owned() }
    }

    fn path(&self, uuid: ImageUuid) -> PathBuf {
        self.layout.imgadm().join("images").join(format!("{}-{uuid}.json", self.pool))
    }

    /// The record; `None` when it is missing or no JSON (then the image lists with its uuid only).
    pub(crate) fn read(&self, uuid: ImageUuid) -> Result<Option<Record>, ImageError> {
        let path = self.path(uuid);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        let record: Record = match serde_json::from_slice(&bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a file of the image database is corrupt and counts as missing");
                return Ok(None);
            }
        };
        match record.manifest.get("uuid").and_then(Value::as_str) {
            Some(found) if found == uuid.to_string() => Ok(Some(record)),
            found => Err(ImageError::DatabaseMismatch {
                path: path.display().to_string(),
                expected: uuid,
                found: found.unwrap_or("nothing").chars().take(64).collect(),
            }),
        }
    }

    pub(crate) fn write(&self, uuid: ImageUuid, manifest: &JsonMap, source: Option<&str>) -> Result<(), ImageError> {
        let record =
            Record { manifest: manifest.clone(), zpool: self.pool.clone(), source: source.map(str::to_owned), extra: JsonMap::new() };
        Ok(write_json(&self.path(uuid), &record, 0o644)?)
    }

    pub(crate) fn remove(&self, uuid: ImageUuid) -> Result<(), ImageError> {
        Ok(remove_if_present(&self.path(uuid))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_stored_in_upstreams_form_and_a_corrupt_one_counts_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        layout.prepare().unwrap();
        let database = Database::new(&layout, "zones");
        let uuid: ImageUuid = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10".parse().unwrap();
        let manifest: JsonMap = serde_json::from_str(&format!(r#"{{"v": 2, "uuid": "{uuid}", "future": [1]}}"#)).unwrap();
        database.write(uuid, &manifest, Some("http://imgapi")).unwrap();
        let path = layout.root().join(format!("var/imgadm/images/zones-{uuid}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = format!(
            "{{\n  \"manifest\": {{\n    \"v\": 2,\n    \"uuid\": \"{uuid}\",\n    \"future\": [\n      1\n    ]\n  }},\n  \
             \"zpool\": \"zones\",\n  \"source\": \"http://imgapi\"\n}}\n"
        );
        assert_eq!(text, expected);
        assert_eq!(database.read(uuid).unwrap().unwrap().manifest, manifest);
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(database.read(uuid).unwrap(), None);
        let other = ImageUuid::random();
        std::fs::write(layout.root().join(format!("var/imgadm/images/zones-{other}.json")), text).unwrap();
        assert_eq!(database.read(other).unwrap_err().code(), "InternalError");
        database.remove(uuid).unwrap();
        assert!(!path.exists());
    }
}
