//! Waiting for a condition, with a deadline and a word on what was missing.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::say::Progress;

/// What a look at the world found.
pub enum Look<T> {
    /// It is there.
    There(T),
    /// Not so far; this is missing.
    Missing(String),
}

/// Looks until it is there, at most `limit`. An error of `look` ends the wait.
pub fn until<T>(limit: Duration, progress: &mut Progress, mut look: impl FnMut(&mut Progress) -> Result<Look<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    loop {
        match look(progress)? {
            Look::There(found) => return Ok(found),
            Look::Missing(what) if Instant::now() >= deadline => bail!("waited {} s: {what}", limit.as_secs()),
            Look::Missing(what) => progress.turn(&what),
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}
