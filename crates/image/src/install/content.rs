//! From the files of an image to a partial dataset with `root/` (instances.md sections 8.2, 8.4 and 8.5).

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use triton_files::steps;
use triton_storage::Storage;
use triton_types::{ImageFile, ImageManifest, ImageType};

use super::InstallFailure;
use crate::{
    CancelToken, Progress,
    decompress::{Content, Watched, content_of, decompress},
    squashfs,
    unpack::{self, Bounds},
};

/// Unpacked size that is allowed for any image, beside 20 times its file's size: compressors reach a factor of 4 to 8 on real
/// file systems, and what expands more is a bomb.
const FREE_SIZE: u64 = 8 << 30;
const MAX_FACTOR: u64 = 20;

/// What of an archive becomes `root/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// What is below this directory of the archive; the rest (metadata, templates) is left out.
    Below(&'static str),
    /// All of it.
    All,
}

pub(super) fn fill(
    storage: &Storage,
    manifest: &ImageManifest,
    files: &[&Path],
    cancel: &CancelToken,
    progress: &dyn Progress,
) -> Result<(), InstallFailure> {
    let with = |index: usize, layer: Layer| match (files.get(index), manifest.files.get(index)) {
        (Some(path), Some(file)) => Fill { storage, manifest, path, file, layer, cancel, progress }.run(),
        _ => Err(InstallFailure::Unsupported(format!("the image has no file {index}"))),
    };
    match (&manifest.kind, files.len()) {
        // File 0 of a split image is metadata and templates: the guest's files are the manifest's matter here.
        (ImageType::Lxd, 2) => with(1, Layer::All),
        (ImageType::Lxd, _) => with(0, Layer::Below("rootfs")),
        _ => with(0, Layer::Below("root")),
    }
}

struct Fill<'a> {
    storage: &'a Storage,
    manifest: &'a ImageManifest,
    path: &'a Path,
    file: &'a ImageFile,
    layer: Layer,
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
                let mut stream = self.stream(file).map_err(self.read_error())?;
                self.storage.receive_image(uuid, origin, &mut stream)?;
                steps::reached("image.install.received");
                Ok(())
            }
            Content::Tar => {
                let root = self.begin()?;
                unpack::unpack(self.stream(file).map_err(self.read_error())?, &root, self.prefix(), self.bounds(), self.cancel)?;
                Ok(())
            }
            Content::Squashfs if matches!(self.manifest.kind, ImageType::Lxd) => {
                let root = self.begin()?;
                squashfs::unpack(self.path, &root, self.bounds(), self.cancel)?;
                Ok(())
            }
            Content::Squashfs => Err(InstallFailure::Unsupported("squashfs files are for images of type lxd".to_owned())),
            Content::Unknown => Err(InstallFailure::Unsupported(
                "the file holds neither a tar archive, nor a squashfs, nor a ZFS stream; is its compression in the manifest right?"
                    .to_owned(),
            )),
        }
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

    fn stream<'a>(&'a self, file: File) -> io::Result<Box<dyn Read + 'a>> {
        let watched = Watched::new(file, self.file.size, self.progress, self.cancel);
        decompress(BufReader::with_capacity(256 << 10, watched), self.file.compression.as_deref())
    }

    fn prefix(&self) -> &'static str {
        match self.layer {
            Layer::Below(prefix) => prefix,
            Layer::All => "",
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: self.file.size.saturating_mul(MAX_FACTOR).saturating_add(FREE_SIZE), entries: 4_000_000 }
    }
}
