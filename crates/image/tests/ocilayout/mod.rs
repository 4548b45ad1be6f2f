//! Builds OCI layouts: as they should be, and as they should not.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses a part; a panic is a failed test

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What a layer is compressed with.
#[derive(Clone, Copy)]
pub enum Packed {
    Plain,
    Gzip,
    Zstd,
}

/// An archive of a layer, entry by entry.
pub struct LayerTar(tar::Builder<Vec<u8>>);

impl LayerTar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Any entry, however hostile its names are.
    pub fn entry(mut self, kind: tar::EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.entry(tar::EntryType::Regular, name, "", 0o644, data.as_bytes())
    }

    pub fn directory(self, name: &str) -> Self {
        self.entry(tar::EntryType::Directory, name, "", 0o755, b"")
    }

    pub fn link(self, name: &str, to: &str) -> Self {
        self.entry(tar::EntryType::Symlink, name, to, 0o777, b"")
    }

    pub fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(tar::EntryType::Link, name, to, 0o644, b"")
    }

    pub fn device(mut self, kind: tar::EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_mode(0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_size(0);
        header.set_cksum();
        self.0.append(&header, std::io::empty()).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A layout under construction, in memory.
#[derive(Default)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
    pub entries: Vec<Value>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Layout {
    pub fn new() -> Self {
        let files = BTreeMap::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
        Self { files, entries: Vec::new() }
    }

    /// Adds a blob; returns its descriptor.
    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.files.insert(format!("blobs/{}", digest.replace(':', "/")), bytes);
        descriptor
    }

    pub fn json_blob(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().into_bytes())
    }

    pub fn layer(&mut self, bytes: &[u8], packed: Packed) -> Value {
        let (suffix, bytes) = match packed {
            Packed::Plain => ("", bytes.to_vec()),
            Packed::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                ("+gzip", encoder.finish().unwrap())
            }
            Packed::Zstd => ("+zstd", zstd::encode_all(bytes, 1).unwrap()),
        };
        self.blob(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), bytes)
    }

    /// Adds an image with a tag.
    pub fn image(&mut self, tag: &str, process: &Value, layers: &[(Vec<u8>, Packed)]) -> &mut Self {
        let descriptors: Vec<Value> = layers.iter().map(|(bytes, packed)| self.layer(bytes, *packed)).collect();
        let diff_ids: Vec<String> = layers.iter().map(|(bytes, _)| digest(bytes)).collect();
        self.image_of(tag, process, &descriptors, &diff_ids)
    }

    pub fn image_of(&mut self, tag: &str, process: &Value, descriptors: &[Value], diff_ids: &[String]) -> &mut Self {
        let config = json!({"created": "2026-01-02T03:04:05.123456789Z", "architecture": "amd64", "os": "linux", "config": process,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.json_blob("application/vnd.oci.image.config.v1+json", &config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": descriptors});
        let mut entry = self.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.entries.push(entry);
        self
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({"schemaVersion": 2, "manifests": self.entries}).to_string();
        files.entry("index.json".to_owned()).or_insert(index.into_bytes());
        files
    }

    pub fn write_directory(&self, path: &Path) -> PathBuf {
        for (name, bytes) in self.all() {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        path.to_owned()
    }

    pub fn write_archive(&self, path: &Path) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in self.all() {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, &name, &bytes[..]).unwrap();
        }
        fs::write(path, tar.into_inner().unwrap()).unwrap();
        path.to_owned()
    }
}
