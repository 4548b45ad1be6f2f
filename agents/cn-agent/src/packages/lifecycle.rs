//! The scripts of a package: `preinstall`, `postinstall`, `preuninstall`, `postuninstall`.

use std::{os::unix::process::ExitStatusExt, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Package, PackageError};
use crate::tasks::execution::{Ended, Execution};

/// Most of a script's error output that is told.
const TOLD: usize = 1024;

/// Runs the script of `step`, if the package in `directory` has one, in that directory.
pub(super) async fn run(
    package: &Package,
    step: &'static str,
    directory: &Path,
    prefix: &Path,
    time: Duration,
    cancelled: &CancellationToken,
) -> Result<(), PackageError> {
    let failed = |how: String| PackageError::Script { script: step, how };
    let Some(script) = package.script(step).map_err(failed)? else { return Ok(()) };
    let path = |name: &str| prefix.join(name).display().to_string();
    let mut env: Vec<(String, String)> = ["PATH", "LANG", "HOME", "TRITON_AGENT_DIR", "TRITON_CONFIG_DIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    for (name, value) in [
        ("npm_config_prefix", prefix.display().to_string()),
        ("npm_config_smfdir", path("smf")),
        ("npm_config_etc", path("etc")),
        ("npm_config_dbdir", path("db")),
        ("npm_package_name", package.name.clone()),
        ("npm_package_version", package.version.clone()),
    ] {
        env.push((name.to_owned(), value));
    }
    let execution = Execution { env, timeout: Some(time), ..Execution::default() };
    let ran = execution.run_program(&directory.join(script), directory, cancelled).await;
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    let said: String = said.chars().skip(said.chars().count().saturating_sub(TOLD)).collect();
    let told = if said.is_empty() { said } else { format!(": {said}") };
    match ran.ended {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => Err(failed(match (status.code(), status.signal()) {
            (Some(code), _) => format!("returned {code}{told}"),
            (None, signal) => format!("was killed by signal {}{told}", signal.unwrap_or_default()),
        })),
        Ended::TimedOut => Err(failed(format!("took longer than {} seconds{told}", time.as_secs()))),
        Ended::TooMuch(stream) => Err(failed(format!("wrote too much to {stream}"))),
        Ended::NotStarted(error) => Err(failed(format!("could not be started: {error}"))),
        Ended::Cancelled => Err(failed("was given up".to_owned())),
    }
}
