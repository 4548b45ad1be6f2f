//! An image on this node, as `imgadm get` and `imgadm list -j` show it.

use serde::{Deserialize, Serialize};
use triton_types::{ImageManifest, ImageUuid, JsonMap};

/// An installed image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstalledImage {
    /// The manifest with every key it was published with; only `uuid` when the database has none.
    pub manifest: JsonMap,
    /// The pool that holds it.
    pub zpool: String,
    /// URL of the source it was imported from, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Number of instances and images made from it.
    pub clones: usize,
    /// Their datasets' names.
    #[serde(rename = "cloneNames")]
    pub clone_names: Vec<String>,
    /// Identity.
    #[serde(skip, default = "nil")]
    pub uuid: ImageUuid,
    /// Bytes that its dataset uses.
    #[serde(skip)]
    pub used_bytes: u64,
}

fn nil() -> ImageUuid {
    ImageUuid::NIL
}

impl InstalledImage {
    /// The manifest in its typed form; `None` when the database has only the uuid, or something that is no valid manifest.
    pub fn typed(&self) -> Option<ImageManifest> {
        ImageManifest::from_value(&serde_json::Value::Object(self.manifest.clone())).ok()
    }

    /// A field of the manifest that is text, or nothing.
    pub fn text(&self, key: &str) -> &str {
        self.manifest.get(key).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Whether a manifest is known, not just the uuid (cn-agent's test for an image that it may use).
    pub fn has_manifest(&self) -> bool {
        self.manifest.len() > 1
    }
}
