//! `imgadm create` and `imgadm publish`: images made from instances, and given to servers.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;
use triton_agent::chain;
use triton_files::{Layout, read_bounded};
use triton_image::{CancelToken, CreateOptions, ImportOptions, Remote, Source};
use triton_instance::{CreateImageError, Instances};
use triton_types::{InstanceUuid, JsonMap};

use super::{Failure, args, bar::Bar, local, output::say};

/// A manifest is refused above this size.
const MAX_MANIFEST: u64 = 1 << 20;

impl From<CreateImageError> for Failure {
    fn from(error: CreateImageError) -> Self {
        match error {
            CreateImageError::Image(error) => error.into(),
            other => Self::new(other.code(), chain(&other).to_string()),
        }
    }
}

pub(super) fn create(layout: &Layout, args: &args::Create) -> Result<(), Failure> {
    let uuid: InstanceUuid = args.uuid.parse().map_err(|_| Failure::new("InvalidUUID", format!("invalid uuid: {:?}", args.uuid)))?;
    if args.script.is_some() {
        return Err(Failure::usage("-s: scripts that prepare an instance need the metadata service; stop the instance and leave -s out"));
    }
    let target = args.publish.as_deref().map(server).transpose()?;
    let scratch = match (&args.publish, &args.output) {
        (Some(_), None) => Some(tempfile::tempdir_in(layout.at("/var/tmp")).or_else(|_| tempfile::tempdir())?),
        _ => None,
    };
    let output = match (&scratch, &args.output) {
        (Some(scratch), _) => scratch.path().to_owned(),
        (None, Some(path)) => path.clone(),
        (None, None) => PathBuf::from("."),
    };
    let options = CreateOptions {
        manifest: manifest(args)?,
        compression: args.compression,
        incremental: args.incremental,
        max_origin_depth: args.max_origin_depth,
        output,
    };
    let instances = Instances::open(layout).map_err(|error| Failure::new("InternalError", chain(&error).to_string()))?;
    let images = local::open(layout)?;
    let bar = Bar::new(args.quiet);
    let created = instances.create_image(uuid, &images, &options, &CancelToken::default(), &bar)?;
    drop(bar);
    if scratch.is_none() {
        say(&format!("Manifest: {}", created.manifest_file.display()))?;
        say(&format!("Image file: {}", created.file.display()))?;
    }
    say(&format!("Created image {} ({})", created.uuid, title(&created.manifest)))?;
    match target {
        Some(target) => send(&target, &created.manifest, &created.file),
        None => Ok(()),
    }
}

pub(super) fn publish(args: &args::Publish) -> Result<(), Failure> {
    let (Some(manifest), Some(file)) = (&args.manifest, &args.file) else {
        return Err(Failure::usage("a manifest and a file are needed"));
    };
    send(&server(&args.url)?, &read(manifest)?, file)
}

fn send(target: &Source, manifest: &JsonMap, file: &Path) -> Result<(), Failure> {
    let remote = Remote::open(std::slice::from_ref(target), &ImportOptions::default().http)?;
    remote.publish(manifest, file)?;
    let uuid = manifest.get("uuid").and_then(Value::as_str).unwrap_or_default();
    say(&format!("Published image {uuid} ({}) to {}", title(manifest), target.url))
}

fn server(url: &str) -> Result<Source, Failure> {
    Ok(Source::new(url)?)
}

fn title(manifest: &JsonMap) -> String {
    let text = |key: &str| manifest.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{}@{}", text("name"), text("version"))
}

/// The fields of the file, and over them those of the words.
fn manifest(args: &args::Create) -> Result<JsonMap, Failure> {
    let mut manifest = match args.manifest.as_deref() {
        None => JsonMap::new(),
        Some(path) => read(path)?,
    };
    for word in &args.fields {
        let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("{word:?} is not FIELD=VALUE")));
        };
        // A version such as 1.0 is text, whatever JSON makes of it.
        let text = matches!(key, "name" | "version" | "description" | "homepage" | "eula");
        let value = if text { None } else { serde_json::from_str(value).ok() }.unwrap_or_else(|| Value::from(value));
        manifest.insert(key.to_owned(), value);
    }
    Ok(manifest)
}

fn read(path: &Path) -> Result<JsonMap, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX_MANIFEST).read_to_end(&mut bytes)?;
        bytes
    } else {
        read_bounded(path, MAX_MANIFEST).map_err(|error| Failure::new("InternalError", chain(&error).to_string()))?
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new("ManifestValidation", format!("invalid manifest: {} is no JSON object: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::imgadm::args::{Imgadm, Verb};

    fn parsed(words: &[&str]) -> args::Create {
        let all = ["imgadm", "create", "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9001"].iter().chain(words);
        match Imgadm::try_parse_from(all).unwrap().verb {
            Some(Verb::Create(create)) => create,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_fields_and_versions_are_text() {
        let made = manifest(&parsed(&["name=web", "version=1.0", "tags={\"a\":1}", "public=true", "homepage=https://x/?a=b"])).unwrap();
        let expected = serde_json::json!({
            "name": "web", "version": "1.0", "tags": {"a": 1}, "public": true, "homepage": "https://x/?a=b"
        });
        assert_eq!(Value::Object(made), expected);
        assert_eq!(manifest(&parsed(&["=x"])).unwrap_err().status, 2);
    }
}
