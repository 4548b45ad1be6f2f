//! Printing an error with everything that caused it.

use std::{error::Error, fmt};

/// Prints `error: cause: cause of the cause`. At most 16 causes.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'a));

/// The error with its causes, as one line.
pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        for _ in 0..16 {
            let Some(error) = next else { break };
            let cause = error.to_string();
            // A transparent wrapper prints the same words as its source.
            if cause != last {
                write!(f, ": {cause}")?;
            }
            last = cause;
            next = error.source();
        }
        Ok(())
    }
}
