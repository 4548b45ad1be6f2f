//! The hidden verb that runs on a node, in the network namespace of a guest: sends frames, or says which came. So that what two nodes
//! let pass is judged by frames that no program would send.

use std::{
    fmt::Write as _,
    io::{BufRead, Write as _, stdin, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use triton_wire::{FarEnd, forget_flows};

/// How long it listens for the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `xtask probe-wire`.
#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// What to do
    #[arg(value_enum)]
    deed: Deed,

    /// The NIC
    #[arg(long, default_value = "")]
    link: String,

    /// The last frame, in hexadecimal: whoever listens ends with it
    #[arg(long, default_value = "")]
    last: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Deed {
    /// Send the frames of standard input, a line of hexadecimal digits each
    Send,
    /// Print a line when it begins, then each frame that comes
    Listen,
    /// Forget all connections of this network namespace
    Forget,
}

/// A frame as a line.
pub fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::with_capacity(frame.len() * 2), |mut line, byte| {
        let _ = write!(line, "{byte:02x}");
        line
    })
}

/// The frame of a line.
///
/// # Errors
/// When it has other digits, or an odd number of them.
pub fn frame(line: &str) -> Result<Vec<u8>> {
    ensure!(line.is_ascii() && line.len().is_multiple_of(2), "{line:?} is no frame");
    let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).with_context(|| format!("{line:?} is no frame"));
    (0..line.len()).step_by(2).map(byte).collect()
}

/// Does it.
pub fn probe(args: &ProbeArgs) -> Result<ExitCode> {
    match args.deed {
        Deed::Forget => forget_flows(),
        Deed::Send => {
            let end = FarEnd::of_link(&args.link);
            for line in stdin().lock().lines() {
                end.send(&frame(&line.context("could not read standard input")?)?);
            }
        }
        Deed::Listen => {
            let (end, last, until) = (FarEnd::of_link(&args.link), frame(&args.last)?, Instant::now() + PATIENCE);
            let mut out = stdout().lock();
            let mut say = |line: &str| writeln!(out, "{line}").and_then(|()| out.flush()).context("could not write");
            say("listening")?;
            loop {
                let Some(came) = end.receive(until) else { bail!("the last frame did not come within {} s", PATIENCE.as_secs()) };
                if came == last {
                    break;
                }
                say(&hex(&came))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_same_as_a_line() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(frame(&hex(&all)).unwrap(), all);
        assert_eq!(frame("").unwrap(), Vec::<u8>::new());
        for wrong in ["0", "0g", "é"] {
            assert!(frame(wrong).is_err(), "{wrong}");
        }
    }
}
