//! The archive: sorted entries, one time, one owner, so that the same tree gives the same bytes.

use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};

use super::{
    packages::Packages,
    tree::{Content, Tree},
};

/// A combined LXD image: `metadata.yaml`, `rootfs/`, `templates/`.
/// `time` is that of every file, in seconds since 1970.
pub fn combined(tree: &Tree, packages: &Packages, time: u64) -> Result<Vec<u8>> {
    // No file name and no time in gzip's header.
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(gzip);
    append(&mut archive, "metadata.yaml", 0o644, &Content::File(metadata(packages, time).into_bytes()), time)?;
    append(&mut archive, "rootfs", 0o755, &Content::Folder, time)?;
    for (path, entry) in tree.entries() {
        append(&mut archive, &format!("rootfs/{path}"), entry.mode, &entry.content, time)?;
    }
    append(&mut archive, "templates", 0o755, &Content::Folder, time)?;
    Ok(archive.into_inner()?.finish()?)
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &Content, time: u64) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match content {
        Content::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Content::File(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())?;
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

fn metadata(packages: &Packages, time: u64) -> String {
    let machine = match packages.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    let (architecture, release) = (&packages.architecture, &packages.release);
    format!(
        "architecture: {machine}\ncreation_date: {time}\nproperties:\n  architecture: {architecture}\n  \
         description: Debian {release} base files with busybox as init\n  os: Debian\n  release: {release}\ntemplates: {{}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Packages {
        Packages { list: vec![], architecture: "amd64".to_owned(), release: "bookworm".to_owned() }
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_in_whatever_order_it_was_made() {
        let mut one = Tree::default();
        one.write("etc/hostname", 0o644, "a");
        one.link("sbin/init", "/bin/busybox");
        let mut two = Tree::default();
        two.link("sbin/init", "/bin/busybox");
        two.write("etc/hostname", 0o644, "a");
        assert_eq!(combined(&one, &packages(), 1_700_000_000).unwrap(), combined(&two, &packages(), 1_700_000_000).unwrap());
    }

    #[test]
    fn the_archive_reads_back_with_metadata_first_and_modes_kept() {
        let mut tree = Tree::default();
        tree.write("bin/su", 0o4755, "x");
        let bytes = combined(&tree, &packages(), 1_700_000_000).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(entries[0].0, "metadata.yaml");
        assert!(entries.contains(&("rootfs/bin/su".to_owned(), 0o4755)), "{entries:?}");
    }
}
