//! From the files of an image to a partial dataset with `root/` (instances.md sections 8.2, 8.4 and 8.5).

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use triton_files::steps;
use triton_storage::Storage;
use triton_types::{ImageFile, ImageManifest, ImageType};

use super::{InstallFailure, uncompressed::Checked};
use crate::{
    CancelToken, Progress,
    decompress::{Content, Watched, content_of, decompress},
    squashfs,
    unpack::{self, Bounds, Style},
};

/// Unpacked size that is allowed for any image, beside 20 times its file's size: compressors reach a factor of 4 to 8 on real
/// file systems, and what expands more is a bomb.
const FREE_SIZE: u64 = 8 << 30;
const MAX_FACTOR: u64 = 20;

pub(super) fn fill(
    storage: &Storage,
    manifest: &ImageManifest,
    files: &[&Path],
    cancel: &CancelToken,
    progress: &dyn Progress,
) -> Result<(), InstallFailure> {
    let with = |index: usize, style: Style| match (files.get(index), manifest.files.get(index)) {
        (Some(path), Some(file)) => Fill { storage, manifest, path, file, style, cancel, progress }.run(),
        _ => Err(InstallFailure::Unsupported(format!("the image has no file {index}"))),
    };
    match (&manifest.kind, files.len()) {
        // File 0 of a split image is metadata and templates: the guest's files are the manifest's matter here.
        (ImageType::Lxd, 2) => with(1, Style::Whole("")),
        (ImageType::Lxd, _) => with(0, Style::Whole("rootfs")),
        (ImageType::Docker, _) => with(0, Style::Layer),
        _ => with(0, Style::Whole("root")),
    }
}

struct Fill<'a> {
    storage: &'a Storage,
    manifest: &'a ImageManifest,
    path: &'a Path,
    file: &'a ImageFile,
    style: Style,
    cancel: &'a CancelToken,
    progress: &'a dyn Progress,
}

impl Fill<'_> {
    fn read_error(&self) -> impl Fn(io::Error) -> InstallFailure {
        |source| InstallFailure::Read { path: self.path.to_owned(), source }
    }

    fn run(&self) -> Result<(), InstallFailure> {
        let mut file = File::open(self.path).map_err(self.read_error())?;
        let compression = self.file.compression.as_deref();
        let content = content_of(&mut file, compression).map_err(self.read_error())?;
        let (uuid, origin) = (self.manifest.uuid, self.manifest.origin);
        match content {
            Content::ZfsStream => {
                let mut stream = self.stream(file)?;
                self.storage.receive_image(uuid, origin, &mut stream)?;
                steps::reached("image.install.received");
                Ok(())
            }
            Content::Tar => self.unpack(file),
            Content::Empty if self.style == Style::Layer => self.unpack(file),
            Content::Squashfs if matches!(self.manifest.kind, ImageType::Lxd) => {
                let root = self.begin()?;
                squashfs::unpack(self.path, &root, self.bounds(), self.cancel)?;
                Ok(())
            }
            Content::Squashfs => Err(InstallFailure::Unsupported("squashfs files are for images of type lxd".to_owned())),
            Content::Unknown | Content::Empty => Err(InstallFailure::Unsupported(
                "the file holds neither a tar archive, nor a squashfs, nor a ZFS stream; is its compression in the manifest right?"
                    .to_owned(),
            )),
        }
    }

    fn unpack(&self, file: File) -> Result<(), InstallFailure> {
        // What a layer removes is known before anything is made.
        let whiteouts = match self.style {
            Style::Layer if self.manifest.origin.is_some() => unpack::scan_whiteouts(self.stream(file)?, self.bounds(), self.cancel)?,
            _ => Vec::new(),
        };
        let root = self.begin()?;
        unpack::remove_whiteouts(&root, &whiteouts, self.cancel)?;
        steps::reached("image.install.whiteouts");
        let file = File::open(self.path).map_err(self.read_error())?;
        let mut stream = Checked::new(self.stream(file)?, self.file);
        unpack::unpack(&mut stream, &root, self.style, self.bounds(), self.cancel)?;
        stream.finish()
    }

    /// Makes the partial dataset; returns the directory that becomes the guest's root.
    fn begin(&self) -> Result<std::path::PathBuf, InstallFailure> {
        let directory = self.storage.begin_image(self.manifest.uuid, self.manifest.origin)?;
        steps::reached("image.install.begun");
        let root = directory.join("root");
        match std::fs::create_dir(&root) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(InstallFailure::Read { path: root, source }),
        }
        Ok(root)
    }

    fn stream<'a>(&'a self, file: File) -> Result<Box<dyn Read + 'a>, InstallFailure> {
        let watched = Watched::new(file, self.file.size, self.progress, self.cancel);
        decompress(BufReader::with_capacity(256 << 10, watched), self.file.compression.as_deref()).map_err(self.read_error())
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: self.file.size.saturating_mul(MAX_FACTOR).saturating_add(FREE_SIZE), entries: 4_000_000 }
    }
}
