//! `xtask dist`: the guest's tools as a Debian package, for guests that are to have them in their own file system.
//!
//! A guest on a compute node of ours finds the tools below `/native` without any package; images that are also run elsewhere
//! can bring them. The package needs nothing: the program is static. Its archive is the same for the same program and time.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    guest_tools,
    packages::{self, Purpose},
    run,
    say::{self, Progress},
    workspace,
};

/// Name of the package.
const PACKAGE: &str = "triton-mdata-tools";
/// Where the program is in the guest; the tools are links to it.
const FOLDER: &str = "usr/sbin";

/// Arguments of `xtask dist`.
#[derive(Args, Debug)]
pub struct DistArgs {
    /// Where the package is put
    #[arg(long, default_value = "target/dist")]
    out: PathBuf,
}

/// Builds the package.
pub fn dist(args: &DistArgs) -> Result<ExitCode> {
    let mut progress = Progress::new(2);
    progress.begin("guest's tools");
    packages::ensure(&[Purpose::Build], &mut progress)?;
    let program = guest_tools::build(&mut progress)?;
    progress.done(program.display());
    progress.begin("Debian package");
    let package = package(&program, &workspace::root().join(&args.out), &mut progress)?;
    progress.done(package.display());
    say::line(package.display());
    Ok(ExitCode::SUCCESS)
}

/// Names that Debian gives to the machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn control(kib: u64) -> String {
    format!(
        "Package: {PACKAGE}\nVersion: {}\nArchitecture: {}\nMaintainer: The Triton Linux CN developers\nInstalled-Size: {kib}\nSection: utils\n\
         Priority: optional\nConflicts: joyent-mdata-client, triton-mdata-client\nReplaces: joyent-mdata-client, triton-mdata-client\n\
         Description: metadata of a Triton instance, from inside\n mdata-get, mdata-put, mdata-delete and mdata-list ask the compute node about this \
         instance,\n over its metadata socket or its second serial line.\n",
        env!("CARGO_PKG_VERSION"),
        architecture()
    )
}

/// Makes the package of `program` in the folder `out`; returns its path.
fn package(program: &std::path::Path, out: &std::path::Path, progress: &mut Progress) -> Result<PathBuf> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let mode = |path: &std::path::Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let tree = out.join(".tree");
    let _ = fs::remove_dir_all(&tree);
    let (tools, about) = (tree.join(FOLDER), tree.join("usr/share/doc").join(PACKAGE));
    for folder in [&tools, &about, &tree.join("DEBIAN")] {
        fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    }
    let file = tools.join(guest_tools::PROGRAM);
    fs::copy(program, &file).with_context(|| format!("could not copy {}", program.display()))?;
    mode(&file, 0o755)?;
    for name in guest_tools::NAMES {
        symlink(guest_tools::PROGRAM, tools.join(name))?;
    }
    fs::copy(workspace::root().join("LICENSE"), about.join("copyright"))?;
    mode(&about.join("copyright"), 0o644)?;
    fs::write(tree.join("DEBIAN/control"), control(fs::metadata(&file)?.len().div_ceil(1024)))?;
    let target = out.join(format!("{PACKAGE}_{}_{}.deb", env!("CARGO_PKG_VERSION"), architecture()));
    let mut build = std::process::Command::new("dpkg-deb");
    // Plain xz is what both Debian 12 and 13 read.
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&target).env("SOURCE_DATE_EPOCH", "0");
    run::succeed(build, Duration::from_secs(120), progress).context("could not build the package")?;
    fs::remove_dir_all(&tree)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::run::answer;

    #[test]
    fn the_package_is_whole_depends_on_nothing_and_can_be_installed() {
        let directory = std::env::temp_dir().join(format!("xtask-dist-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        // Any program will do.
        let deb = package(std::path::Path::new("/bin/true"), &directory, &mut Progress::new(1)).unwrap();
        let field = |name: &str| answer(Command::new("dpkg-deb").arg("--field").arg(&deb).arg(name)).unwrap().trim().to_owned();
        assert_eq!((field("Package").as_str(), field("Depends").as_str()), (PACKAGE, ""));
        assert_eq!(field("Architecture"), architecture());
        let listed = answer(Command::new("dpkg-deb").arg("--contents").arg(&deb)).unwrap();
        for name in guest_tools::NAMES {
            assert!(listed.contains(&format!("./usr/sbin/{name} -> mdata")), "{listed}");
        }
        assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
        // dpkg itself, with a database and a root of its own.
        let root = directory.join("root");
        for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["status", "available"] {
            fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
        }
        let mut install = Command::new("dpkg");
        install.arg("--root").arg(&root).args(["--force-not-root", "--force-script-chrootless", "--log=/dev/null", "--install"]).arg(&deb);
        answer(&mut install).unwrap();
        assert_eq!(answer(&mut Command::new(root.join("usr/sbin/mdata-get"))).unwrap(), "");
        let status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
        assert!(status.contains("Status: install ok installed"), "{status}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
