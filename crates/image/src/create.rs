//! Images made from instances (instances.md section 8.9): a file, and the manifest that describes it.

mod file;
mod manifest;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;
use triton_files::{FileError, write_json};
use triton_storage::StorageError;
use triton_types::{IdRange, ImageManifest, ImageUuid, InstanceUuid, JsonMap};

use crate::{CancelToken, ImageError, Images, Progress};
pub use file::Compression;
use file::ImageFileWriter;

/// Most ancestors that an incremental image may have unless the caller says otherwise; IMGAPI's limit (section 8.1).
pub const MAX_ORIGIN_DEPTH: usize = 30;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Fields of the manifest; `name` and `version` at least. They win over what the origin has.
    pub manifest: JsonMap,
    /// How the file is compressed.
    pub compression: Compression,
    /// Only what differs from the instance's image.
    pub incremental: bool,
    /// Most ancestors of an incremental image.
    pub max_origin_depth: usize,
    /// A directory (the files are then named by the image), or the beginning of the files' paths.
    pub output: PathBuf,
}

/// An instance as the source of an image. It does not run as long as this is used.
#[derive(Clone, Copy, Debug)]
pub struct CreateSource<'a> {
    /// The instance.
    pub instance: InstanceUuid,
    /// Its brand.
    pub brand: &'a str,
    /// Its image.
    pub image: Option<ImageUuid>,
    /// The range that owns its files on disk, if they are shifted.
    pub ids: Option<IdRange>,
}

/// An image in two files.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedImage {
    /// The manifest.
    pub manifest: JsonMap,
    /// Its identity.
    pub uuid: ImageUuid,
    /// The image's file.
    pub file: PathBuf,
    /// The manifest's file.
    pub manifest_file: PathBuf,
}

impl Images {
    /// Makes an image from an instance. The files appear when they are complete, the manifest last; a failure leaves neither.
    ///
    /// # Errors
    /// [`ImageError::Manifest`] when the fields make none, before anything is written; [`ImageError::OriginNotInstalled`] and
    /// [`ImageError::OriginDepth`] for incremental ones; what storage says.
    pub fn create(
        &self,
        source: CreateSource<'_>,
        options: &CreateOptions,
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<CreatedImage, ImageError> {
        let origin = match source.image {
            Some(image) => self.get(image)?,
            None => None,
        };
        let uuid = manifest::uuid(&options.manifest)?;
        let base = self.base(source, uuid, options)?;
        let stream = self.storage().image_is_stream();
        let mut made = manifest::compose(uuid, origin.as_ref().map(|image| &image.manifest), &options.manifest, source.brand);
        if let Some(base) = base {
            made.insert("origin".to_owned(), json!(base));
        }
        let parsed = ImageManifest::from_value(&made.clone().into()).map_err(ImageError::Manifest)?;
        let prefix = prefix(&options.output, &parsed);
        let extension = if stream { "zfs" } else { "tar" };
        let path = with_suffix(&prefix, &format!(".{extension}{}", options.compression.suffix()));
        let manifest_file = with_suffix(&prefix, ".imgmanifest");

        let expected = self.storage().usage(source.instance).map_or(0, |usage| usage.used_bytes);
        let mut writer = ImageFileWriter::begin(&path, options.compression, expected, cancel, progress)?;
        let filled = if stream { self.send(source.instance, base, &mut writer) } else { self.pack(source, &mut writer) };
        if cancel.is_cancelled() {
            return Err(ImageError::Cancelled(uuid));
        }
        filled?;
        let done = writer.finish()?;
        made.insert("files".to_owned(), json!([{"size": done.size, "compression": options.compression.word(), "sha1": done.sha1}]));
        triton_files::steps::reached("image.create.file-complete");
        if let Err(error) = write_json(&manifest_file, &made, 0o644) {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        Ok(CreatedImage { manifest: made, uuid, file: path, manifest_file })
    }

    /// The image that an incremental one is the difference to.
    fn base(&self, source: CreateSource<'_>, uuid: ImageUuid, options: &CreateOptions) -> Result<Option<ImageUuid>, ImageError> {
        if !options.incremental {
            return Ok(None);
        }
        if !self.storage().image_is_stream() {
            return Err(StorageError::Unsupported { kind: self.storage().kind(), what: "make incremental images" }.into());
        }
        let base = source.image.ok_or_else(|| ImageError::manifest("origin", "the instance was made from no image"))?;
        if !self.is_installed(base)? {
            return Err(ImageError::OriginNotInstalled { uuid, origin: base });
        }
        let depth = self.ancestry(base)?.len();
        if depth > options.max_origin_depth {
            return Err(ImageError::OriginDepth { depth, max: options.max_origin_depth });
        }
        Ok(Some(base))
    }

    /// A ZFS stream comes from a descriptor: a thread sends it through a pipe.
    fn send(&self, instance: InstanceUuid, base: Option<ImageUuid>, writer: &mut ImageFileWriter<'_>) -> Result<(), ImageError> {
        let (mut read, write) = io::pipe().map_err(|error| ImageError::System("make a pipe", error))?;
        let storage = self.storage();
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let file = fs::File::from(std::os::fd::OwnedFd::from(write));
                storage.send_image(instance, base, &file)
            });
            let copied = io::copy(&mut read, writer);
            // The sender ends when nobody reads any more.
            drop(read);
            let sent = sender.join().map_err(|_| ImageError::System("send the instance", io::ErrorKind::Other.into()))?;
            match copied {
                Err(error) => Err(writer.failed(error)),
                Ok(_) => Ok(sent?),
            }
        })
    }

    fn pack(&self, source: CreateSource<'_>, writer: &mut ImageFileWriter<'_>) -> Result<(), ImageError> {
        let packed = self.storage().pack_root(source.instance, source.ids, "root", &[], writer)?;
        tracing::debug!(instance = %source.instance, entries = packed.entries, bytes = packed.bytes, "instance packed");
        writer.flush().map_err(|error| writer.failed(error))
    }
}

/// Files in a directory are named by the image; else `output` is how their names begin.
fn prefix(output: &Path, manifest: &ImageManifest) -> PathBuf {
    if !output.is_dir() {
        return output.to_owned();
    }
    // Both are of a safe alphabet but for the slash and the blank.
    let name: String =
        format!("{}-{}", manifest.name, manifest.version).chars().map(|c| if matches!(c, '/' | ' ') { '_' } else { c }).collect();
    output.join(name)
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl ImageError {
    fn write(path: &Path, source: io::Error) -> Self {
        FileError::new("write", path, source).into()
    }
}
