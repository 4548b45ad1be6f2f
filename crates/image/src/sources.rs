//! `/var/imgadm/imgadm.conf`: where images come from (instances.md section 8.7).

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use triton_files::{Layout, Lock, read_json, write_json};
use triton_headnode::{BaseUrl, UrlError};
use triton_types::JsonMap;

use crate::ImageError;

/// The source when none was configured. It needs TLS, so importing from it fails with a text that says so.
pub const DEFAULT_SOURCE: &str = "https://images.smartos.org";

/// One image server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// `imgapi`.
    #[serde(rename = "type", default = "imgapi")]
    pub kind: String,
    /// Certificates are not checked. Kept for upstream's tools; meaningless without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

fn imgapi() -> String {
    "imgapi".to_owned()
}

impl Source {
    /// A source of type `imgapi`.
    ///
    /// # Errors
    /// When the text is no URL. A URL with TLS is accepted here, since other tools may use it.
    pub fn new(url: &str) -> Result<Self, ImageError> {
        match url.parse::<BaseUrl>() {
            Ok(_) | Err(UrlError::Https(_)) => {}
            Err(error) => return Err(ImageError::InvalidSource(error.to_string())),
        }
        Ok(Self { url: url.trim().trim_end_matches('/').to_owned(), kind: imgapi(), insecure: false })
    }

    fn default_source() -> Self {
        Self { url: DEFAULT_SOURCE.to_owned(), kind: imgapi(), insecure: false }
    }
}

/// The configuration file. Keys of other tools are kept.
pub(crate) struct Configuration {
    path: PathBuf,
    lock: PathBuf,
}

impl Configuration {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { path: layout.imgadm().join("imgadm.conf"), lock: layout.locks().join("imgadm.conf.lock") }
    }

    fn document(&self) -> Result<JsonMap, ImageError> {
        Ok(read_json(&self.path)?.unwrap_or_default())
    }

    /// The sources in their order; the default one when none was ever configured. Entries that are no sources are left out.
    pub(crate) fn sources(&self) -> Result<Vec<Source>, ImageError> {
        Ok(sources_of(&self.document()?))
    }

    /// Adds a source at the end. False when a source with this URL is there already.
    pub(crate) fn add(&self, source: Source) -> Result<bool, ImageError> {
        self.change(|sources| {
            let new = !sources.iter().any(|known| known.url == source.url);
            if new {
                sources.push(source);
            }
            new
        })
    }

    /// Removes a source. False when there is none with this URL.
    pub(crate) fn remove(&self, url: &str) -> Result<bool, ImageError> {
        let url = url.trim().trim_end_matches('/');
        self.change(|sources| {
            let before = sources.len();
            sources.retain(|known| known.url != url);
            sources.len() != before
        })
    }

    /// Replaces all sources.
    pub(crate) fn replace(&self, new: Vec<Source>) -> Result<bool, ImageError> {
        self.change(|sources| {
            let different = *sources != new;
            *sources = new;
            different
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Source>) -> bool) -> Result<bool, ImageError> {
        let _lock = Lock::take(&self.lock, "sources", Duration::from_secs(10)).map_err(|error| match error {
            triton_files::LockError::File(error) => ImageError::File(error),
            held @ triton_files::LockError::Held { .. } => ImageError::System("change the image sources", std::io::Error::other(held)),
        })?;
        let mut document = self.document()?;
        let mut sources = sources_of(&document);
        if !change(&mut sources) {
            return Ok(false);
        }
        document.entry("upgradedToVer").or_insert_with(|| "3.0.0".into());
        document.insert("sources".into(), serde_json::to_value(&sources).unwrap_or_default());
        write_json(&self.path, &document, 0o644)?;
        Ok(true)
    }
}

fn sources_of(document: &JsonMap) -> Vec<Source> {
    match document.get("sources") {
        Some(Value::Array(entries)) => entries
            .iter()
            .filter_map(|entry| serde_json::from_value::<Source>(entry.clone()).ok())
            .map(|source| Source { url: source.url.trim_end_matches('/').to_owned(), ..source })
            .collect(),
        _ => vec![Source::default_source()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_kept_in_order_beside_keys_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        layout.prepare().unwrap();
        let configuration = Configuration::new(&layout);
        let urls = || configuration.sources().unwrap().into_iter().map(|source| source.url).collect::<Vec<_>>();
        assert_eq!(urls(), [DEFAULT_SOURCE]);
        std::fs::write(layout.root().join("var/imgadm/imgadm.conf"), r#"{"userAgentExtra": "x"}"#).unwrap();
        assert!(configuration.add(Source::new("http://imgapi.dc.example.com/").unwrap()).unwrap());
        assert!(!configuration.add(Source::new("http://imgapi.dc.example.com").unwrap()).unwrap());
        assert_eq!(urls(), [DEFAULT_SOURCE, "http://imgapi.dc.example.com"]);
        assert!(configuration.remove(DEFAULT_SOURCE).unwrap() && !configuration.remove(DEFAULT_SOURCE).unwrap());
        assert!(configuration.remove("http://imgapi.dc.example.com").unwrap());
        assert!(urls().is_empty(), "none is not the default");
        let text = std::fs::read_to_string(layout.root().join("var/imgadm/imgadm.conf")).unwrap();
        assert!(text.contains("userAgentExtra"), "{text}");
        assert_eq!(Source::new("gopher://x").unwrap_err().exit_code(), 2);
    }
}
