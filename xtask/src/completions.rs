//! Completion scripts: `cargo xtask` itself is completed by cargo's script, so these are for the program `xtask`.

use clap_complete::{Shell, generate};

/// Prints the script for `shell` on standard output.
pub fn print(shell: Shell) {
    let mut command = crate::command();
    generate(shell, &mut command, "xtask", &mut std::io::stdout());
}
