//! `imgadm avail` and `imgadm show`: what the sources offer.

use triton_files::Layout;
use triton_image::{ImageError, Images, ImportOptions, Remote};

use super::{
    Failure, args,
    fields::Row,
    local::parse,
    output::{print_json, print_table, select},
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
