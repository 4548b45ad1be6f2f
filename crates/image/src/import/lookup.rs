//! Asking the sources, in their order, for manifests.

use triton_headnode::{BaseUrl, HttpClient, HttpError, HttpFailure, ImgApi};
use triton_types::{ImageManifest, ImageState, ImageUuid, JsonMap};

use crate::{ImageError, Source, SourceProblem};

/// A manifest, and the source that has it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: ImageManifest,
    /// As the source sent it.
    pub(crate) raw: JsonMap,
    pub(crate) source: ImgApi,
}

/// The sources of one operation.
pub(crate) struct Sources {
    usable: Vec<(String, Result<ImgApi, triton_headnode::UrlError>)>,
}

impl Sources {
    pub(crate) fn new(sources: &[Source], client: &HttpClient, request_id: Option<&str>) -> Self {
        let one = |source: &Source| {
            let base = source.url.parse::<BaseUrl>();
            let api = |base| ImgApi::new(client.clone(), base).with_request_id(request_id.map(str::to_owned));
            (source.url.clone(), base.map(api))
        };
        Self { usable: sources.iter().map(one).collect() }
    }

    /// The sources with their URLs; those whose URL cannot be used as an error.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, Result<&ImgApi, HttpError>)> {
        self.usable.iter().map(|(url, api)| {
            let broken = |error: &triton_headnode::UrlError| HttpError {
                method: http::Method::GET,
                url: url.clone(),
                source: Box::new(HttpFailure::Url(error.clone())),
            };
            (url.as_str(), api.as_ref().map_err(broken))
        })
    }

    /// The image from the first source that has it, active if `active` says so. A source that fails is passed over; the
    /// failures are the error only when no other source has the image.
    pub(crate) async fn find(&self, uuid: ImageUuid, active: bool) -> Result<Found, ImageError> {
        let mut problems = Vec::new();
        for (url, source) in self.each() {
            let answer = match source {
                Ok(source) => source.get_image(uuid).await.map(|raw| raw.map(|raw| (raw, source))),
                Err(error) => Err(error),
            };
            match answer {
                Ok(Some((raw, source))) => {
                    let manifest = ImageManifest::from_value(&raw).map_err(ImageError::Manifest)?;
                    if manifest.uuid != uuid {
                        return Err(ImageError::manifest("uuid", format!("{url} answered with image {}", manifest.uuid)));
                    }
                    if active && manifest.state.as_ref().is_some_and(|state| *state != ImageState::Active) {
                        continue;
                    }
                    let raw = raw.as_object().cloned().unwrap_or_default();
                    return Ok(Found { manifest, raw, source: source.clone() });
                }
                Ok(None) => {}
                Err(error) => problems.push(SourceProblem { url: url.to_owned(), error }),
            }
        }
        Err(match (problems.is_empty(), active) {
            (false, _) => ImageError::Sources(problems),
            (true, true) => ImageError::ActiveImageNotFound(uuid),
            (true, false) => ImageError::ImageNotFound(uuid),
        })
    }
}
