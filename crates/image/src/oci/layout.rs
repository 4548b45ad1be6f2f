//! The files of a layout, in a directory or in a tar archive. Nothing outside of it is ever opened.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    OciError,
    blob::{self, Descriptor, Digests},
};
use crate::{CancelToken, Progress, Quiet};

/// Most bytes of a document: manifests of images with a hundred layers have some tens of thousands.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Most bytes of a layer as it is stored: what an image's file may have (instances.md section 8.1).
const MAX_LAYER: u64 = 20 << 30;
/// Most files of an archive.
const MAX_FILES: usize = 100_000;

/// A layout that is open for reading.
pub(super) struct OciLayout {
    path: PathBuf,
    files: Files,
}

enum Files {
    Directory(OwnedFd),
    /// Where each file's content begins, and its length.
    Archive(File, HashMap<String, (u64, u64)>),
}

/// Splits `PATH[:TAG]`. What exists as it is has no tag.
pub fn split_reference(text: &str) -> (&str, Option<&str>) {
    let is_tag = |tag: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(word) && !tag.starts_with(['.', '-'])
    };
    match text.rsplit_once(':') {
        Some((path, tag)) if is_tag(tag) && !path.is_empty() && !Path::new(text).exists() => (path, Some(tag)),
        _ => (text, None),
    }
}

impl OciLayout {
    pub(super) fn open(path: &Path) -> Result<Self, OciError> {
        let read = |source| OciError::Read { what: "the file or directory".to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(read)?;
        let files = if metadata.is_dir() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            Files::Directory(open(path, flags, Mode::empty()).map_err(|errno| read(errno.into()))?)
        } else if metadata.is_file() {
            let mut file = File::open(path).map_err(read)?;
            let index = index(&mut file).map_err(|reason| OciError::NotALayout { path: path.to_owned(), reason })?;
            Files::Archive(file, index)
        } else {
            return Err(OciError::NotALayout { path: path.to_owned(), reason: "neither a directory nor a file".to_owned() });
        };
        let layout = Self { path: path.to_owned(), files };
        layout.check_version()?;
        Ok(layout)
    }

    fn check_version(&self) -> Result<(), OciError> {
        let not = |reason: String| OciError::NotALayout { path: self.path.clone(), reason };
        let hint = "an archive of 'docker save' before Docker 25 is none either; 'skopeo copy' converts it";
        let absent = not(format!("it has no file \"oci-layout\"; {hint}"));
        let wrong = |found: &Value| not(format!("its version is {found}, 1.0.0 is known"));
        let Some(marker) = self.file("oci-layout", 4096)? else { return Err(absent) };
        let marker: Value = parse("oci-layout", &marker)?;
        match &marker["imageLayoutVersion"] {
            Value::String(version) if version.starts_with("1.") => Ok(()),
            other => Err(wrong(other)),
        }
    }

    /// A document by its name.
    pub(super) fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, OciError> {
        let absent = OciError::NotALayout { path: self.path.clone(), reason: format!("it has no file {name:?}") };
        parse(name, &self.file(name, MAX_DOCUMENT)?.ok_or(absent)?)
    }

    /// A document that is a blob, checked.
    pub(super) fn blob<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, OciError> {
        let what = format!("blob {}", descriptor.digest);
        if descriptor.size > MAX_DOCUMENT {
            return Err(OciError::TooLarge { what, size: descriptor.size, most: MAX_DOCUMENT });
        }
        let mut bytes = Vec::new();
        let mut reader = self.open_blob(descriptor)?;
        blob::copy(descriptor, &mut reader, &mut bytes, &CancelToken::default(), &Quiet)?;
        parse(&what, &bytes)
    }

    /// Copies a layer, checked.
    pub(super) fn copy(
        &self,
        descriptor: &Descriptor,
        out: &mut dyn Write,
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<Digests, OciError> {
        if descriptor.size > MAX_LAYER {
            return Err(OciError::TooLarge { what: format!("layer {}", descriptor.digest), size: descriptor.size, most: MAX_LAYER });
        }
        let mut reader = self.open_blob(descriptor)?;
        blob::copy(descriptor, &mut reader, out, cancel, progress)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read>, OciError> {
        self.reader(&descriptor.digest.path())?.ok_or_else(|| OciError::NoBlob(descriptor.digest.to_string()))
    }

    fn file(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, OciError> {
        let Some(reader) = self.reader(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        reader.take(most + 1).read_to_end(&mut bytes).map_err(|source| OciError::Read { what: name.to_owned(), source })?;
        let size = bytes.len() as u64;
        if size > most { Err(OciError::TooLarge { what: name.to_owned(), size, most }) } else { Ok(Some(bytes)) }
    }

    /// A file of the layout; `None` without one. Links are refused, wherever they lead.
    fn reader(&self, name: &str) -> Result<Option<Box<dyn Read>>, OciError> {
        let failed = |source| OciError::Read { what: name.to_owned(), source };
        match &self.files {
            Files::Directory(directory) => {
                let how = OpenHow::new()
                    .flags(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
                    .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
                let file = match openat2(directory, name, how) {
                    Err(Errno::ENOENT) => return Ok(None),
                    Err(Errno::ELOOP) => return Err(failed(std::io::Error::other("it is a link, or below one"))),
                    other => File::from(other.map_err(|errno| failed(errno.into()))?),
                };
                match file.metadata() {
                    Ok(metadata) if metadata.is_file() => Ok(Some(Box::new(file))),
                    Ok(_) => Err(failed(std::io::Error::other("it is no file"))),
                    Err(error) => Err(failed(error)),
                }
            }
            Files::Archive(file, index) => {
                let Some((offset, length)) = index.get(name).copied() else { return Ok(None) };
                let mut file = file.try_clone().map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Ok(Some(Box::new(file.take(length))))
            }
        }
    }
}

/// The files of a tar archive. Their names are short, so that extension records can say nothing of interest: they are passed over.
fn index(file: &mut File) -> Result<HashMap<String, (u64, u64)>, String> {
    let damaged =
        |error: std::io::Error| format!("it is no tar archive, or a damaged one ({error}); a compressed one must be decompressed first");
    let mut head = [0; 512];
    let length = file.read(&mut head).map_err(damaged)?;
    if crate::decompress::recognise(&head[..length]) != crate::decompress::Content::Tar {
        return Err("it is no tar archive; a compressed one must be decompressed first".to_owned());
    }
    file.rewind().map_err(damaged)?;
    let mut archive = tar::Archive::new(file);
    let mut found = HashMap::new();
    for entry in archive.entries_with_seek().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        if found.len() >= MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
        if !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous) {
            continue;
        }
        if let Ok(name) = std::str::from_utf8(&entry.path_bytes()) {
            let name = name.strip_prefix("./").unwrap_or(name).to_owned();
            found.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(found)
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|error| OciError::Malformed { what: what.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_follows_the_last_colon_unless_the_whole_is_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a:b");
        std::fs::create_dir(&odd).unwrap();
        let odd = odd.to_str().unwrap();
        assert_eq!(split_reference(odd), (odd, None));
        let tagged = format!("{odd}:1.0");
        assert_eq!(split_reference(&tagged), (odd, Some("1.0")));
        assert_eq!(split_reference("/x/y"), ("/x/y", None));
        assert_eq!(split_reference("/x:y/z"), ("/x:y/z", None), "a tag has no slash");
        assert_eq!(split_reference("/x:"), ("/x:", None));
    }
}
