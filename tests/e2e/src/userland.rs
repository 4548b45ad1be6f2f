//! Roots of a real distribution, made of Debian's packages by mmdebstrap, once, and kept beside the build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use sha1::{Digest, Sha1};
use triton_image::{CancelToken, Images, Quiet};
use triton_storage::Storage;

use crate::Node;

/// The uuid of the image that [`Node::install_userland`] makes.
const USERLAND_UUID: &str = "b5b0c0de-7e57-4bb0-8000-000000000009";

/// Cargo's folder, or what stands for it on a booted node: the folder above the running program that is marked as a cache.
pub(crate) fn build_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).expect("tests run below cargo's folder").to_owned()
}

/// A Debian root with `packages` as a tar archive, from an earlier run if there is one with the same `key`. `script` is run by `sh`
/// with the root as `$1` when the packages are there.
///
/// # Panics
/// When it cannot be made.
pub fn userland(name: &str, packages: &str, key: &[&str], script: &str) -> PathBuf {
    let directory = build_folder().join("tmp/userlands");
    fs::create_dir_all(&directory).expect("disk");
    let key: String = Sha1::digest(key.join("\0")).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let place = directory.join(format!("{name}-{key}.tar"));
    let lock = fs::File::create(directory.join(format!("{name}.lock"))).expect("disk");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock");
    if place.exists() {
        return place;
    }
    let (partial, hook) = (directory.join(format!("{name}.partial.tar")), directory.join(format!("{name}.hook")));
    fs::write(&hook, script).expect("disk");
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=force-unsafe-io"])
        .arg(format!("--customize-hook=sh {} \"$1\"", hook.display()))
        .arg(format!("--include=iproute2,ifupdown,{packages}"))
        .args(["bookworm"])
        .arg(&partial)
        .output()
        .expect("the package mmdebstrap is installed");
    assert!(output.status.success(), "mmdebstrap failed:\n{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&partial, &place).expect("disk");
    place
}

impl Node {
    /// Installs a root as a split image, metadata apart; returns the image's uuid.
    ///
    /// # Panics
    /// When it cannot be installed.
    pub fn install_userland(&self, tar: &Path) -> String {
        self.install_userland_as(tar, USERLAND_UUID)
    }

    /// As [`Node::install_userland`], as the image `uuid`.
    ///
    /// # Panics
    /// When it cannot be installed.
    pub fn install_userland_as(&self, tar: &Path, uuid: &str) -> String {
        let metadata = self.layout().at("/var/tmp/metadata.tar");
        let mut builder = tar::Builder::new(fs::File::create(&metadata).expect("disk"));
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, "metadata.yaml", std::io::empty()).expect("disk");
        drop(builder.into_inner().expect("disk"));
        let file = |path: &Path| {
            let bytes = fs::read(path).expect("disk");
            let sha1: String = Sha1::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"sha1": sha1, "size": bytes.len(), "compression": "none"})
        };
        let manifest = json!({"v": 2, "uuid": uuid, "name": "userland", "version": "1", "type": "lxd", "os": "linux",
            "files": [file(&metadata), file(tar)]});
        let images =
            Images::open(self.layout(), Arc::new(Storage::open(self.layout()).expect("storage was chosen"))).expect("the image database");
        images
            .install(&manifest, &[metadata.clone(), tar.to_owned()], &CancelToken::default(), &Quiet)
            .expect("the image can be installed");
        fs::remove_file(metadata).expect("disk");
        uuid.to_owned()
    }
}
