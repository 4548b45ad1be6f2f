//! Fetching the image of an agent from IMGAPI, into a file that is what its manifest says (cn-agent.md section 3.11).

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use sha1::{Digest, Sha1};
use triton_headnode::{BaseUrl, HttpClient, HttpOptions, ImgApi};
use triton_types::ImageUuid;

use crate::{TaskContext, TaskError};

/// How often and after which pause a download that failed is tried again.
const TRIES: u32 = 6;
/// Largest file of an agent.
const LARGEST: u64 = 2 << 30;

/// A file of an agent's image, removed when dropped.
#[derive(Debug)]
pub(super) struct AgentFile {
    /// Where it is.
    pub path: PathBuf,
    /// Name of the agent.
    pub name: String,
}

impl Drop for AgentFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What the manifest says of the file.
struct Expected {
    name: String,
    size: u64,
    sha1: String,
    compression: String,
}

fn expected(manifest: &Value) -> Result<Expected, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let file = &manifest["files"][0];
    let name = text(&manifest["name"]).filter(|name| !name.is_empty()).ok_or("the image's manifest has no name")?;
    let size = file["size"].as_u64().ok_or("the image's manifest gives no size of its file")?;
    if size > LARGEST {
        return Err(format!("the image's file has {size} bytes: no agent is larger than {LARGEST}"));
    }
    let sha1 = text(&file["sha1"]).ok_or("the image's manifest gives no sha1 of its file")?.to_ascii_lowercase();
    Ok(Expected { name, size, sha1, compression: text(&file["compression"]).unwrap_or_default() })
}

/// Why an attempt did not succeed.
enum Failure {
    /// The next one may.
    Passing(String),
    /// No other one will.
    Final(String),
}

/// Fetches the file of `image` into `directory`, named by how it is packed.
///
/// # Errors
/// `Unexpected file size (<expected> vs <actual>)`, a wrong SHA-1, or what IMGAPI said.
pub(super) async fn fetch(
    imgapi: &BaseUrl,
    image: ImageUuid,
    directory: &Path,
    pause: Duration,
    context: &TaskContext,
) -> Result<AgentFile, TaskError> {
    let http =
        HttpOptions { request_timeout: Duration::from_secs(30), ..HttpOptions::new(format!("cn-agent/{}", crate::ANNOUNCED_VERSION)) };
    let client = ImgApi::new(HttpClient::new(http), imgapi.clone()).with_request_id(Some(context.request_id.clone()));
    let mut last = String::new();
    for attempt in 1..=TRIES {
        let result = tokio::select! {
            result = attempt_fetch(&client, image, directory) => result,
            () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
        };
        match result {
            Ok(file) => return Ok(file),
            Err(Failure::Final(message)) => return Err(TaskError::failed(message)),
            Err(Failure::Passing(message)) => last = message,
        }
        if attempt < TRIES {
            tracing::warn!(error = last, attempt, "the image of an agent could not be fetched yet");
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
                () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
            }
        }
    }
    Err(TaskError::failed(last))
}

async fn attempt_fetch(client: &ImgApi, image: ImageUuid, directory: &Path) -> Result<AgentFile, Failure> {
    let passing = |error: &dyn std::error::Error| Failure::Passing(triton_agent::chain(error).to_string());
    let manifest = client.get_image(image).await.map_err(|error| passing(&error))?;
    let manifest = manifest.ok_or_else(|| Failure::Final(format!("image {image} was not found at {}", client.url())))?;
    let expected = expected(&manifest).map_err(Failure::Final)?;
    let mut download = client.download(image, 0, 0).await.map_err(|error| passing(&error))?;
    let local = |error: std::io::Error| Failure::Final(format!("could not write the image's file in {}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(local)?;
    let partial = AgentFile { path: directory.join(format!("{image}.file")), name: expected.name.clone() };
    // An earlier attempt may have left it; a link that somebody put there is not followed.
    let _ = fs::remove_file(&partial.path);
    let mut file = File::options().write(true).create_new(true).open(&partial.path).map_err(local)?;
    let (mut hash, mut size, mut head) = (Sha1::new(), 0_u64, Vec::new());
    while let Some(piece) = download.chunk().await.map_err(|error| passing(&error))? {
        size += piece.len() as u64;
        if size > expected.size {
            break;
        }
        if head.len() < 4 {
            head.extend_from_slice(&piece[..piece.len().min(4)]);
        }
        hash.update(&piece);
        file = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file))
            .await
            .map_err(|e| local(e.into()))?
            .map_err(local)?;
    }
    if size != expected.size {
        return Err(Failure::Passing(format!("Unexpected file size ({} vs {size})", expected.size)));
    }
    let sha1: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if sha1 != expected.sha1 {
        return Err(Failure::Passing(format!("Unexpected file sha1 ({} vs {sha1})", expected.sha1)));
    }
    let ending = match (expected.compression.as_str(), head.as_slice()) {
        (_, [0x1f, 0x8b, ..]) => "tar.gz",
        (_, [b'B', b'Z', b'h', ..]) => "tar.bz2",
        (named, _) => {
            return Err(Failure::Final(format!("the image's file is packed with neither gzip nor bzip2 (its manifest says {named:?})")));
        }
    };
    let path = directory.join(format!("{image}.{ending}"));
    fs::rename(&partial.path, &path).map_err(local)?;
    let complete = AgentFile { path, name: expected.name };
    drop(partial);
    Ok(complete)
}
