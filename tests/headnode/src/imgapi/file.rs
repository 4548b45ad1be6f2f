//! Files of images.

use std::{io, path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::{agent::base64, call::Call, error::ApiError, shared::Shared};

pub(super) async fn get(State(shared): State<Arc<Shared>>, Path(image): Path<String>, call: Call) -> Result<Response, ApiError> {
    let manifest = super::manifest(&shared.images, &image)?;
    let missing = || ApiError::not_found(format!("image {image} has no such file"));
    let index = match call.params.get("index") {
        None => 0,
        Some(_) => call.number("index").filter(|index| *index < 2).ok_or_else(missing)?,
    };
    let path = path_of(&shared, &image, index).ok_or_else(missing)?;
    let failed = |error: io::Error| ApiError::internal(format!("{}: {error}", path.display()));
    let hashed = path.clone();
    let digest =
        tokio::task::spawn_blocking(move || md5_of(&hashed)).await.map_err(|e| ApiError::internal(e.to_string()))?.map_err(failed)?;
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();

    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&base64(&digest)) {
        headers.insert("content-md5", value);
    }
    let sha1 = manifest["files"].get(usize::try_from(index).unwrap_or(0)).and_then(|file| file["sha1"].as_str());
    if let Some(value) = sha1.and_then(|sha1| HeaderValue::from_str(sha1).ok()) {
        headers.insert(header::ETAG, value);
    }
    let start = if shared.features.range { range_start(&call.headers, size) } else { Ok(None) };
    let (status, start) = match start {
        Ok(None) => (StatusCode::OK, 0),
        Ok(Some(start)) => {
            let value = format!("bytes {start}-{}/{size}", size.saturating_sub(1));
            headers.extend(HeaderValue::from_str(&value).ok().map(|value| (header::CONTENT_RANGE, value)));
            (StatusCode::PARTIAL_CONTENT, start)
        }
        Err(()) => return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response()),
    };
    file.seek(io::SeekFrom::Start(start)).await.map_err(failed)?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size - start));
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(size - start), 64 << 10));
    Ok((status, headers, body).into_response())
}

fn path_of(shared: &Shared, image: &str, index: u64) -> Option<PathBuf> {
    let names: &[String] =
        &if index == 0 { vec![format!("{image}.file"), format!("{image}.file0")] } else { vec![format!("{image}.file{index}")] };
    names.iter().map(|name| shared.images.join(name)).find(|path| path.is_file())
}

fn md5_of(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut digest = Md5::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(digest.finalize().to_vec()),
            length => digest.update(&buffer[..length]),
        }
    }
}

/// Only `bytes=N-`, which is what a download that goes on asks for; other forms are answered with the whole.
fn range_start(headers: &HeaderMap, size: u64) -> Result<Option<u64>, ()> {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let start = text.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).and_then(|start| start.parse::<u64>().ok());
    match start {
        Some(start) if start < size => Ok(Some(start)),
        Some(_) => Err(()),
        None => Ok(None),
    }
}
