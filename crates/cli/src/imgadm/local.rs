//! Verbs about the images of this node.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use serde_json::{Value, json};
use triton_agent::chain;
use triton_files::{Layout, read_bounded};
use triton_image::{CancelToken, ImageError, Images, ImportOptions, ImportOutcome, Imported, InstalledImage, Platform, Source};
use triton_storage::Storage;
use triton_types::ImageUuid;

use super::{
    Failure, args,
    bar::Bar,
    fields::Row,
    output::{print_json, print_table, say, select},
};

/// A manifest is refused above this size.
const MAX_MANIFEST: u64 = 1 << 20;

pub(super) fn parse(uuid: &str) -> Result<ImageUuid, Failure> {
    uuid.parse().map_err(|_| Failure::new("InvalidUUID", format!("invalid uuid: {uuid:?}")))
}

pub(super) fn open(layout: &Layout) -> Result<Images, Failure> {
    let storage = Storage::open(layout).map_err(ImageError::from)?;
    Ok(Images::open(layout, Arc::new(storage))?)
}

/// [`open`], for a verb that may name a pool: there is one per node.
fn open_pool(layout: &Layout, pool: Option<&str>) -> Result<Images, Failure> {
    let images = open(layout)?;
    let own = images.storage().pool();
    match pool {
        Some(pool) if pool != own => {
            Err(Failure::new("ZpoolNotFound", format!("zpool {pool:?} is not the pool of this node, which is {own:?}")))
        }
        _ => Ok(images),
    }
}

fn row(image: &InstalledImage) -> Row {
    Row { manifest: image.manifest.clone(), source: image.source.clone(), zpool: Some(image.zpool.clone()), clones: Some(image.clones) }
}

pub(super) fn list(layout: &Layout, args: &args::Listing) -> Result<(), Failure> {
    let images = open(layout)?.list()?;
    let rows = select(images.iter().map(row).collect(), &args.filters, &args.sort)?;
    if !args.json {
        return print_table(&rows, &args.output, !args.no_header);
    }
    // In the order of the rows.
    let find = |row: &Row| images.iter().find(|image| image.manifest.get("uuid") == row.manifest.get("uuid"));
    print_json(&rows.iter().filter_map(find).collect::<Vec<_>>())
}

pub(super) fn get(layout: &Layout, args: &args::Get) -> Result<(), Failure> {
    let uuid = parse(&args.uuid)?;
    let images = open(layout)?;
    let own = images.storage().pool().to_owned();
    let pool = args.pool.clone().unwrap_or_else(|| own.clone());
    let found = if pool == own { images.get(uuid)? } else { None };
    let image = found.ok_or(ImageError::NotInstalled { uuid, pool })?;
    let mut value = json!({"manifest": image.manifest, "zpool": image.zpool});
    if let Some(source) = image.source {
        value["source"] = Value::from(source);
    }
    if args.recursive {
        value["children"] = json!({"clones": image.clone_names});
    }
    print_json(&value)
}

pub(super) fn import(layout: &Layout, args: &args::Import) -> Result<(), Failure> {
    let uuid = parse(&args.uuid)?;
    if args.zstream {
        return Err(Failure::usage("--zstream: raw ZFS streams of other compute nodes are not supported"));
    }
    let images = open_pool(layout, args.pool.as_deref())?;
    let options = ImportOptions {
        sources: args.sources.iter().map(|url| Source::new(url)).collect::<Result<_, _>>()?,
        platform: platform(layout),
        request_id: std::env::var("REQ_ID").ok().filter(|id| !id.is_empty()),
        ..ImportOptions::default()
    };
    let bar = Bar::new(args.quiet);
    let imported = images.import(uuid, &options, &bar)?;
    drop(bar);
    told(&imported)
}

pub(super) fn import_oci(layout: &Layout, args: &args::ImportOci) -> Result<(), Failure> {
    let images = open_pool(layout, args.pool.as_deref())?;
    let (path, tag) = triton_image::split_reference(&args.image);
    let bar = Bar::new(args.quiet);
    let imported = images.import_oci(Path::new(path), tag, &CancelToken::default(), &bar)?;
    drop(bar);
    told(&imported)
}

fn told(imported: &Imported) -> Result<(), Failure> {
    let uuid = imported.image.uuid;
    let (name, version) = (imported.image.text("name"), imported.image.text("version"));
    match imported.outcome {
        ImportOutcome::AlreadyInstalled => say(&format!("Image {uuid} ({name} {version}) is already installed, skipping")),
        ImportOutcome::WhileWaiting => say(&format!("Image {uuid} ({name} {version}) was imported while waiting on lock")),
        // The last event said it.
        ImportOutcome::Imported => Ok(()),
    }
}

/// What images' requirements are compared with. Unknown facts are no reason not to import.
fn platform(layout: &Layout) -> Platform {
    match triton_sysinfo::HostFacts::load(layout) {
        Ok(facts) => Platform { live_image: Some(facts.platform_stamp), ..Platform::default() },
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the platform is unknown: requirements of images are not checked");
            Platform::default()
        }
    }
}

pub(super) fn install(layout: &Layout, args: &args::Install) -> Result<(), Failure> {
    let path = args.manifest.as_deref().ok_or_else(|| Failure::usage("a manifest is needed"))?;
    let bytes = read_bounded(path, MAX_MANIFEST).map_err(|error| Failure::new("InternalError", chain(&error).to_string()))?;
    let manifest: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new("ManifestValidation", format!("invalid manifest: {} is not JSON: {error}", path.display())))?;
    let images = open_pool(layout, args.pool.as_deref())?;
    let bar = Bar::new(args.quiet);
    let uuid = images.install(&manifest, &args.file, &CancelToken::default(), &bar)?;
    drop(bar);
    let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
    say(&format!("Installed image {uuid} ({}@{})", text("name"), text("version")))
}

pub(super) fn delete(layout: &Layout, args: &args::Delete) -> Result<(), Failure> {
    let uuids = args.uuids.iter().map(|uuid| parse(uuid)).collect::<Result<Vec<_>, _>>()?;
    let images = open_pool(layout, args.pool.as_deref())?;
    for uuid in uuids {
        images.delete(uuid)?;
        say(&format!("Deleted image {uuid}"))?;
    }
    Ok(())
}

pub(super) fn ancestry(layout: &Layout, args: &args::Ancestry) -> Result<(), Failure> {
    let chain = open(layout)?.ancestry(parse(&args.uuid)?)?;
    match args.json {
        true => print_json(&chain),
        false => print_table(&chain.iter().map(row).collect::<Vec<_>>(), &args.output, !args.no_header),
    }
}

pub(super) fn vacuum(layout: &Layout, args: &args::Vacuum) -> Result<(), Failure> {
    let images = open(layout)?;
    let name = |image: &InstalledImage| format!("{} ({}@{})", image.uuid, image.text("name"), image.text("version"));
    let mut unused = Vec::new();
    images.vacuum(true, |image| unused.push(name(image)))?;
    if args.dry_run {
        return unused.iter().try_for_each(|name| say(&format!("[dry-run] Deleted image {name}")));
    }
    if unused.is_empty() {
        return Ok(());
    }
    if !args.force && !confirmed(&unused)? {
        return Err(Failure::new("Aborted", "nothing was deleted"));
    }
    let mut printed = Ok(());
    images.vacuum(false, |image| printed = say(&format!("Deleted image {}", name(image))))?;
    printed
}

fn confirmed(unused: &[String]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask at: give -f to delete, or -n to see what would be deleted"));
    }
    let mut stderr = io::stderr();
    writeln!(stderr, "This will delete the following images:\n    {}", unused.join("\n    "))?;
    write!(stderr, "Delete {} images? [y/N] ", unused.len())?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
