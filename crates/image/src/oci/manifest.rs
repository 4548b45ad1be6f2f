//! From layers to manifests of images.

use std::path::Path;

use serde_json::{Value, json};
use triton_types::{ImageUuid, JsonMap, Timestamp};

use super::{
    OciError,
    blob::{Descriptor, Digest, Digests, sha256},
    select::{Selected, own_platform},
};
use crate::install::UNCOMPRESSED_DIGEST;

/// Owner of images that nobody owns.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// A layer as an image.
pub(super) struct Layer {
    pub uuid: ImageUuid,
    pub descriptor: Descriptor,
    pub uncompressed: Digest,
    /// It is the image itself.
    pub is_top: bool,
}

/// What the image and its layers are called.
pub(super) struct Names {
    name: String,
    version: String,
}

impl Names {
    /// From annotations, else from the names that the operator used.
    pub(super) fn of(path: &Path, reference: Option<&str>, selected: &Selected) -> Self {
        let annotation = |key: &str| selected.annotations.get(key).map(String::as_str);
        // `docker.io/library/alpine:3.20` has both.
        let full = annotation("io.containerd.image.name").map(|full| match full.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (full, None),
        });
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = full.map(|(name, _)| name).or(annotation("org.opencontainers.image.title")).unwrap_or(&stem);
        let tag = reference
            .or(annotation("org.opencontainers.image.ref.name"))
            .or(full.and_then(|(_, tag)| tag))
            .or(annotation("org.opencontainers.image.version"))
            .unwrap_or("latest");
        Self { name: plain(name, "._/ -", 512, "image"), version: plain(tag, "._/+-", 128, "latest") }
    }
}

/// `text` with only what manifests allow.
fn plain(text: &str, extra: &str, most: usize, fallback: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || extra.contains(c) { c } else { '-' }).take(most).collect();
    if text.trim().is_empty() { fallback.to_owned() } else { text }
}

/// The first half of a SHA-256, as a uuid.
fn uuid(hex: &str) -> Option<ImageUuid> {
    let part = |from: usize, to: usize| hex.get(from..to);
    format!("{}-{}-{}-{}-{}", part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?).parse().ok()
}

/// The image's layers as images, base first. Those below the image are named by their chain (OCI's `ChainID`): whichever image they
/// are part of, they are the same.
pub(super) fn chain(selected: &Selected) -> Vec<Layer> {
    let last = selected.layers.len().saturating_sub(1);
    let mut chain = String::new();
    let mut layers = Vec::new();
    for (index, (descriptor, uncompressed)) in selected.layers.iter().enumerate() {
        chain = match index {
            0 => uncompressed.to_string(),
            _ => format!("sha256:{}", sha256(&format!("{chain} {uncompressed}"))),
        };
        let is_top = index == last;
        // A single layer is named by its content alone: its uuid must not be that of an image's configuration, nor the other way round.
        let name = if is_top { sha256(&format!("image {}", selected.id)) } else { sha256(&format!("layer {chain}")) };
        layers.extend(uuid(&name).map(|uuid| Layer { uuid, descriptor: descriptor.clone(), uncompressed: uncompressed.clone(), is_top }));
    }
    layers
}

/// The word of manifests for a layer's compression.
pub(super) fn compression(media_type: &str) -> Result<&'static str, OciError> {
    let kind = media_type
        .strip_prefix("application/vnd.oci.image.layer.v1.")
        .or(media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1."))
        .or(media_type.strip_prefix("application/vnd.docker.image.rootfs.diff."))
        .or(media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff."));
    match kind {
        Some("tar") => Ok("none"),
        Some("tar+gzip" | "tar.gzip") => Ok("gzip"),
        Some("tar+zstd" | "tar.zstd") => Ok("zstd"),
        _ => Err(OciError::MediaType(media_type.chars().take(200).collect())),
    }
}

/// The manifest of a layer.
pub(super) fn of_layer(
    selected: &Selected,
    names: &Names,
    layer: &Layer,
    origin: Option<ImageUuid>,
    digests: &Digests,
    compression: &str,
) -> JsonMap {
    let version = match layer.is_top {
        true => names.version.clone(),
        false => format!("layer-{}", layer.descriptor.digest.hex().get(..12).unwrap_or_default()),
    };
    let mut manifest = json!({
        "v": 2, "uuid": layer.uuid, "owner": NOBODY, "name": names.name, "version": version, "state": "active", "disabled": false,
        "public": false,
    });
    if let Some(time) = selected.config.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok()) {
        manifest["published_at"] = json!(time);
    }
    manifest["type"] = json!("docker");
    manifest["os"] = json!("linux");
    if let Some(origin) = origin {
        manifest["origin"] = json!(origin);
    }
    manifest["requirements"] = json!({"brand": "lx"});
    manifest["files"] = json!([{
        "sha1": digests.sha1, "size": digests.size, "compression": compression,
        "digest": layer.descriptor.digest.to_string(), UNCOMPRESSED_DIGEST: layer.uncompressed.to_string(),
    }]);
    let mut tags = JsonMap::new();
    tags.insert("docker:architecture".to_owned(), json!(own_platform().architecture));
    if layer.is_top {
        tags.insert("docker:repo".to_owned(), json!(names.name));
        tags.insert("docker:id".to_owned(), json!(selected.id.to_string()));
        tags.insert(format!("docker:tag:{}", names.version), json!(true));
        let process = selected.config.config.clone().unwrap_or_default();
        tags.insert("docker:config".to_owned(), process.to_json());
    }
    manifest["tags"] = Value::Object(tags);
    match manifest {
        Value::Object(map) => map,
        _ => JsonMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_name_the_compression() {
        assert_eq!(compression("application/vnd.oci.image.layer.v1.tar").unwrap(), "none");
        assert_eq!(compression("application/vnd.docker.image.rootfs.diff.tar.gzip").unwrap(), "gzip");
        assert_eq!(compression("application/vnd.oci.image.layer.v1.tar+zstd").unwrap(), "zstd");
        assert!(compression("application/vnd.oci.image.layer.v1.tar+encrypted").is_err());
    }

    #[test]
    fn names_have_only_what_manifests_allow() {
        assert_eq!(plain("docker.io/library/a@b", "._/ -", 512, "image"), "docker.io/library/a-b");
        assert_eq!(plain("", "._", 10, "latest"), "latest");
    }
}
