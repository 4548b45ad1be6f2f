//! What others take from an image: hashes, the manifest, and the archive that `sdcadm platform install` takes.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{Built, at, inputs::Inputs};
use crate::{hex, run::answer, workspace};

/// Files that a node boots from.
const BOOTED: [&str; 3] = ["vmlinuz", "initrd", "filesystem.squashfs"];

/// Name of the archive; the installer reads the release from it.
pub fn archive_name(stamp: &str) -> String {
    format!("platform-{stamp}.tgz")
}

/// Everything that a user may want, in the image's folder.
pub fn names(stamp: &str) -> Vec<String> {
    let mut names: Vec<String> = BOOTED.iter().map(|name| (*name).to_owned()).collect();
    names.extend(["manifest.json".to_owned(), "filesystem.packages".to_owned(), archive_name(stamp)]);
    names
}

/// Writes what is missing; the manifest last.
pub fn ensure(built: &Built, inputs: &Inputs) -> Result<()> {
    let manifest = built.file("manifest.json");
    if manifest.is_file() {
        return Ok(());
    }
    let mut files = Vec::new();
    for name in BOOTED {
        let (size, sha1, sha256) = sums(&built.file(name))?;
        triton_files::write_atomic(&built.file(&format!("{name}.hash")), sha1.as_bytes(), 0o644)?;
        files.push(json!({"path": name, "size": size, "sha1": sha1, "sha256": sha256}));
    }
    let archive = built.file(&archive_name(&built.stamp));
    write_archive(built, inputs, &archive)?;
    let (size, sha1, sha256) = sums(&archive)?;
    let manifest_value = json!({
        "v": 2,
        "name": "platform-linux",
        "version": built.stamp,
        "os": "linux",
        "kernel": fs::read_to_string(built.file("kernel"))?.trim(),
        "files": [{"path": archive_name(&built.stamp), "size": size, "sha1": sha1, "sha256": sha256, "compression": "gzip"}],
        "members": files,
        "packages": fs::read_to_string(built.file("filesystem.packages"))?.lines().count(),
    });
    Ok(triton_files::write_json(&manifest, &manifest_value, 0o644)?)
}

fn sums(path: &Path) -> Result<(u64, String, String)> {
    let mut file = File::open(path).with_context(at("open", path))?;
    let (mut sha1, mut sha256, mut size) = (Sha1::new(), Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(at("read", path))?;
        if count == 0 {
            return Ok((size, hex(&sha1.finalize()), hex(&sha256.finalize())));
        }
        size += count as u64;
        sha1.update(&buffer[..count]);
        sha256.update(&buffer[..count]);
    }
}

/// One top folder `platform-<release>`; members and names as the installer and booter expect them (platform.md section 2.5).
fn write_archive(built: &Built, inputs: &Inputs, path: &Path) -> Result<()> {
    let new = path.with_extension("new");
    let file = BufWriter::new(File::create(&new).with_context(at("create", &new))?);
    // What is large is compressed already.
    let gzip = flate2::GzBuilder::new().mtime(0).write(file, flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let top = format!("platform-{}", built.stamp);
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(u64::try_from(inputs.epoch).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for folder in ["", "/etc", "/etc/version", "/x86_64"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), format!("{top}{folder}/"), std::io::empty())?;
    }
    let texts = [
        ("platform", format!("{}\n", built.stamp)),
        ("os-release", fs::read_to_string(built.file("os-release"))?),
        ("gitstatus", format!("{}\n", git_status()?)),
    ];
    for (name, text) in texts {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut header, format!("{top}/etc/version/{name}"), text.as_bytes())?;
    }
    for name in BOOTED.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.hash")]).filter(|name| name != "vmlinuz.hash") {
        let source = built.file(&name);
        let file = File::open(&source).with_context(at("open", &source))?;
        let mut header = header(tar::EntryType::Regular, 0o644, file.metadata()?.len());
        tar.append_data(&mut header, format!("{top}/x86_64/{name}"), file)?;
    }
    tar.into_inner()?.finish()?.flush()?;
    fs::rename(&new, path).with_context(at("rename", &new))
}

/// The repository's state, as `etc/version/gitstatus` has it.
fn git_status() -> Result<Value> {
    let git =
        |arguments: &[&str]| answer(Command::new("git").args(arguments).current_dir(workspace::root())).map(|text| text.trim().to_owned());
    Ok(json!([{
        "repo": "triton-linux-cn",
        "branch": git(&["rev-parse", "--abbrev-ref", "HEAD"])?,
        "rev": git(&["rev-parse", "HEAD"])?,
        "commit_date": git(&["log", "-1", "--format=%cI"])?,
        "upstream_master_commit": null,
        "url": null,
    }]))
}
