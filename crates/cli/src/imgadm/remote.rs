//! `imgadm avail` and `imgadm show`: what the sources offer.

use triton_files::Layout;
use triton_image::{ImageError, Images, ImportOptions, Refreshed, Remote};

use super::{
    Failure, args,
    fields::Row,
    local::{open, parse},
    output::{print_json, print_table, say, select},
};

pub(super) fn avail(layout: &Layout, args: &args::Listing) -> Result<(), Failure> {
    let remote = Remote::open(&Images::sources(layout)?, &ImportOptions::default().http)?;
    let (offered, problems) = remote.list(&[("state", "active")])?;
    let row = |image: triton_image::Offered| Row { manifest: image.manifest, source: Some(image.source), zpool: None, clones: None };
    let rows = select(offered.into_iter().map(row).collect(), &args.filters, &args.sort)?;
    if args.json {
        let json = |row: Row| serde_json::json!({"manifest": row.manifest, "source": row.source});
        print_json(&rows.into_iter().map(json).collect::<Vec<_>>())?;
    } else {
        print_table(&rows, &args.output, !args.no_header)?;
    }
    // What there is has been shown; that it is not all is an error all the same.
    if problems.is_empty() { Ok(()) } else { Err(ImageError::Sources(problems).into()) }
}

pub(super) fn show(layout: &Layout, args: &args::Show) -> Result<(), Failure> {
    let uuid = parse(&args.uuid)?;
    let remote = Remote::open(&Images::sources(layout)?, &ImportOptions::default().http)?;
    print_json(&remote.show(uuid)?.manifest)
}

pub(super) fn update(layout: &Layout, args: &args::Update) -> Result<(), Failure> {
    let images = open(layout)?;
    let uuids = match args.uuids.as_slice() {
        [] => images.list()?.iter().map(|image| image.uuid).collect(),
        named => named.iter().map(|uuid| parse(uuid)).collect::<Result<Vec<_>, _>>()?,
    };
    let remote = Remote::open(&Images::sources(layout)?, &ImportOptions::default().http)?;
    let dry = if args.dry_run { "[dry-run] " } else { "" };
    let mut failure = None;
    for uuid in uuids {
        match images.refresh(uuid, &remote, args.dry_run) {
            Ok(Refreshed::UpToDate) => say(&format!("Image {uuid} is up to date"))?,
            Ok(Refreshed::Changed) => say(&format!("{dry}Updated manifest of image {uuid}"))?,
            Ok(Refreshed::NotOffered) => say(&format!("Image {uuid} is in no image source, nothing to update"))?,
            // The others are updated all the same; the first failure is the one that is told last.
            Err(error) => match failure {
                None => failure = Some(error),
                Some(_) => say(&format!("Image {uuid} could not be updated: {}", triton_agent::chain(&error)))?,
            },
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}
