//! What an installation replaces, kept until the installation is proven.
//!
//! The directory `<name>.updating-to.<image>` beside the packages says that an installation has begun, and by its content how far it is:
//! empty, the package before is still in its place; with the file `.nothing`, there was none; else it is that package.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use triton_files::steps;

use super::{INSTALLING, Package, PackageError, Packages, REMOVING, manifest, remove_tree, system};

/// Between the name of a package and the image that replaces it.
pub(super) const ASIDE: &str = ".updating-to.";
/// Says that there was no package before.
const NOTHING: &str = ".nothing";

/// What was, or is to be, set aside for an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Where.
    pub(super) path: PathBuf,
    /// False if there was no package before.
    pub(super) replaces: bool,
}

impl Aside {
    /// Notes that the installation begins.
    pub(super) fn begin(packages: &Packages, name: &str, image: &str) -> Result<Self, PackageError> {
        let path = packages.modules().join(format!("{name}{ASIDE}{image}"));
        // What an earlier attempt left, with this image or another: two notes for one package would contradict each other.
        for left in packages.asides().into_iter().filter(|left| left.0 == name) {
            packages.restore(name, &left.1)?;
        }
        let replaces = packages.directory(name).is_dir();
        if replaces {
            fs::create_dir(&path).map_err(system("make", &path))?;
        } else {
            // With its content at once: an empty one would mean that there is a package.
            let holder = tempfile::Builder::new().prefix(INSTALLING).tempdir_in(&packages.prefix);
            let holder = holder.map_err(system("make a directory in", &packages.prefix))?;
            File::create(holder.path().join(NOTHING)).map_err(system("write in", holder.path()))?;
            fs::rename(holder.path(), &path).map_err(system("make", &path))?;
        }
        packages.sync()?;
        steps::reached("agents.begun");
        Ok(Self { path, replaces })
    }
}

impl Packages {
    /// All notes of installations, with the names of their packages.
    pub(super) fn asides(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.modules()).into_iter().flatten().flatten();
        let note = |entry: fs::DirEntry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let (name, _image) = file.split_once(ASIDE)?;
            manifest::check_name(name).is_ok().then(|| (name.to_owned(), entry.path()))
        };
        entries.filter_map(note).collect()
    }

    /// Puts back what is aside for the package `name`, and gives the package that is in its place then. Can be repeated after a crash
    /// at any point.
    pub(super) fn restore(&self, name: &str, aside: &Path) -> Result<Option<Package>, PackageError> {
        let current = self.directory(name);
        let content = fs::read_dir(aside).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(system("read", aside))?;
        let nothing = content.len() == 1 && content.iter().all(|entry| entry.file_name() == NOTHING);
        if !content.is_empty() {
            if let Ok(failed) = Package::read(&current) {
                self.unlink(&failed);
            }
            self.discard(&current)?;
            steps::reached("agents.cleared");
        }
        if nothing {
            return self.discard(aside).map(|()| None);
        }
        if content.is_empty() {
            fs::remove_dir(aside).map_err(system("remove", aside))?;
        } else {
            fs::rename(aside, &current).map_err(system("put back", &current))?;
        }
        steps::reached("agents.restored");
        let package = Package::read(&current).ok();
        if let Some(package) = &package {
            self.link(package)?;
        }
        self.sync()?;
        Ok(package)
    }

    /// Removes a package, or what was set aside, by one rename: it is never seen in part.
    pub(super) fn discard(&self, path: &Path) -> Result<(), PackageError> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let holder = tempfile::Builder::new().prefix(REMOVING).tempdir_in(&self.prefix);
        let holder = holder.map_err(system("make a directory in", &self.prefix))?.keep();
        let gone = holder.join("it");
        fs::rename(path, &gone).map_err(system("remove", path))?;
        steps::reached("agents.discarded");
        remove_tree(&holder)
    }
}
