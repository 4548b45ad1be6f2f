use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::PathBuf,
};

use tar::{Builder, EntryType, Header};

use super::*;

/// Two directories: one to unpack into, one beside it that must stay as it is.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/victim"), "host").unwrap();
        Self { directory }
    }
    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }
    fn unpack(&self, archive: &[u8]) -> Result<Summary, UnpackError> {
        unpack(archive, &self.root(), Style::Whole("rootfs"), Bounds { bytes: 1 << 20, entries: 100 }, &CancelToken::default())
    }
    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.directory.path().join("outside/victim")).unwrap(), "host");
        assert_eq!(fs::read_dir(self.directory.path().join("outside")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
    }
}

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }
    fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header
    }
    /// The name as it is, however hostile.
    fn put(mut self, name: &str, mut header: Header, link: &str, data: &[u8]) -> Self {
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }
    fn directory(self, name: &str) -> Self {
        self.put(name, Self::header(EntryType::Directory, 0o755), "", b"")
    }
    fn file(self, name: &str, data: &[u8]) -> Self {
        self.put(name, Self::header(EntryType::Regular, 0o644), "", data)
    }
    fn link(self, kind: EntryType, name: &str, to: &str) -> Self {
        self.put(name, Self::header(kind, 0o777), to, b"")
    }
    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn owners_modes_times_links_and_devices_are_kept() {
    let place = Place::new();
    let mut owned = Archive::header(EntryType::Regular, 0o4755);
    owned.set_uid(1000);
    owned.set_gid(50);
    let mut null = Archive::header(EntryType::Char, 0o666);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let archive = Archive::new()
        .file("metadata.yaml", b"architecture: x86_64")
        .put("rootfs/", Archive::header(EntryType::Directory, 0o750), "", b"")
        .directory("rootfs/bin/")
        .put("rootfs/bin/su", owned, "", b"elf")
        .link(EntryType::Link, "rootfs/bin/sudo", "rootfs/bin/su")
        .link(EntryType::Symlink, "rootfs/sbin", "/usr/sbin")
        .put("rootfs/null", null, "", b"")
        .link(EntryType::Fifo, "rootfs/initctl", "")
        .file("rootfs/deep/er/file", b"no entries for its directories")
        .bytes();
    let summary = place.unpack(&archive).unwrap();
    let at = |name: &str| place.root().join(name);
    let su = fs::metadata(at("bin/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.mtime()), (1000, 50, 0o4755, 1_000_000_000));
    assert_eq!((su.nlink(), fs::metadata(at("bin/sudo")).unwrap().ino()), (2, su.ino()));
    assert_eq!(fs::read_link(at("sbin")).unwrap(), PathBuf::from("/usr/sbin"));
    assert_eq!(fs::symlink_metadata(at("sbin")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(at("bin")).unwrap().mtime(), 1_000_000_000, "although files were made in it afterwards");
    assert_eq!(fs::metadata(place.root()).unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(fs::read_to_string(at("deep/er/file")).unwrap(), "no entries for its directories");
    assert!(fs::metadata(at("initctl")).unwrap().file_type().is_fifo());
    if summary.devices_left_out == 0 {
        let null = fs::metadata(at("null")).unwrap();
        assert!(null.file_type().is_char_device() && null.rdev() == nix::sys::stat::makedev(1, 3));
    }
    assert!(!at("metadata.yaml").exists() && !place.directory.path().join("metadata.yaml").exists());
}

#[test]
fn extended_attributes_of_guests_are_kept_and_those_that_steer_the_host_are_not() {
    let place = Place::new();
    let mut archive = Archive::new();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    archive
        .0
        .append_pax_extensions([
            ("SCHILY.xattr.user.note", &b"hello\nworld"[..]),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("mtime", b"1000000000.25"),
        ])
        .unwrap();
    let summary = place.unpack(&archive.file("rootfs/ping", b"elf").bytes()).unwrap();
    let ping = place.root().join("ping");
    assert_eq!(xattr::get(&ping, "trusted.overlay.redirect").unwrap(), None);
    assert_eq!(fs::metadata(&ping).unwrap().mtime_nsec(), 250_000_000);
    // The file system of this machine's temporary directory may hold none at all.
    if summary.attributes_left_out == 1 {
        assert_eq!(xattr::get(&ping, "user.note").unwrap().unwrap(), b"hello\nworld");
        assert_eq!(xattr::get(&ping, "security.capability").unwrap().unwrap(), capability);
    }
}

#[test]
fn no_name_reaches_outside() {
    for name in ["/outside/victim", "../outside/victim", "rootfs/../outside/victim", "rootfs/a/../../../outside/victim"] {
        let place = Place::new();
        let error = place.unpack(&Archive::new().file(name, b"evil").bytes()).unwrap_err();
        assert!(matches!(error.failure, UnpackFailure::Name(_)) && error.entry == name, "{error:?}");
        place.assert_untouched();
    }
}

#[test]
fn no_link_is_followed_wherever_it_points() {
    for target in ["/outside", "../outside", ".", "..", "/"] {
        let place = Place::new();
        let absolute = target.replace("/outside", &place.directory.path().join("outside").display().to_string());
        let absolute = if absolute.len() < 100 { absolute } else { target.to_owned() };
        let archive = Archive::new().link(EntryType::Symlink, "rootfs/way", &absolute).file("rootfs/way/victim", b"evil").bytes();
        let error = place.unpack(&archive).unwrap_err();
        assert!(matches!(error.failure, UnpackFailure::Name(_)), "{target}: {error:?}");
        place.assert_untouched();
    }
}

#[test]
fn a_link_in_last_place_is_replaced_not_followed() {
    let place = Place::new();
    let archive = Archive::new()
        .link(EntryType::Symlink, "rootfs/victim", "../outside/victim")
        .file("rootfs/victim", b"mine")
        .link(EntryType::Symlink, "rootfs/dir", "../outside")
        .directory("rootfs/dir")
        .file("rootfs/dir/a", b"a")
        .bytes();
    place.unpack(&archive).unwrap();
    assert_eq!(fs::read_to_string(place.root().join("victim")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(place.root().join("dir/a")).unwrap(), "a");
    place.assert_untouched();
}

#[test]
fn hard_links_reach_only_files_of_the_guest() {
    for target in ["/outside/victim", "../outside/victim", "outside/victim", "rootfs/way/victim", "rootfs"] {
        let place = Place::new();
        let archive =
            Archive::new().link(EntryType::Symlink, "rootfs/way", "../outside").link(EntryType::Link, "rootfs/mine", target).bytes();
        assert!(matches!(place.unpack(&archive).unwrap_err().failure, UnpackFailure::Name(_)), "{target}");
        place.assert_untouched();
    }
}

#[test]
fn an_archive_that_holds_too_much_is_refused() {
    let place = Place::new();
    let big = vec![1; 700 << 10];
    let archive = Archive::new().file("rootfs/a", &big).file("rootfs/b", &big).bytes();
    assert!(matches!(place.unpack(&archive).unwrap_err().failure, UnpackFailure::TooLarge { .. }));
    let mut many = Archive::new();
    for number in 0..101 {
        many = many.file(&format!("rootfs/{number}"), b"");
    }
    assert!(matches!(Place::new().unpack(&many.bytes()).unwrap_err().failure, UnpackFailure::TooLarge { .. }));
    // A name that would be held in memory.
    let name = vec![b'n'; 5 << 20];
    let archive = Archive::new().put("././@LongLink", Archive::header(EntryType::GNULongName, 0), "", &name).file("rootfs/a", b"");
    assert!(matches!(Place::new().unpack(&archive.bytes()).unwrap_err().failure, UnpackFailure::TooLarge { .. }));
}

#[test]
fn a_damaged_archive_and_one_without_a_root_are_refused() {
    let archive = Archive::new().file("rootfs/a", &[7; 5000]).bytes();
    let error = Place::new().unpack(&archive[..3000]).unwrap_err();
    assert!(matches!(error.failure, UnpackFailure::Archive(_)), "{error:?}");
    let error = Place::new().unpack(&Archive::new().file("metadata.yaml", b"x").bytes()).unwrap_err();
    assert!(matches!(error.failure, UnpackFailure::NoRoot("rootfs")), "{error:?}");
}

#[test]
fn sparse_and_zero_content_keeps_its_length() {
    let place = Place::new();
    let mut data = vec![0; 300 << 10];
    data[200_000] = 7;
    place.unpack(&Archive::new().file("rootfs/sparse", &data).file("rootfs/zero", &[0; 8192]).bytes()).unwrap();
    assert!(fs::read(place.root().join("sparse")).unwrap() == data);
    assert_eq!(fs::read(place.root().join("zero")).unwrap(), [0; 8192]);
}

#[test]
fn a_cancelled_unpacking_ends() {
    let place = Place::new();
    let cancel = CancelToken::default();
    cancel.cancel();
    let archive = Archive::new().file("rootfs/a", b"x").bytes();
    let error = unpack(&archive[..], &place.root(), Style::Whole("rootfs"), Bounds { bytes: 1, entries: 1 }, &cancel).unwrap_err();
    assert!(error.is_cancelled());
}

#[test]
fn archives_of_gnu_tar_with_holes_and_long_names_are_unpacked_in_each_of_its_formats() {
    let place = Place::new();
    let source = place.directory.path().join("rootfs");
    let long = source.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&long).unwrap();
    let mut data = vec![0; 3 << 18];
    for at in (0..data.len()).step_by(60_000) {
        data[at] = 7;
    }
    let file = fs::File::create(long.join("holes")).unwrap();
    file.set_len(data.len() as u64).unwrap();
    for at in (0..data.len()).step_by(60_000) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7], at as u64).unwrap();
    }
    std::os::unix::fs::symlink("x".repeat(200), source.join("link")).unwrap();
    for options in [&["--format=gnu", "--sparse"][..], &["--format=gnu"], &["--format=pax"]] {
        let mut tar = std::process::Command::new("tar");
        let output = tar.args(options).args(["-cf", "-", "-C"]).arg(place.directory.path()).arg("rootfs").output().unwrap();
        assert!(output.status.success());
        let _ = fs::remove_dir_all(place.root());
        fs::create_dir(place.root()).unwrap();
        place.unpack(&output.stdout).unwrap();
        let unpacked = place.root().join(long.strip_prefix(&source).unwrap()).join("holes");
        assert!(fs::read(unpacked).unwrap() == data, "{options:?}");
        assert_eq!(fs::read_link(place.root().join("link")).unwrap().as_os_str().len(), 200);
    }
}
