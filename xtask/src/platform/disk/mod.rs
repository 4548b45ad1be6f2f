//! The disk image: what a node without a boot server boots from, by BIOS or UEFI. One FAT partition has everything; the boot
//! loader is GRUB. Written byte by byte into a file: nothing is mounted, and the same inputs give the same bytes.

mod gpt;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Built, at, folder};
use crate::{hex, packages, run, say::Progress};

/// Its name, in the image's folder.
pub const NAME: &str = "disk.img";

/// Changes with what is written here.
const VERSION: &str = "1";

/// Where the FAT partition begins, bytes; the boot loader of BIOS is before it.
const FAT: u64 = 1 << 20;

/// Room in the partition beside the files, bytes.
const SLACK: u64 = 16 << 20;

/// Where Debian's packages have GRUB's parts.
const GRUB: &str = "/usr/lib/grub";

/// Modules of GRUB that both firmwares need: nothing is loaded from the disk later.
const MODULES: [&str; 10] = ["part_gpt", "fat", "normal", "configfile", "linux", "echo", "test", "serial", "terminal", "minicmd"];

/// Makes the disk image, or finds it beside the image.
///
/// # Errors
/// When a tool is missing or fails.
pub fn ensure(built: &Built, epoch: i64, progress: &mut Progress) -> Result<PathBuf> {
    packages::ensure(&[packages::Purpose::Disk], progress)?;
    let (disk, note) = (built.file(NAME), built.file("disk.key"));
    let key = key(built, epoch)?;
    if disk.is_file() && fs::read_to_string(&note).is_ok_and(|known| known == key) {
        return Ok(disk);
    }
    let work = built.file("disk.work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(at("create", &work))?;
    let made = make(built, &work, &key, epoch, progress);
    let partial = work.join("disk");
    let made = made.and_then(|()| fs::rename(&partial, &disk).with_context(at("rename", &partial)));
    fs::remove_dir_all(&work).with_context(at("remove", &work))?;
    made?;
    fs::write(&note, key).with_context(at("write", &note))?;
    Ok(disk)
}

/// A hash of what goes in.
fn key(built: &Built, epoch: i64) -> Result<String> {
    let mut hash = Sha256::new();
    for part in [VERSION, &built.stamp, &epoch.to_string()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(fs::read(config()).with_context(at("read", &config()))?);
    for path in [built.file("manifest.json"), Path::new(GRUB).join("i386-pc/boot.img"), Path::new(GRUB).join("i386-pc/kernel.img")] {
        hash.update(Sha256::digest(fs::read(&path).with_context(at("read", &path))?));
    }
    Ok(hex(&hash.finalize()))
}

fn config() -> PathBuf {
    folder().join("boot/grub.cfg")
}

fn make(built: &Built, work: &Path, key: &str, epoch: i64, progress: &mut Progress) -> Result<()> {
    let partition = gpt::guid(key, "medium");
    let medium = format!("/dev/disk/by-partuuid/{}", gpt::text(&partition));
    let text = fs::read_to_string(config()).with_context(at("read", &config()))?.replace("@MEDIUM@", &medium);
    let own = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = work.join(name);
        fs::write(&path, bytes).with_context(at("write", &path))?;
        let time = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch).unwrap_or(0));
        File::options().write(true).open(&path)?.set_modified(time).with_context(at("set the time of", &path))?;
        Ok(path)
    };
    let core = grub("i386-pc", "(,gpt2)/boot/grub", &["biosdisk"], &work.join("core.img"), progress)?;
    let efi = grub("x86_64-efi", "/boot/grub", &["all_video", "efi_gop"], &work.join("bootx64.efi"), progress)?;
    let files = [
        ("JOYENT_DEBIAN_LIVE", own("marker", b"")?),
        ("vmlinuz", built.file("vmlinuz")),
        ("initrd", built.file("initrd")),
        ("live/filesystem.squashfs", built.file("filesystem.squashfs")),
        ("boot/grub/grub.cfg", own("grub.cfg", text.as_bytes())?),
        ("EFI/BOOT/BOOTX64.EFI", efi),
    ];
    let mut size = SLACK;
    for (_, path) in &files {
        size += fs::metadata(path).with_context(at("look at", path))?.len();
    }
    let size = size.next_multiple_of(1 << 20);
    let disk = work.join("disk");
    let file = File::create(&disk).with_context(at("create", &disk))?;
    file.set_len(FAT + size + (1 << 20)).with_context(at("size", &disk))?;
    fat(&disk, size, &files, epoch, progress)?;
    let core = fs::read(&core).with_context(at("read", &core))?;
    let mbr = Path::new(GRUB).join("i386-pc/boot.img");
    let mbr = fs::read(&mbr).with_context(at("read", &mbr))?;
    boot(&disk, &mbr, core, &gpt::Table { disk: gpt::guid(key, "disk"), bios: gpt::guid(key, "bios"), medium: partition, begin: FAT, size })
}

/// One image of GRUB with all that it needs.
fn grub(platform: &str, prefix: &str, modules: &[&str], to: &Path, progress: &mut Progress) -> Result<PathBuf> {
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", platform, "-p", prefix, "-o"]).arg(to).args(MODULES).args(modules);
    run::succeed(command, Duration::from_secs(60), progress)?;
    Ok(to.to_owned())
}

/// The file system, with its files. Times and numbers are the release's.
fn fat(disk: &Path, size: u64, files: &[(&str, PathBuf)], epoch: i64, progress: &mut Progress) -> Result<()> {
    let mut command = Command::new("mkfs.vfat");
    command.args(["-F", "32", "-S", "512", "-s", "8", "--invariant", "-n", "TRITON", &format!("--offset={}", FAT / 512)]);
    command.arg(disk).arg((size / 1024).to_string()).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run::succeed(command, Duration::from_secs(60), progress)?;
    let place = format!("{}@@{FAT}", disk.display());
    let mtool = |name: &str| {
        let mut command = Command::new(name);
        command.env("SOURCE_DATE_EPOCH", epoch.to_string()).env("TZ", "UTC").env("MTOOLS_SKIP_CHECK", "1").args(["-i", &place]);
        command
    };
    for folder in ["live", "boot", "boot/grub", "EFI", "EFI/BOOT"] {
        let mut command = mtool("mmd");
        command.arg(format!("::{folder}"));
        run::succeed(command, Duration::from_secs(60), progress)?;
    }
    for (name, from) in files {
        let mut command = mtool("mcopy");
        command.arg("-o").arg(from).arg(format!("::{name}"));
        run::succeed(command, Duration::from_secs(300), progress)?;
    }
    Ok(())
}

/// The table of partitions, and GRUB for BIOS: its first sector in the first of the disk, the rest in a partition of its own.
fn boot(disk: &Path, mbr: &[u8], mut core: Vec<u8>, table: &gpt::Table) -> Result<()> {
    let first = gpt::FIRST;
    ensure!(mbr.len() == 512 && core.len() > 512, "GRUB's images are not what they were");
    ensure!(first * 512 + core.len() as u64 <= FAT, "GRUB's core does not fit before the partition: {} bytes", core.len());
    let mut mbr = mbr[..440].to_vec();
    // Where the first sector finds the second: a sector's number at 0x5c. At 0x66, a jump for floppies becomes no operation.
    mbr[0x5c..0x64].copy_from_slice(&first.to_le_bytes());
    mbr[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    // Where the second finds the rest; their number stands behind it already.
    core[0x1f4..0x1fc].copy_from_slice(&(first + 1).to_le_bytes());
    let mut file = File::options().write(true).open(disk).with_context(at("open", disk))?;
    let sectors = file.seek(SeekFrom::End(0))? / 512;
    for (at, bytes) in table.parts(sectors) {
        file.seek(SeekFrom::Start(at * 512))?;
        file.write_all(&bytes)?;
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&mbr)?;
    file.seek(SeekFrom::Start(first * 512))?;
    file.write_all(&core)?;
    file.sync_all().with_context(at("write", disk))
}
