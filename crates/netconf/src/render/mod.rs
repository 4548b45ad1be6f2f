//! The plan as files below a root.

mod admin;
mod link;
mod services;
mod text;
mod uplink;

use crate::Plan;

/// A file that is to be written whole, mode 0644.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where, relative to the root: `etc/hostname`.
    pub path: String,
    /// Its content; the empty text masks a file of that name elsewhere.
    pub text: String,
}

/// The names of all our files in `etc/systemd/network` begin with this, so that those of an older plan can be told.
pub const FILE_PREFIX: &str = "10-triton-";
/// The file with which the image offers DHCP on all NICs.
pub const DHCP_ALL_NICS: &str = "99-dhcp-all-nics.network";
/// Every file that [`render`] may name except `etc/hostname`: a directory, and how names in it begin. A file of those that
/// is not among those of the present plan belongs to an older one; [`DHCP_ALL_NICS`] only if it is empty.
pub const OWNED: [(&str, &str); 6] = [
    (NETWORK, FILE_PREFIX),
    (NETWORK, DHCP_ALL_NICS),
    ("etc/udev/rules.d", "70-triton-"),
    ("etc/triton", "resolv.conf"),
    ("etc/chrony/sources.d", "triton.sources"),
    ("etc/triton", "admin-networks"),
];
/// Where systemd-networkd looks first.
const NETWORK: &str = "etc/systemd/network";

/// The files of `plan`. Without a configuration, or with one that gives the node no link, there are none about links, so that DHCP on
/// all NICs stays possible (platform.md section 3.5, N8); else that is masked.
pub fn render(plan: &Plan) -> Vec<File> {
    let mut files = services::render(plan);
    if plan.configured {
        for uplink in &plan.uplinks {
            files.extend(uplink::render(uplink, &plan.nics));
        }
        for nic in &plan.nics {
            files.extend(link::render(nic));
        }
        if !(plan.uplinks.is_empty() && plan.nics.is_empty()) {
            files.push(File { path: format!("{NETWORK}/{DHCP_ALL_NICS}"), text: String::new() });
            files.push(admin::render(plan));
        }
    }
    files
}

/// The image's file for nodes without a configuration: DHCP on all physical NICs, if the kernel's arguments have
/// `triton.dhcp-all-nics`. Booter answers only those who call themselves a boot loader. Ends of pairs, bridges and all else
/// that has a kind is no physical NIC and never matches (ruling 11).
pub fn dhcp_all_nics() -> File {
    let text = "# DHCP on every physical NIC, when the node was not given a configuration.\n\
        [Match]\nType=ether\nKind=!*\nKernelCommandLine=triton.dhcp-all-nics\n\n\
        [Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n\n\
        [DHCPv4]\nClientIdentifier=mac\nVendorClassIdentifier=PXEClient.Linux.x86_64\nUseDomains=yes\n";
    File { path: format!("usr/lib/systemd/network/{DHCP_ALL_NICS}"), text: text.to_owned() }
}

/// A file of ours for systemd-networkd.
fn network_file(name: &str, kind: &str, unit: text::Unit) -> File {
    File { path: format!("{NETWORK}/{FILE_PREFIX}{name}.{kind}"), text: unit.finish() }
}
