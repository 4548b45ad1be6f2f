//! `mdata-get`, `mdata-put`, `mdata-delete` and `mdata-list`: the guest's side of the metadata service (metadata.md section 6).
//!
//! One program with four names, linked statically so that it runs in any Linux userland: the host shows it to every guest
//! below `/native/usr/sbin`. It owns nothing.

mod serial;
mod transport;
mod verbs;

use std::{ffi::OsString, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let mut rest: Vec<OsString> = words.collect();
    let name = |word: &OsString| Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut verb = name(&own);
    if !verb.starts_with("mdata-") && !rest.is_empty() {
        // `mdata get KEY` does what `mdata-get KEY` does.
        verb = format!("mdata-{}", rest.remove(0).to_string_lossy());
    }
    verbs::run(&verb, &rest)
}
