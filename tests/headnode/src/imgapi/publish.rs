//! Publishing: `CreateImage` by import, `AddImageFile`, `ActivateImage`, `DeleteImage`.

use std::{fs, io::Write, path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use super::manifest;
use crate::{
    call::{Call, path_uuid},
    error::ApiError,
    shared::Shared,
};

fn path(shared: &Shared, image: &str, suffix: &str) -> PathBuf {
    shared.images.join(format!("{image}.{suffix}"))
}

fn save(shared: &Shared, image: &str, manifest: &Value) -> Result<(), ApiError> {
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| ApiError::internal(error.to_string()))?;
    fs::write(path(shared, image, "imgmanifest"), text).map_err(|error| ApiError::internal(error.to_string()))
}

pub(super) async fn post(State(shared): State<Arc<Shared>>, Path(image): Path<String>, call: Call) -> Result<Json<Value>, ApiError> {
    path_uuid(&image, "image")?;
    match call.text("action") {
        Some("import") => import(&shared, &image, &call.body),
        Some("activate") => activate(&shared, &image),
        other => Err(ApiError::invalid_argument(format!("invalid \"action\": {other:?}"))),
    }
}

fn import(shared: &Shared, image: &str, body: &Value) -> Result<Json<Value>, ApiError> {
    let mut made: Map<String, Value> = body.as_object().cloned().unwrap_or_default();
    if made.get("uuid").and_then(Value::as_str) != Some(image) {
        return Err(ApiError::invalid_argument("invalid \"uuid\": the manifest is of another image"));
    }
    for field in ["v", "owner", "name", "version", "type", "os"] {
        if made.get(field).is_none_or(Value::is_null) {
            return Err(ApiError::validation(field, "is missing"));
        }
    }
    if made.contains_key("files") {
        return Err(ApiError::validation("files", "files are added, not given"));
    }
    if manifest(&shared.images, image).is_ok() {
        return Err(ApiError::invalid_argument(format!("an image with uuid {image} exists already")));
    }
    made.insert("state".to_owned(), json!("unactivated"));
    let made = Value::Object(made);
    save(shared, image, &made)?;
    Ok(Json(made))
}

fn activate(shared: &Shared, image: &str) -> Result<Json<Value>, ApiError> {
    let mut made = manifest(&shared.images, image)?;
    if made["files"].as_array().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid_argument(format!("image {image} has no file")));
    }
    made["state"] = json!("active");
    save(shared, image, &made)?;
    Ok(Json(made))
}

/// Parameters of a file.
#[derive(serde::Deserialize)]
pub(super) struct FileParams {
    compression: Option<String>,
    sha1: Option<String>,
}

pub(super) async fn put_file(
    State(shared): State<Arc<Shared>>,
    Path(image): Path<String>,
    Query(params): Query<FileParams>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Json<Value>, ApiError> {
    let mut made = manifest(&shared.images, &image)?;
    if made["state"] != "unactivated" {
        return Err(ApiError::invalid_argument(format!("image {image} is active")));
    }
    let compression = params.compression.unwrap_or_default();
    if !["none", "gzip", "bzip2", "xz"].contains(&compression.as_str()) {
        return Err(ApiError::invalid_argument(format!("invalid \"compression\": {compression:?}")));
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/octet-stream") {
        return Err(ApiError::invalid_argument("the content-type must be application/octet-stream"));
    }
    let failed = |error: std::io::Error| ApiError::internal(error.to_string());
    let (place, mut sha1, mut size) = (path(&shared, &image, "file"), Sha1::new(), 0_u64);
    let mut file = fs::File::create(&place).map_err(failed)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid_content("the body ended early"))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).map_err(failed)?;
            sha1.update(&data);
            size += data.len() as u64;
        }
    }
    let sha1: String = sha1.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if params.sha1.is_some_and(|wanted| wanted != sha1) {
        let _ = fs::remove_file(&place);
        return Err(ApiError::invalid_argument("the sha1 of the file is another"));
    }
    made["files"] = json!([{"sha1": sha1, "size": size, "compression": compression}]);
    save(&shared, &image, &made)?;
    Ok(Json(made))
}

pub(super) async fn delete(State(shared): State<Arc<Shared>>, Path(image): Path<String>) -> Result<StatusCode, ApiError> {
    manifest(&shared.images, &image)?;
    for suffix in ["file", "file0", "file1", "imgmanifest"] {
        let _ = fs::remove_file(path(&shared, &image, suffix));
    }
    Ok(StatusCode::NO_CONTENT)
}
