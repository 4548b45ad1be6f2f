//! Images of agents, as IMGAPI has them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// An image of an agent, to be changed by a test before it is published.
pub struct AgentImage {
    pub uuid: uuid::Uuid,
    pub manifest: Value,
    pub file: Vec<u8>,
}

/// The archive of an agent: `package.json`, `image_uuid` and these files, in the package's directory.
fn archive(name: &str, uuid: uuid::Uuid, package: &Value, files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let (uuid, package) = (uuid.to_string(), package.to_string());
    let all = [("image_uuid", uuid.as_str()), ("package.json", package.as_str())];
    for (path, text) in all.iter().chain(files) {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, Path::new(name).join(path), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

impl AgentImage {
    /// The agent `name` with these scripts and a program `<name>` that says its version.
    pub fn new(name: &str, version: &str, scripts: &[(&str, &str)]) -> Self {
        Self::with_program(name, version, scripts, &format!("#!/bin/sh\necho {version}\n"))
    }

    pub fn with_program(name: &str, version: &str, scripts: &[(&str, &str)], program: &str) -> Self {
        let uuid = uuid::Uuid::new_v4();
        let steps: serde_json::Map<String, Value> =
            scripts.iter().map(|(step, _)| ((*step).to_owned(), format!("./npm/{step}.sh").into())).collect();
        let path = format!("bin/{name}");
        let package = json!({"name": name, "version": version, "bin": {name: path}, "scripts": steps});
        let texts: Vec<(String, String)> =
            scripts.iter().map(|(step, text)| (format!("npm/{step}.sh"), format!("#!/bin/sh\n{text}\n"))).collect();
        let mut files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files.push((&path, program));
        Self::of(name, uuid, archive(name, uuid, &package, &files))
    }

    /// An image with this file.
    pub fn of(name: &str, uuid: uuid::Uuid, file: Vec<u8>) -> Self {
        let sha1: String = Sha1::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        let manifest = json!({"v": 2, "uuid": uuid, "name": name, "version": "1", "type": "other", "os": "other", "state": "active",
            "owner": uuid::Uuid::nil(), "public": true, "published_at": "2024-05-02T10:00:00.000Z",
            "files": [{"sha1": sha1, "size": file.len(), "compression": "gzip"}]});
        Self { uuid, manifest, file }
    }

    /// Puts it where an image server takes its images from.
    pub fn publish(&self, images: &Path) -> String {
        let at = |ending: &str| -> PathBuf { images.join(format!("{}.{ending}", self.uuid)) };
        std::fs::create_dir_all(images).unwrap();
        std::fs::write(at("imgmanifest"), self.manifest.to_string()).unwrap();
        std::fs::write(at("file"), &self.file).unwrap();
        self.uuid.to_string()
    }
}
