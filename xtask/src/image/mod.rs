//! The image that `up` provisions from: a small Debian userland with busybox as its init, built on this machine from the
//! distribution's packages, in the form of an LXD image (instances.md section 8.2).
//!
//! Cached by a hash of its inputs: the packages' checksums and this recipe. The same inputs give the same bytes, so the
//! image's uuid (which comes from its checksum) is the same on every machine.

mod archive;
mod packages;
mod recipe;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use triton_types::ImageUuid;

use crate::{hex, say::Progress};

/// A built image.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its identity.
    pub uuid: ImageUuid,
    /// Its manifest, as IMGAPI serves it.
    pub manifest: Value,
    /// The archive.
    pub file: PathBuf,
    /// It was in the cache.
    pub cached: bool,
}

/// Builds the image below `cache`, or finds it there.
pub fn ensure(cache: &Path, progress: &mut Progress) -> Result<Built> {
    let packages = packages::current(progress)?;
    let folder = cache.join("images").join(&recipe_key(&packages)[..32]);
    let (manifest_path, file) = (folder.join("manifest.json"), folder.join("lxd_combined.tar.gz"));
    if let Some(manifest) = triton_files::read_json::<Value>(&manifest_path)?
        && file.is_file()
    {
        return built(manifest, file, true);
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let downloads = packages::download(&packages, &cache.join("packages"), progress)?;
    let (tree, newest) = recipe::tree(&packages, &downloads, &folder)?;
    progress.turn("compressing");
    let bytes = archive::combined(&tree, &packages, newest)?;
    let manifest = manifest(&bytes, &packages, newest)?;
    // The manifest is written last: a folder without it is not a built image.
    triton_files::write_atomic(&file, &bytes, 0o644)?;
    triton_files::write_json(&manifest_path, &manifest, 0o644)?;
    built(manifest, file, false)
}

fn built(manifest: Value, file: PathBuf, cached: bool) -> Result<Built> {
    let uuid = manifest["uuid"].as_str().unwrap_or_default().parse().context("the cached image's manifest has no uuid")?;
    Ok(Built { uuid, manifest, file, cached })
}

/// Where `up` keeps what is slow to make.
pub fn cache_folder() -> PathBuf {
    match std::env::var_os("XDG_CACHE_HOME") {
        Some(home) if Path::new(&home).is_absolute() => PathBuf::from(home).join("triton-linux-cn"),
        _ => PathBuf::from("/var/cache/triton-linux-cn"),
    }
}

fn recipe_key(packages: &packages::Packages) -> String {
    let mut hash = Sha256::new();
    hash.update(recipe::fingerprint());
    for package in &packages.list {
        hash.update(format!("{} {}\n", package.file, package.sha256));
    }
    hex(&hash.finalize())
}

/// The rule of IMGAPI's LXD import: the uuid is the first half of the archive's SHA-256.
fn manifest(archive: &[u8], packages: &packages::Packages, newest: u64) -> Result<Value> {
    let fingerprint = hex(&Sha256::digest(archive));
    let half = &fingerprint[..32];
    let uuid = [&half[..8], &half[8..12], &half[12..16], &half[16..20], &half[20..]].join("-");
    let release = &packages.release;
    let stamp = jiff::Timestamp::from_second(i64::try_from(newest)?)?;
    Ok(json!({
        "v": 2,
        "uuid": uuid,
        "owner": "00000000-0000-0000-0000-000000000000",
        "name": "debian-busybox",
        "version": format!("{release}.{}", stamp.strftime("%Y%m%d")),
        "description": format!("Debian {release} base files with busybox as init"),
        "state": "active",
        "disabled": false,
        "public": true,
        "published_at": stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "type": "lxd",
        "os": "linux",
        "files": [{"sha1": hex(&Sha1::digest(archive)), "size": archive.len(), "compression": "gzip"}],
        "requirements": {"brand": "lx", "networks": [{"name": "net0", "description": "public"}]},
        "tags": {
            "lxd:arch": packages.architecture,
            "lxd:fingerprint": fingerprint,
            "lxd:ftype": "lxd_combined.tar.gz",
            "lxd:os": "Debian",
            "lxd:release": release,
        },
    }))
}
