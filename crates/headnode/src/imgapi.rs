//! IMGAPI, or any server of its protocol (instances.md section 8.3).

use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::Value;
use triton_types::ImageUuid;

use crate::{BaseUrl, Call, HttpClient, HttpError, HttpFailure, Stream};

/// Images asked for per page; IMGAPI's maximum.
const PAGE: usize = 1000;
/// Most pages that are read of one list.
const MAX_PAGES: usize = 100;

/// One source of images.
#[derive(Clone, Debug)]
pub struct ImgApi {
    client: HttpClient,
    base: BaseUrl,
    request_id: Option<String>,
}

impl ImgApi {
    /// The source at `base`.
    pub fn new(client: HttpClient, base: BaseUrl) -> Self {
        Self { client, base, request_id: None }
    }

    /// Sends `id` as `x-request-id` with every request.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    /// The source's URL.
    pub fn url(&self) -> &BaseUrl {
        &self.base
    }

    fn call(&self, path: String) -> Call<'static> {
        Call { request_id: self.request_id.clone(), ..Call::new(Method::GET, path) }
    }

    async fn get(&self, call: Call<'_>) -> Result<Value, HttpError> {
        let url = format!("{}{}", self.base, call.path);
        self.client.call(&self.base, call).await?.json(&Method::GET, &url)
    }

    fn unexpected(&self, path: &str, what: &str) -> HttpError {
        HttpError { method: Method::GET, url: format!("{}{path}", self.base), source: Box::new(HttpFailure::Unexpected(what.to_owned())) }
    }

    /// Checks that an image server answers.
    ///
    /// # Errors
    /// Also when something else answers (no `"imgapi": true`).
    pub async fn ping(&self) -> Result<(), HttpError> {
        let value = self.get(self.call("/ping".to_owned())).await?;
        match value["imgapi"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(self.unexpected("/ping", "this is not an image server: \"imgapi\" is not true")),
        }
    }

    /// The manifest of an image, unchecked; `None` when the source does not have it.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub async fn get_image(&self, uuid: ImageUuid) -> Result<Option<Value>, HttpError> {
        match self.get(self.call(format!("/images/{uuid}"))).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All manifests that match `filters` (`type`, `os`, `state`, …), unchecked, page by page.
    ///
    /// # Errors
    /// When the source cannot be asked, or never ends its list.
    pub async fn list_images(&self, filters: &[(&str, &str)]) -> Result<Vec<Value>, HttpError> {
        let mut images: Vec<Value> = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut call = self.call("/images".to_owned());
            call.query = filters.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            call.query.push(("limit", PAGE.to_string()));
            call.query.extend(marker.take().map(|marker| ("marker", marker)));
            let Value::Array(page) = self.get(call).await? else {
                return Err(self.unexpected("/images", "not an array"));
            };
            let last = page.last().and_then(|image| image["uuid"].as_str()).map(str::to_owned);
            // A server without paging sends the same page again.
            let repeated = last.is_some() && last.as_deref() == images.last().and_then(|image| image["uuid"].as_str());
            let full = page.len() >= PAGE;
            if !repeated {
                images.extend(page);
            }
            if !full || repeated || last.is_none() {
                return Ok(images);
            }
            marker = last;
        }
        Err(self.unexpected("/images", "the list does not end"))
    }

    /// Opens file `index` of an image from byte `offset` on. A source that cannot resume sends the whole file:
    /// [`Download::offset`] is then 0.
    ///
    /// # Errors
    /// 404 when the image has no such file.
    pub async fn download(&self, uuid: ImageUuid, index: usize, offset: u64) -> Result<Download, HttpError> {
        let request = |offset: u64| {
            let mut call = self.call(format!("/images/{uuid}/file"));
            if index > 0 {
                call.query.push(("index", index.to_string()));
            }
            call.offset = offset;
            self.client.stream(&self.base, call)
        };
        let stream = match request(offset).await {
            Err(error) if offset > 0 && error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => request(0).await?,
            other => other?,
        };
        let begins = match stream.status {
            StatusCode::PARTIAL_CONTENT => {
                let range = stream.headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match range.and_then(first_byte) {
                    Some(begins) if begins == offset => begins,
                    _ => return Err(stream.error(HttpFailure::Unexpected(format!("asked for bytes from {offset}, got {range:?}")))),
                }
            }
            _ => 0,
        };
        let length = stream.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Download { offset: begins, length, stream })
    }
}

/// Bytes of a file that are read ahead of the network, in pieces of [`PIECE`].
const AHEAD: usize = 8;
const PIECE: usize = 256 << 10;

impl ImgApi {
    /// Publishes an image under its own uuid: its manifest (without `files`), its file, then its activation. What was begun is
    /// deleted when a later step fails, so that it can be tried again.
    ///
    /// # Errors
    /// What the server said, or why the file could not be read.
    pub async fn publish(
        &self,
        manifest: &Value,
        compression: &str,
        sha1: &str,
        file: std::fs::File,
        length: u64,
    ) -> Result<Value, HttpError> {
        let uuid = manifest["uuid"].as_str().unwrap_or_default().to_owned();
        let post = |action: &str, body: Option<Bytes>| {
            let mut call = Call { method: Method::POST, body, ..self.call(format!("/images/{uuid}")) };
            call.query.push(("action", action.to_owned()));
            call
        };
        self.client.call(&self.base, post("import", Some(manifest.to_string().into()))).await?;
        let mut put = Call { method: Method::PUT, ..self.call(format!("/images/{uuid}/file")) };
        put.query = vec![("compression", compression.to_owned()), ("sha1", sha1.to_owned())];
        let active = async {
            self.client.upload(&self.base, put, length, self.body(file)).await?;
            let url = format!("{}/images/{uuid}", self.base);
            self.client.call(&self.base, post("activate", None)).await?.json(&Method::POST, &url)
        };
        match active.await {
            Ok(active) => Ok(active),
            Err(error) => {
                let delete = Call { method: Method::DELETE, ..self.call(format!("/images/{uuid}")) };
                let _ = self.client.call(&self.base, delete).await;
                Err(error)
            }
        }
    }

    /// A file as a body. It ends with an error when nothing of it was taken for as long as a stream may be silent.
    fn body(&self, mut file: std::fs::File) -> crate::client::Body {
        use std::io::Read;
        let stall = self.client.options().stall_timeout;
        let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<hyper::body::Frame<Bytes>>>(AHEAD);
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            loop {
                let mut piece = vec![0; PIECE];
                let next = match file.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => {
                        piece.truncate(count);
                        Ok(hyper::body::Frame::data(Bytes::from(piece)))
                    }
                    Err(error) => Err(error),
                };
                let last = next.is_err();
                let sent = runtime.block_on(tokio::time::timeout(stall, sender.send(next)));
                if last || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|piece| (piece, receiver)));
        http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(stream))
    }
}

/// The first byte of `bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    /// First byte that comes.
    pub offset: u64,
    /// Bytes that come, if the source says so.
    pub length: Option<u64>,
    stream: Stream,
}

impl Download {
    /// The next piece; `None` at the end. Whether all came is for the caller to check: size and SHA-1.
    ///
    /// # Errors
    /// When the connection breaks off or is silent for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.stream.chunk().await
    }
}
