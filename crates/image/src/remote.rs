//! Asking the sources without importing: `imgadm show`, `avail` and the check of a source.

use std::time::Duration;

use serde_json::Value;
use triton_headnode::{HttpClient, HttpOptions};
use triton_types::{ImageUuid, JsonMap};

use crate::{ImageError, Source, SourceProblem, import::Sources};

/// Some image sources, asked one after the other. Blocking.
pub struct Remote {
    runtime: Option<tokio::runtime::Runtime>,
    sources: Sources,
}

/// An image that a source offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// Its manifest, unchecked.
    pub manifest: JsonMap,
    /// URL of the source.
    pub source: String,
}

/// A source's answer to a ping.
#[derive(Debug)]
pub struct Ping {
    /// URL of the source.
    pub source: String,
    /// Why it did not answer, if it did not.
    pub problem: Option<SourceProblem>,
}

impl Remote {
    /// Clients of `sources`; nothing is connected yet.
    ///
    /// # Errors
    /// [`ImageError::NoSources`] for none.
    pub fn open(sources: &[Source], http: &HttpOptions) -> Result<Self, ImageError> {
        if sources.is_empty() {
            return Err(ImageError::NoSources);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ImageError::System("start a client for image sources", error))?;
        let sources = {
            let _context = runtime.enter();
            Sources::new(sources, &HttpClient::new(http.clone()), None)
        };
        Ok(Self { runtime: Some(runtime), sources })
    }

    /// Runs one request after the other, each within its own deadline.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, ImageError> {
        let gone = || ImageError::System("use the client", std::io::ErrorKind::NotConnected.into());
        Ok(self.runtime.as_ref().ok_or_else(gone)?.block_on(work))
    }

    /// Each source's answer to a ping, in their order.
    ///
    /// # Errors
    /// Never for a source that does not answer.
    pub fn ping(&self) -> Result<Vec<Ping>, ImageError> {
        self.wait(async {
            let mut answers = Vec::new();
            for (url, api) in self.sources.each() {
                let answer = match api {
                    Ok(api) => api.ping().await,
                    Err(error) => Err(error),
                };
                let problem = answer.err().map(|error| SourceProblem { url: url.to_owned(), error });
                answers.push(Ping { source: url.to_owned(), problem });
            }
            answers
        })
    }

    /// The manifest from the first source that has the image, in any state.
    ///
    /// # Errors
    /// [`ImageError::ImageNotFound`], or what the sources said.
    pub fn show(&self, uuid: ImageUuid) -> Result<Offered, ImageError> {
        let found = self.wait(self.sources.find(uuid, false))??;
        Ok(Offered { manifest: found.raw, source: found.source.url().to_string() })
    }

    /// Publishes an image to the only source: its manifest, and the file that it describes.
    ///
    /// # Errors
    /// What the source said, or why the file cannot be read; what was begun there is deleted again.
    pub fn publish(&self, manifest: &JsonMap, file: &std::path::Path) -> Result<Value, ImageError> {
        let parsed = triton_types::ImageManifest::from_value(&manifest.clone().into()).map_err(ImageError::Manifest)?;
        let [described] = parsed.files.as_slice() else {
            return Err(ImageError::manifest("files", "one file is needed"));
        };
        if let Some(wrong) =
            crate::download::check(file, described, &mut |_| true).map_err(|error| ImageError::System("read the image's file", error))?
        {
            return Err(ImageError::Download { uuid: parsed.uuid, file: 0, source: Box::new(wrong) });
        }
        let open = std::fs::File::open(file).map_err(|error| ImageError::System("open the image's file", error))?;
        let mut bare = manifest.clone();
        bare.remove("files");
        let compression = described.compression.as_deref().unwrap_or("none");
        let source = self.sources.each().next().ok_or(ImageError::NoSources)?;
        let fail = |error| ImageError::Sources(vec![SourceProblem { url: source.0.to_owned(), error }]);
        let api = source.1.map_err(fail)?;
        self.wait(api.publish(&bare.into(), compression, &described.sha1, open, described.size))?.map_err(fail)
    }

    /// What all sources offer with these query parameters, each image once (from the first source that has it), and the
    /// sources that could not be asked.
    ///
    /// # Errors
    /// When the client cannot be used at all.
    pub fn list(&self, query: &[(&str, &str)]) -> Result<(Vec<Offered>, Vec<SourceProblem>), ImageError> {
        self.wait(async {
            let (mut offered, mut problems) = (Vec::new(), Vec::new());
            let mut seen = std::collections::BTreeSet::new();
            for (url, api) in self.sources.each() {
                let answer = match api {
                    Ok(api) => api.list_images(query).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(images) => offered.extend(images.into_iter().filter_map(|image| match image {
                        Value::Object(manifest) if seen.insert(manifest.get("uuid").map(ToString::to_string)) => {
                            Some(Offered { manifest, source: url.to_owned() })
                        }
                        _ => None,
                    })),
                    Err(error) => problems.push(SourceProblem { url: url.to_owned(), error }),
                }
            }
            (offered, problems)
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Without waiting for a name service that does not answer.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The client of a person at a terminal: a server gets 30 s for a reply.
pub(crate) fn http_options() -> HttpOptions {
    HttpOptions { request_timeout: Duration::from_secs(30), ..HttpOptions::new(concat!("imgadm/", env!("CARGO_PKG_VERSION"), " (linux)")) }
}
