//! IMGAPI: a directory of `<uuid>.imgmanifest` and `<uuid>.file`, `.file0`, `.file1` (instances.md section 8.3).
//!
//! Files are read at each request, so that a test may put images there, or spoil them, at any time.

mod file;
mod publish;

use std::{path::Path as FsPath, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(async || Json(json!({"ping": "pong", "imgapi": true, "version": "4.15.1"}))))
        .route("/images", get(list))
        .route("/images/{uuid}", get(show).post(publish::post).delete(publish::delete))
        .route("/images/{uuid}/file", get(file::get).put(publish::put_file).layer(DefaultBodyLimit::disable()))
        .with_state(shared)
}

/// The manifest of an image in `directory`.
pub(crate) fn manifest(directory: &FsPath, image: &str) -> Result<Value, ApiError> {
    let missing = || ApiError::not_found(format!("image {image:?} not found"));
    let id = uuid(image).ok_or_else(missing)?;
    let text = std::fs::read(directory.join(format!("{id}.imgmanifest"))).map_err(|_| missing())?;
    serde_json::from_slice(&text).map_err(|error| ApiError::internal(format!("manifest of {id}: {error}")))
}

async fn show(State(shared): State<Arc<Shared>>, Path(image): Path<String>) -> Result<Json<Value>, ApiError> {
    manifest(&shared.images, &image).map(Json)
}

/// Most images in one answer, also without `limit`.
const PAGE: u64 = 1000;

async fn list(State(shared): State<Arc<Shared>>, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let limit = match call.params.get("limit") {
        None => PAGE,
        Some(_) => call
            .number("limit")
            .filter(|limit| (1..=PAGE).contains(limit))
            .ok_or_else(|| ApiError::invalid_argument(format!("invalid \"limit\": not a number from 1 to {PAGE}")))?,
    };
    let mut images = Vec::new();
    for entry in std::fs::read_dir(&shared.images).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".imgmanifest")) else { continue };
        if let Ok(image) = manifest(&shared.images, id) {
            images.push(image);
        }
    }
    let sorted_by = |image: &Value| {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        (text("published_at"), text("uuid"))
    };
    images.sort_by_key(sorted_by);
    let state = call.text("state").unwrap_or("active");
    images.retain(|image| {
        let state_matches = state == "all" || image["state"].as_str().unwrap_or("active") == state;
        let same = |key: &str| call.text(key).is_none_or(|wanted| matches(image[key].as_str().unwrap_or_default(), wanted));
        state_matches && ["name", "version", "type", "os", "owner", "uuid"].into_iter().all(same)
    });
    if let Some(marker) = call.text("marker") {
        // The image itself, or a time of publication: what comes after it.
        let place = images.iter().position(|image| image["uuid"] == marker);
        match place {
            Some(place) => drop(images.drain(..=place)),
            None => images.retain(|image| image["published_at"].as_str().unwrap_or_default() > marker),
        }
    }
    images.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(images))
}

/// `~text` means "contains".
fn matches(value: &str, wanted: &str) -> bool {
    wanted.strip_prefix('~').map_or(value == wanted, |part| value.contains(part))
}
