//! An installed version of this agent runs in place of the platform's own (cn-agent.md section 3.11).
//!
//! The unit starts the program of the platform image, which is always there; if an image of cn-agent was installed on the node, the
//! program hands over to that one before it has done anything. What cannot be executed is passed over, so that a damaged installation
//! never leaves a node without its agent.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use triton_files::Layout;

use crate::{NAME, packages::Packages};

/// The process id of a program that was handed over to, which stays the same: it does not hand over again, but what it starts may.
const MARK: &str = "CN_AGENT_INSTALLED";

/// The installed program: a file of root's that nobody else may write.
fn installed(layout: &Layout) -> Option<PathBuf> {
    let program = layout.at("/opt/smartdc/agents/lib/node_modules").join(NAME).join("bin").join(NAME);
    let metadata = fs::metadata(&program).ok()?;
    let trusted = metadata.is_file() && metadata.uid() == 0 && metadata.mode() & 0o022 == 0 && metadata.mode() & 0o100 != 0;
    if !trusted {
        tracing::warn!(program = %program.display(), "the installed cn-agent is not root's alone, or not executable: it is passed over");
    }
    trusted.then_some(program)
}

fn same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Executes the installed version with the arguments and environment of this process, if there is one and this is not it. Returns when
/// there is none, or it cannot be executed.
pub fn hand_over(layout: &Layout) {
    let own = std::process::id().to_string();
    if std::env::var_os(MARK).is_some_and(|pid| *pid == *own) {
        return;
    }
    // One that was not proven, and whose twin is gone, is not the one to hand over to.
    for package in Packages::new(layout).recover_own(NAME) {
        tracing::warn!(agent = package.name, version = package.version, "an agent whose installation was interrupted is back");
    }
    let Some(program) = installed(layout) else { return };
    if same(&program, Path::new("/proc/self/exe")) {
        return;
    }
    tracing::info!(program = %program.display(), "handing over to the installed cn-agent");
    let error: io::Error = Command::new(&program).args(std::env::args_os().skip(1)).env(MARK, own).exec();
    tracing::error!(%error, program = %program.display(), "the installed cn-agent cannot be executed: this one goes on");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_an_executable_file_of_roots_own_is_handed_over_to() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(installed(&layout), None);
        let bin = layout.at("/opt/smartdc/agents/lib/node_modules/cn-agent/bin");
        fs::create_dir_all(&bin).unwrap();
        let program = bin.join("cn-agent");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        for (mode, taken) in [(0o644, false), (0o777, false), (0o775, false), (0o755, true), (0o700, true)] {
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(installed(&layout).is_some(), taken, "{mode:o}");
        }
        std::os::unix::fs::chown(&program, Some(12345), None).unwrap();
        assert_eq!(installed(&layout), None);
    }
}
