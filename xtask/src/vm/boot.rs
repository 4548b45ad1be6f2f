//! What a machine boots from, as words of QEMU's command line.

use std::path::Path;

use super::{netboot, state::State};

/// What it boots from.
#[derive(Clone, Copy, Debug)]
pub enum Boot<'a> {
    /// The image's kernel and initrd, handed over by QEMU, with more for the command line; the squashfs on a medium.
    Kernel(&'a str),
    /// The network: the NIC's own program loads what the boot server in this folder offers.
    Network(&'a Path),
    /// A disk image, which is not written to; and another disk.
    Disk {
        /// The image.
        image: &'a Path,
        /// The other disk, raw.
        other: &'a Path,
        /// By UEFI instead of BIOS.
        uefi: bool,
    },
}

/// UEFI's firmware, as the package `ovmf` has it.
const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

/// A path as QEMU's options want it.
pub fn text(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

impl Boot<'_> {
    /// Kernel and disks that only this way of booting has.
    pub fn words(&self, state: &State) -> Vec<(&'static str, String)> {
        let image = |name: &str| state.image.join(name);
        match self {
            Self::Kernel(append) => vec![
                ("-kernel", image("vmlinuz").display().to_string()),
                ("-initrd", image("initrd").display().to_string()),
                (
                    "-append",
                    format!("boot=live console=ttyS0,115200n8 triton.dhcp-all-nics systemd.log_color=0 panic=10 {append}")
                        .trim()
                        .to_owned(),
                ),
                ("-drive", format!("file={},format=raw,if=virtio,readonly=on", text(&image("medium.img")))),
            ],
            Self::Network(_) => Vec::new(),
            Self::Disk { image, other, uefi } => {
                let mut words = vec![
                    // The node may write to it, as to any disk; what it writes goes with the machine.
                    ("-drive", format!("file={},format=raw,if=none,id=boot,snapshot=on", text(image))),
                    ("-device", "virtio-blk-pci,drive=boot,serial=boot,bootindex=0".to_owned()),
                    ("-drive", format!("file={},format=raw,if=none,id=other", text(other))),
                    ("-device", "virtio-blk-pci,drive=other,serial=other".to_owned()),
                ];
                if *uefi {
                    words.push(("-bios", UEFI.to_owned()));
                }
                words
            }
        }
    }

    /// The firmware's own messages on the serial console, where the firmware has a say in the boot.
    pub fn machine(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "q35",
            Self::Network(_) | Self::Disk { .. } => "q35,graphics=off",
        }
    }

    /// More for the admin network: a boot server.
    pub fn network(&self) -> String {
        match self {
            Self::Kernel(_) | Self::Disk { .. } => String::new(),
            Self::Network(tree) => netboot::network(tree),
        }
    }

    /// More for the admin NIC: the program that boots from it, or none, which would only cost time.
    pub fn nic(&self) -> &'static str {
        match self {
            Self::Kernel(_) | Self::Disk { .. } => ",romfile=",
            Self::Network(_) => ",bootindex=0",
        }
    }
}
