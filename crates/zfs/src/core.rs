//! The process's one [`Library`]: loaded at first use, tried anew while it is missing (the module may be loaded later).

use std::sync::OnceLock;

use crate::{Unavailable, ffi::Library};

static LOADED: OnceLock<Library> = OnceLock::new();

/// The library, loaded and initialised.
///
/// # Errors
/// What is missing.
pub(crate) fn library() -> Result<&'static Library, Unavailable> {
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let library = Library::load()?;
    Ok(LOADED.get_or_init(|| library))
}
