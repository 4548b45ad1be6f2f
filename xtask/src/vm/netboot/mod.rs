//! A boot server for a machine of ours: the files that booter lays out (platform.md section 3.3), offered by QEMU's own DHCP
//! and TFTP and by [`serve()`]. Nothing listens on this machine.

mod script;
mod serve;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub use script::{Node, Server};
pub use serve::{ServeArgs, serve};

use super::boot;

/// Where QEMU's network has its DHCP and TFTP.
const DHCP: &str = "10.0.2.2";
/// Where the network has the HTTP side of the boot server: QEMU gives no service to the first address.
const HTTP: &str = "10.0.2.9";
/// What the DHCP names. It leads to booter's file, and only says that the two addresses above are one server.
const CHAIN: &str = "chain.ipxe";

/// What a boot server offers to one node.
#[derive(Clone, Debug)]
pub struct Offer {
    /// networking.json; None: booter has none for this node.
    pub networking: Option<Vec<u8>>,
    /// What is in the hash file beside it; None: there is no such file.
    pub hash: Option<String>,
    /// node.config.
    pub node_config: Vec<u8>,
    /// What the hash file of the squashfs says; None: the truth.
    pub root_hash: Option<String>,
    /// Arguments of the kernel, as CNAPI keeps them for a server.
    pub arguments: Vec<(String, String)>,
}

impl Offer {
    /// Lays the files out in the folder `tree`, which is made anew, for the node with the NIC `mac`; the platform is the one in
    /// the folder `image`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn lay(&self, tree: &Path, image: &Path, node: &Node<'_>) -> Result<()> {
        let _ = fs::remove_dir_all(tree);
        let platform = tree.join(script::folder(PLATFORM));
        let bootfs = tree.join("bootfs").join(node.mac.replace(':', ""));
        let joysetup = tree.join("extra/joysetup");
        for folder in [&platform, &bootfs, &joysetup] {
            fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
        }
        for name in ["vmlinuz", "initrd", "filesystem.squashfs", "initrd.hash", "filesystem.squashfs.hash"] {
            let from = image.join(name);
            fs::hard_link(&from, platform.join(name)).with_context(|| format!("could not link {}", from.display()))?;
        }
        let write = |path: PathBuf, bytes: &[u8]| {
            // What is there is a link to the image's.
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))
        };
        if let Some(hash) = &self.root_hash {
            write(platform.join("filesystem.squashfs.hash"), hash.as_bytes())?;
        }
        write(joysetup.join("node.config"), &self.node_config)?;
        let mut files = Vec::new();
        for (name, content) in
            [("networking.json", self.networking.as_deref()), ("networking.json.hash", self.hash.as_ref().map(String::as_bytes))]
        {
            if let Some(content) = content {
                write(bootfs.join(name), content)?;
                files.push(name);
            }
        }
        let server = Server { address: HTTP, protocol: "http", platform: PLATFORM, serial: 0, hashes: true };
        let (name, text) = script::boot(&server, node, &self.arguments, &files);
        write(tree.join(CHAIN), format!("#!ipxe\nset next-server {HTTP}\nchain tftp://{DHCP}/{name}\n").as_bytes())?;
        write(tree.join(name), text.as_bytes())
    }
}

/// The name under which the platform is offered.
const PLATFORM: &str = "20260102T030405Z";

/// Options of QEMU's network that offer what is in the folder `tree`.
pub fn network(tree: &Path) -> String {
    // The test's own program is not xtask; nobody boots from there.
    let own = std::env::current_exe().unwrap_or_else(|_| "xtask".into());
    let command = format!("'{}' serve-boot '{}'", boot::text(&own), boot::text(tree));
    format!(",tftp={},bootfile={CHAIN},guestfwd=tcp:{HTTP}:80-cmd:{command}", boot::text(tree))
}

/// The lower-case SHA-1, as booter writes it.
pub fn sha1(bytes: &[u8]) -> String {
    crate::hex(&<sha1::Sha1 as sha1::Digest>::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_hash_and_a_wrong_one_leave_the_image_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (image, tree) = (place.path().join("image"), place.path().join("tree"));
        fs::create_dir(&image).unwrap();
        for name in ["vmlinuz", "initrd", "filesystem.squashfs", "initrd.hash", "filesystem.squashfs.hash"] {
            fs::write(image.join(name), name).unwrap();
        }
        let node = Node { mac: "02:08:20:fe:00:10", address: "10.0.2.15", netmask: "255.255.255.0", autoconf: "" };
        let offer = Offer {
            networking: Some(b"{}".to_vec()),
            hash: None,
            node_config: b"a='1'\n".to_vec(),
            root_hash: Some("wrong".to_owned()),
            arguments: Vec::new(),
        };
        offer.lay(&tree, &image, &node).unwrap();
        let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
        assert_eq!(read("os/20260102T030405Z/platform/x86_64/filesystem.squashfs.hash"), "wrong");
        assert_eq!(fs::read_to_string(image.join("filesystem.squashfs.hash")).unwrap(), "filesystem.squashfs.hash");
        assert!(read("boot.ipxe.01020820FE0010").contains("/bootfs/020820fe0010/networking.json /etc/triton-networking.json\n"));
        assert!(!tree.join("bootfs/020820fe0010/networking.json.hash").exists());
        offer.lay(&tree, &image, &node).unwrap();
    }
}
