//! A node below a temporary root, and an image server that can be told to misbehave.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::HashMap,
    convert::Infallible,
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use triton_files::Layout;
use triton_storage::Storage;
use triton_types::{ImageUuid, StorageKind};

/// What the server does wrong when it sends a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Other bytes of the same number.
    OtherBytes,
    /// The connection ends after so many bytes of the response.
    CutAfter(usize),
    /// As `CutAfter`, for the first request only.
    CutOnceAfter(usize),
    /// It announces and sends one byte more.
    Longer,
    /// Silence after so many bytes.
    StallAfter(usize),
    /// An error instead.
    Status(u16),
    /// It ignores `Range`.
    NoRange,
}

#[derive(Default)]
pub struct Shelf {
    pub images: HashMap<String, (Value, Vec<Vec<u8>>)>,
    /// Paths with query of all requests, with ` from N` for a range.
    pub requests: Vec<String>,
    pub fault: Option<Fault>,
    /// Answers to requests for manifests instead of them.
    pub manifest_status: Option<u16>,
}

type Shared = Arc<Mutex<Shelf>>;

/// An image server on the loopback, with a thread of its own. Ends when it is dropped.
pub struct Imgapi {
    pub url: String,
    pub shelf: Shared,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Imgapi {
    pub fn start() -> Self {
        let shelf = Shared::default();
        let router = Router::new()
            .route("/ping", get(|| async { Json(json!({"ping": "pong", "imgapi": true})) }))
            .route("/images", get(images))
            .route("/images/{uuid}", get(manifest))
            .route("/images/{uuid}/file", get(file))
            .with_state(shelf.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let limits =
                    triton_agent::http::ServerLimits { drain: std::time::Duration::ZERO, ..triton_agent::http::ServerLimits::default() };
                triton_agent::http::serve(listener, router, limits, async { drop(stopped.await) }).await;
            });
        });
        Self { url, shelf, stop: Some(stop), thread: Some(thread) }
    }

    /// Puts an image on the shelf: `files` with their compression.
    pub fn add(&self, uuid: ImageUuid, kind: &str, extra: &Value, files: Vec<(&str, Vec<u8>)>) -> Value {
        let manifest = manifest_of(uuid, kind, extra, &files);
        let files = files.into_iter().map(|(_, bytes)| bytes).collect();
        self.shelf.lock().unwrap().images.insert(uuid.to_string(), (manifest.clone(), files));
        manifest
    }

    pub fn fault(&self, fault: impl Into<Option<Fault>>) {
        self.shelf.lock().unwrap().fault = fault.into();
    }

    /// Requests for files since the last call.
    pub fn file_requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.shelf.lock().unwrap().requests);
        requests.into_iter().filter(|request| request.contains("/file")).collect()
    }
}

impl Drop for Imgapi {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn images(State(shelf): State<Shared>) -> Response {
    let shelf = shelf.lock().unwrap();
    Json(shelf.images.values().map(|(manifest, _)| manifest.clone()).collect::<Vec<_>>()).into_response()
}

fn refusal(status: u16, code: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({"code": code, "message": "as told"}))).into_response()
}

async fn manifest(State(shelf): State<Shared>, Path(uuid): Path<String>) -> Response {
    let mut shelf = shelf.lock().unwrap();
    shelf.requests.push(format!("/images/{uuid}"));
    if let Some(status) = shelf.manifest_status {
        return refusal(status, "InternalError");
    }
    match shelf.images.get(&uuid) {
        Some((manifest, _)) => Json(manifest.clone()).into_response(),
        None => refusal(404, "ResourceNotFound"),
    }
}

async fn file(
    State(shelf): State<Shared>,
    Path(uuid): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let range = headers.get("range").and_then(|range| range.to_str().unwrap().strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let index: usize = query.get("index").map_or(0, |index| index.parse().unwrap());
    let from = range.map_or(String::new(), |from: usize| format!(" from {from}"));
    shelf.requests.push(format!("/images/{uuid}/file?{index}{from}"));
    let Some(mut bytes) = shelf.images.get(&uuid).and_then(|(_, files)| files.get(index).cloned()) else {
        return refusal(404, "ResourceNotFound");
    };
    let fault = shelf.fault;
    if matches!(fault, Some(Fault::CutOnceAfter(_))) {
        shelf.fault = None;
    }
    match fault {
        Some(Fault::Status(status)) => return refusal(status, "Told"),
        Some(Fault::OtherBytes) => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        Some(Fault::Longer) => bytes.push(0),
        _ => {}
    }
    let begin = range.filter(|&begin| begin < bytes.len() && fault != Some(Fault::NoRange)).unwrap_or(0);
    let total = bytes.len();
    let rest = bytes.split_off(begin);
    let mut response = Response::builder().header("content-length", rest.len());
    if begin > 0 {
        response = response.status(206).header("content-range", format!("bytes {begin}-{}/{total}", total - 1));
    }
    let body = match fault {
        Some(Fault::CutAfter(count) | Fault::CutOnceAfter(count)) => {
            let part = Bytes::copy_from_slice(&rest[..count.min(rest.len())]);
            let broken = futures_util::stream::iter([Ok(part), Err(std::io::Error::other("cut"))]);
            // The piece must be on the wire before the connection is cut.
            Body::from_stream(broken.then(|item| async {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                item
            }))
        }
        Some(Fault::StallAfter(count)) => {
            let part = Bytes::copy_from_slice(&rest[..count.min(rest.len())]);
            Body::from_stream(futures_util::stream::once(async { Ok::<_, Infallible>(part) }).chain(futures_util::stream::pending()))
        }
        _ => Body::from(rest),
    };
    response.body(body).unwrap()
}

pub fn manifest_of(uuid: ImageUuid, kind: &str, extra: &Value, files: &[(&str, Vec<u8>)]) -> Value {
    let describe = |(compression, bytes): &(&str, Vec<u8>)| {
        let sha1: String = Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"sha1": sha1, "size": bytes.len(), "compression": compression})
    };
    let mut manifest = json!({
        "v": 2, "uuid": uuid.to_string(), "owner": "00000000-0000-0000-0000-000000000000", "name": "alpine", "version": "3.12",
        "state": "active", "disabled": false, "public": true, "published_at": "2026-01-02T03:04:05.678Z", "type": kind, "os": "linux",
        "requirements": {"brand": "lx"}, "files": files.iter().map(describe).collect::<Vec<_>>()
    });
    for (key, value) in extra.as_object().cloned().unwrap_or_default() {
        manifest[key] = value;
    }
    manifest
}

/// A tar archive of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A combined LXD image whose file does not compress well.
pub fn combined(content: &str) -> Vec<u8> {
    let noise: Vec<u8> = (0..40_000u32).flat_map(|n| Sha1::digest(n.to_le_bytes()).into_iter().take(3)).collect();
    gzip(&tar(&[("metadata.yaml", b"architecture: x86_64\n"), ("rootfs/etc/issue", content.as_bytes()), ("rootfs/noise", &noise)]))
}

/// A node with storage in directories.
pub struct Node {
    pub directory: tempfile::TempDir,
    pub layout: Layout,
    pub storage: Arc<Storage>,
}

impl Node {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        layout.prepare().unwrap();
        let storage = Arc::new(Storage::choose(&layout, StorageKind::Dir, "zones").unwrap());
        Self { directory, layout, storage }
    }

    /// A file of an installed image.
    pub fn content(&self, image: ImageUuid, path: &str) -> String {
        std::fs::read_to_string(self.layout.at("/zones").join(image.to_string()).join("root").join(path)).unwrap()
    }

    pub fn has_record(&self, image: ImageUuid) -> bool {
        self.layout.imgadm().join(format!("images/zones-{image}.json")).exists()
    }

    /// Names in the directory of downloads.
    pub fn downloads(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.layout.downloads()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Asserts that nothing but downloads is left of a failed import.
    pub fn assert_nothing_of(&self, image: ImageUuid) {
        assert!(!self.storage.image_exists(image).unwrap(), "an image stayed");
        assert!(!self.storage.image_partial_exists(image).unwrap(), "a partial image stayed");
        assert!(!self.has_record(image), "a record stayed");
    }
}
