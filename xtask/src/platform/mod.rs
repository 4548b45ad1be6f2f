//! `xtask image`: the operating-system image that a compute node boots from, made of Debian packages and this repository.
//!
//! Two layers, each cached by a hash of what went into it. The base is slow: packages, and the ZFS module compiled for
//! their kernel. The rest takes seconds: our files and programs over it, the initrd, the squashfs, the archive that a
//! headnode installs. What is mounted is mounted in a namespace of its own and gone with the process that made it.

mod base;
mod disk;
mod finish;
mod inputs;
mod lock;
mod outputs;
mod sources;

pub use inputs::{programs, stripped, stripped_folder};
pub use sources::debian_mirror;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde_json::json;

use crate::{
    packages::{self, Purpose},
    say::{self, Progress},
    workspace,
};

/// Arguments of `xtask image`.
#[derive(Args, Debug, Clone, Default)]
pub struct ImageArgs {
    /// Put optimised programs into the image, without the crash points that tests use
    #[arg(long)]
    pub release: bool,

    /// The image's release, UTC, like 20260102T030405Z; without it, the time of the last commit
    #[arg(long, value_name = "STAMP", value_parser = inputs::stamp)]
    pub stamp: Option<String>,

    /// Build the packages' layer again from the packages as they are now
    #[arg(long)]
    pub refresh: bool,

    /// Write platform/packages.lock: the versions of packages as they are in the base that is used or built now
    #[arg(long)]
    pub lock: bool,

    /// Make a disk image too, for nodes without a boot server: GPT, boots by BIOS and UEFI
    #[arg(long)]
    pub disk: bool,

    /// Print the result as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// A built image: a folder with its parts.
#[derive(Clone, Debug)]
pub struct Built {
    /// The folder.
    pub folder: PathBuf,
    /// The release.
    pub stamp: String,
    /// It was in the cache.
    pub cached: bool,
}

impl Built {
    /// A file of the image.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Where images are kept.
pub fn cache_folder() -> PathBuf {
    crate::image::cache_folder().join("image")
}

/// Steps that [`ensure`] shows.
pub const STEPS: usize = 5;

/// The verb.
pub fn image(args: &ImageArgs) -> Result<ExitCode> {
    let mut progress = Progress::new(STEPS + usize::from(args.disk));
    let built = match ensure(args, &mut progress) {
        Ok(built) => built,
        Err(error) => {
            progress.clear();
            return Err(error.context(format!("the step \"{}\" failed", progress.current())));
        }
    };
    if args.json {
        say::line(json!({"folder": built.folder, "stamp": built.stamp, "cached": built.cached}));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("platform {} is in {}", built.stamp, built.folder.display()));
    let disk = args.disk.then(|| disk::NAME.to_owned());
    for name in outputs::names(&built.stamp).into_iter().chain(disk) {
        let size = std::fs::metadata(built.file(&name)).map_or(0, |metadata| metadata.len());
        say::line(format_args!("{:>8} KiB  {name}", size.div_ceil(1024)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the image, or finds it in the cache.
pub fn ensure(args: &ImageArgs, progress: &mut Progress) -> Result<Built> {
    if !nix::unistd::geteuid().is_root() {
        bail!("needs root: packages are installed into a tree of their own, with its owners");
    }
    progress.begin("tools");
    packages::ensure(&[Purpose::Build, Purpose::Image], progress)?;
    progress.done("are there");

    progress.begin("programs");
    let programs = inputs::programs(args.release, progress)?;
    progress.done(if args.release { "optimised" } else { "with crash points, for tests" });

    progress.begin("packages and the ZFS module (10 to 20 minutes when not in the cache)");
    let _turn = turn(&cache_folder(), progress)?;
    let inputs = inputs::Inputs::read(args.stamp.clone())?;
    let base = base::ensure(&inputs, &cache_folder(), args.refresh, progress)?;
    let (inputs, base) = if args.lock { base::make_lock(&inputs, &base, &cache_folder())? } else { (inputs, base) };
    let unlocked = base::unlocked(&inputs, &base)?;
    progress.done(format_args!("{}, {}{unlocked}", if base.cached { "cached" } else { "built" }, base.key));

    progress.begin("root, initrd, squashfs");
    let key = inputs.final_key(&base.identity()?, &programs)?;
    let built = finish::ensure(&inputs, &base, &programs, &key, &cache_folder(), progress)?;
    progress.done(format_args!("{}, {key}", if built.cached { "cached" } else { "built" }));

    progress.begin("manifest and archive");
    outputs::ensure(&built, &inputs)?;
    finish::forget_old(&cache_folder(), &built)?;
    progress.done(outputs::archive_name(&built.stamp));

    if args.disk {
        progress.begin("disk image");
        let disk = disk::ensure(&built, inputs.epoch, progress)?;
        progress.done(disk.display());
    }
    Ok(built)
}

/// One build at a time in a cache, whichever clone it is for: the others wait, and most often find what they wanted. It ends with the process.
fn turn(cache: &Path, progress: &mut Progress) -> Result<Flock<fs::File>> {
    fs::create_dir_all(cache).with_context(at("create", cache))?;
    let path = cache.join("lock");
    let mut file = fs::File::create(&path).with_context(at("create", &path))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, error)) => return Err(error).with_context(at("lock", &path)),
        }
        progress.turn("waits for another build");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The disk image of a built image.
pub fn disk_image(built: &Built, progress: &mut Progress) -> Result<PathBuf> {
    disk::ensure(built, inputs::Inputs::read(Some(built.stamp.clone()))?.epoch, progress)
}

/// The folder of the image's own files.
fn folder() -> PathBuf {
    workspace::root().join("platform")
}

/// Files that are laid over the packages'.
pub fn overlay() -> PathBuf {
    folder().join("overlay")
}

/// A context that names a path.
fn at(what: &'static str, path: &Path) -> impl FnOnce() -> String {
    let path = path.to_owned();
    move || format!("could not {what} {}", path.display())
}
