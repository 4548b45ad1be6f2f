//! cloud-init as Debian packages it, unpacked beside the build and never installed: on a machine it would run at boot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::userland::build_folder;

/// cloud-init, and what of Python its data sources import.
const PACKAGES: [&str; 16] = [
    "cloud-init",
    "python3-serial",
    "python3-yaml",
    "python3-configobj",
    "python3-jinja2",
    "python3-markupsafe",
    "python3-oauthlib",
    "python3-requests",
    "python3-urllib3",
    "python3-idna",
    "python3-chardet",
    "python3-certifi",
    "python3-netifaces",
    "python3-six",
    "python3-jsonpatch",
    "python3-json-pointer",
];

/// What asks with its classes, by name.
const SCRIPTS: [(&str, &str); 3] = [
    ("clouds", include_str!("../cloud-init/clouds.py")),
    ("nocloud", include_str!("../cloud-init/nocloud.py")),
    ("smartos", include_str!("../cloud-init/smartos.py")),
];

/// cloud-init, ready to be run.
#[derive(Debug)]
pub struct CloudInit(PathBuf);

impl CloudInit {
    /// The unpacked packages, downloaded at first use.
    ///
    /// # Panics
    /// When they or Python cannot be had: names what is missing.
    pub fn get() -> Self {
        assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: install the Debian package python3, as `cargo xtask test` does");
        let folder = build_folder().join("cloud-init");
        fs::create_dir_all(&folder).expect("disk");
        let turn = fs::File::create(folder.join("lock")).expect("disk");
        let _turn = Flock::lock(turn, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock");
        let root = folder.join("root");
        if !root.is_dir() {
            Self::unpack(&folder, &root);
        }
        Self(root)
    }

    fn unpack(folder: &Path, root: &Path) {
        let apt = |args: &[&str]| {
            let mut command = Command::new("timeout");
            command.args(["300", "apt-get", "-q", "-o", "APT::Sandbox::User=root"]).args(args).current_dir(folder);
            command.output().expect("apt-get can be run: a Debian machine is needed")
        };
        let packages = || -> Vec<PathBuf> {
            let files = fs::read_dir(folder).expect("disk").flatten().map(|entry| entry.path());
            files.filter(|file| file.extension().is_some_and(|ending| ending == "deb")).collect()
        };
        // A compute node has no mirror: it is given them.
        if packages().len() < PACKAGES.len() {
            let download = || apt(&[&["download"], &PACKAGES[..]].concat());
            let mut downloaded = download();
            if !downloaded.status.success() {
                // A new machine has no package lists, or old ones.
                apt(&["update"]);
                downloaded = download();
            }
            let said = String::from_utf8_lossy(&downloaded.stderr).into_owned();
            assert!(downloaded.status.success(), "these Debian packages cannot be downloaded: {}\n{said}", PACKAGES.join(", "));
        }
        let new = folder.join("new");
        let _ = fs::remove_dir_all(&new);
        for package in packages() {
            let status = Command::new("dpkg-deb").arg("-x").args([&package, &new]).status().expect("dpkg-deb can be run");
            if !status.success() {
                // What a download that was ended left: the next call has it anew.
                let _ = fs::remove_file(&package);
                panic!("{} cannot be unpacked", package.display());
            }
        }
        fs::rename(&new, root).expect("disk");
    }

    /// Where the packages are unpacked.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Runs one of the scripts of `tests/e2e/cloud-init`, by its name without ending, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, script: &str, args: &[&str]) -> Value {
        self.finish(Command::new("timeout"), script, args)
    }

    /// As [`CloudInit::run`], in the network namespace of process `pid`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run_in(&self, pid: i32, script: &str, args: &[&str]) -> Value {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", "timeout"]);
        self.finish(command, script, args)
    }

    #[track_caller]
    fn finish(&self, mut command: Command, script: &str, args: &[&str]) -> Value {
        let (_, text) = SCRIPTS.iter().find(|(name, _)| *name == script).expect("a script of this project");
        command.args(["120", PYTHON, "-c", text]).args(args);
        command.env("PYTHONPATH", self.0.join("usr/lib/python3/dist-packages")).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().expect("Python can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
    }
}

/// Debian's own: its packages are built for it.
const PYTHON: &str = "/usr/bin/python3";
