//! Which image of a layout is meant, and what it consists of.

use serde::Deserialize;

use super::{
    OciError,
    blob::{Descriptor, Digest, Platform},
    config::ImageConfig,
    layout::OciLayout,
};

/// Annotation of a descriptor that is its tag.
const TAG: &str = "org.opencontainers.image.ref.name";
/// Indexes within indexes: one for the layout, one for the platforms, and one more for odd tools.
const MAX_DEPTH: usize = 4;

/// An image that was found.
pub(super) struct Selected {
    /// Digest of its configuration: Docker's id of the image.
    pub id: Digest,
    pub config: ImageConfig,
    /// Base first, with the digest of the uncompressed content.
    pub layers: Vec<(Descriptor, Digest)>,
    /// Annotations of its entry in the index, and of its manifest.
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// This node, in the words of OCI images.
pub(super) fn own_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned() }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// Finds the image with the tag `reference`, for this node's platform.
pub(super) fn select(layout: &OciLayout, reference: Option<&str>) -> Result<Selected, OciError> {
    let index: Index = layout.document("index.json")?;
    let entry = choose(&index.manifests, reference)?;
    let mut annotations = entry.annotations.clone();
    let descriptor = for_platform(layout, entry)?;
    let manifest: Manifest = layout.blob(&descriptor)?;
    annotations.extend(manifest.annotations);
    let config: ImageConfig = layout.blob(&manifest.config)?;
    let (own, found) = (own_platform(), Platform { os: config.os.clone(), architecture: config.architecture.clone() });
    if own != found {
        return Err(OciError::Platform { expected: own.to_string(), found: found.to_string() });
    }
    if manifest.layers.is_empty() {
        return Err(OciError::NoLayers);
    }
    let ids = &config.rootfs.diff_ids;
    if ids.len() != manifest.layers.len() {
        let reason = format!("it names {} layers, the manifest has {}", ids.len(), manifest.layers.len());
        return Err(OciError::Malformed { what: format!("configuration {}", manifest.config.digest), reason });
    }
    let layers = manifest.layers.into_iter().zip(ids.iter().cloned()).collect();
    Ok(Selected { id: manifest.config.digest, layers, config, annotations })
}

fn choose(entries: &[Descriptor], reference: Option<&str>) -> Result<Descriptor, OciError> {
    let tag = |entry: &Descriptor| entry.annotations.get(TAG).cloned();
    let tags: Vec<String> = entries.iter().filter_map(tag).collect();
    let find = |wanted: &str| entries.iter().find(|entry| tag(entry).as_deref() == Some(wanted)).cloned();
    match (reference, entries) {
        (Some(wanted), _) => find(wanted).ok_or(OciError::NoTag { wanted: wanted.to_owned(), found: tags }),
        (None, []) => Err(OciError::NoTag { wanted: String::new(), found: tags }),
        (None, [only]) => Ok(only.clone()),
        (None, _) => find("latest").ok_or(OciError::SeveralImages(tags)),
    }
}

/// Descends through indexes to the manifest for this node.
fn for_platform(layout: &OciLayout, entry: Descriptor) -> Result<Descriptor, OciError> {
    let own = own_platform();
    let mut descriptor = entry;
    for _ in 0..MAX_DEPTH {
        if is_manifest(&descriptor) {
            return Ok(descriptor);
        }
        if !is_index(&descriptor) {
            return Err(OciError::MediaType(descriptor.media_type.chars().take(200).collect()));
        }
        let index: Index = layout.blob(&descriptor)?;
        let found = index.manifests.iter().map(|entry| entry.platform.clone().unwrap_or_default().to_string()).take(20).collect::<Vec<_>>();
        let fits = |entry: &Descriptor| is_index(entry) || entry.platform.as_ref() == Some(&own);
        descriptor = index
            .manifests
            .into_iter()
            .find(fits)
            .ok_or_else(|| OciError::Platform { expected: own.to_string(), found: found.join(", ") })?;
    }
    Err(OciError::Malformed { what: "index.json".to_owned(), reason: format!("indexes are nested more than {MAX_DEPTH} times") })
}
