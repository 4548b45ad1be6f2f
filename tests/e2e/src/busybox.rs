//! A minimal system with a real init, made of Debian's busybox: what test instances run.

use std::io::Write;

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// The uuid of the test image.
pub const IMAGE_UUID: &str = "b5b0c0de-7e57-4bb0-8000-000000000001";

/// What init does: mounts nothing that the container has already, keeps a respawned shell, and understands halt and reboot.
const INITTAB: &str = "::sysinit:/bin/busybox mkdir -p /run /var/run /tmp\n\
::sysinit:/etc/rc\n\
::respawn:/bin/busybox sleep 86400\n\
::shutdown:/bin/busybox touch /shutdown-was-orderly\n\
::restart:/sbin/init\n";

/// Runs at each boot: counts them, and does what the image's user left in `/etc/rc.local`.
const RC: &str = "#!/bin/sh\nmkdir -p /var\necho boot >> /var/boots\n[ -x /etc/rc.local ] && /etc/rc.local\nexit 0\n";

const APPLETS: [&str; 34] = [
    "sh", "ash", "cat", "chmod", "chown", "cp", "cut", "dd", "echo", "env", "false", "grep", "halt", "hostname", "id", "ip", "kill", "ln",
    "ls", "mkdir", "mount", "nc", "ping", "poweroff", "ps", "reboot", "rm", "sed", "sleep", "stat", "touch", "true", "uname", "wc",
];

/// The tar archive of the root file system below `prefix` (`rootfs/` for an lxd image), uncompressed.
///
/// # Panics
/// When busybox-static is not installed.
pub fn rootfs_tar(prefix: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static provides /bin/busybox");
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["", "bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"] {
        let mut header = header(0o755, tar::EntryType::Directory, 0);
        tar.append_data(&mut header, format!("{prefix}{directory}/"), std::io::empty()).expect("memory");
    }
    let mut file = |path: &str, mode: u32, content: &[u8]| {
        let mut header = header(mode, tar::EntryType::Regular, content.len() as u64);
        tar.append_data(&mut header, format!("{prefix}{path}"), content).expect("memory");
    };
    file("bin/busybox", 0o755, &busybox);
    file("etc/inittab", 0o644, INITTAB.as_bytes());
    file("etc/rc", 0o755, RC.as_bytes());
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    file("etc/group", 0o644, b"root:x:0:\n");
    let mut link = |path: &str, target: &str| {
        let mut header = header(0o777, tar::EntryType::Symlink, 0);
        tar.append_link(&mut header, format!("{prefix}{path}"), target).expect("memory");
    };
    for applet in APPLETS {
        link(&format!("bin/{applet}"), "busybox");
    }
    link("sbin/init", "../bin/busybox");
    tar.into_inner().expect("memory")
}

fn header(mode: u32, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

/// The image as IMGAPI serves it: manifest and file (type `lxd`, combined, gzip).
///
/// # Panics
/// When busybox-static is not installed.
pub fn image_files() -> (Value, Vec<u8>) {
    let mut tar = tar::Builder::new(Vec::new());
    let metadata = b"architecture: x86_64\ncreation_date: 1700000000\n";
    tar.append_data(&mut header(0o644, tar::EntryType::Regular, metadata.len() as u64), "metadata.yaml", &metadata[..]).expect("memory");
    let mut bytes = tar.into_inner().expect("memory");
    // An archive ends with two empty blocks: without them the second one follows the first.
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(rootfs_tar("rootfs/"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).expect("memory");
    let file = gzip.finish().expect("memory");
    let sha1: String = Sha1::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = json!({
        "v": 2,
        "uuid": IMAGE_UUID,
        "owner": "00000000-0000-0000-0000-000000000000",
        "name": "busybox",
        "version": "1.0.0",
        "state": "active",
        "disabled": false,
        "public": true,
        "published_at": "2026-01-01T00:00:00.000Z",
        "type": "lxd",
        "os": "linux",
        "requirements": {"brand": "lx"},
        "files": [{"sha1": sha1, "size": file.len(), "compression": "gzip"}],
    });
    (manifest, file)
}
