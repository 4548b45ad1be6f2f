//! Installed agents: packages below `/opt/smartdc/agents` with the scripts of their life (cn-agent.md section 3.11).
//!
//! An installation sets the installed package aside under another name, puts the new one in its place, and destroys what was set aside
//! when all of it has succeeded. What fails, or is interrupted, is put back: by the installation itself, or by the next start of the
//! agent, which finds what was set aside.

mod archive;
mod lifecycle;
mod manifest;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use triton_files::{Layout, steps};

pub use manifest::Package;

/// Between the name of a package and the image that replaces it, in the name of what was set aside.
const ASIDE: &str = ".updating-to.";
/// How long one script of a package may take.
const SCRIPT_TIME: Duration = Duration::from_secs(900);

/// A package could not be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The archive is not that of an agent.
    #[error("{0}")]
    Archive(String),
    /// `package.json` cannot be used.
    #[error("the package {package} cannot be used: {reason}")]
    Manifest {
        /// Name, or the archive's path.
        package: String,
        /// Why.
        reason: String,
    },
    /// A script of the package failed.
    #[error("{script} {how}")]
    Script {
        /// `preinstall`, `postinstall`, `preuninstall` or `postuninstall`.
        script: &'static str,
        /// `returned 3: ...`, `was killed by SIGKILL`, ...
        how: String,
    },
    /// The kernel refused.
    #[error("could not {what} {}", path.display())]
    System {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::System { what, path, source }
}

/// The agents below one node's root.
#[derive(Clone, Debug)]
pub struct Packages {
    prefix: PathBuf,
    scratch: PathBuf,
}

/// What was set aside for an installation that is done but not yet proven; destroyed by [`Packages::keep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Name of the package.
    pub name: String,
    /// Version that is installed now.
    pub version: String,
    aside: Option<PathBuf>,
}

/// Makes a call on a thread where it may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, PackageError> {
    let died = |error: tokio::task::JoinError| PackageError::Archive(format!("the installation broke off: {error}"));
    tokio::task::spawn_blocking(call).await.map_err(died)
}

impl Packages {
    /// Those of the node below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { prefix: layout.at("/opt/smartdc/agents"), scratch: layout.at("/var/tmp") }
    }

    /// Where downloaded images are kept while they are installed.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn modules(&self) -> PathBuf {
        self.prefix.join("lib/node_modules")
    }

    /// The directory of the package `name`.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.modules().join(name)
    }

    fn aside(&self, name: &str, image: &str) -> PathBuf {
        self.modules().join(format!("{name}{ASIDE}{image}"))
    }

    /// Installs the archive of image `image` as the package `name`, in place of an installed one. The latter is kept aside until
    /// [`Packages::keep`]; [`Packages::put_back`] undoes the installation.
    ///
    /// # Errors
    /// When the archive is not that of `name`, a script of it fails, or `cancelled` fires: everything is then as it was.
    pub async fn install(&self, archive: &Path, name: &str, image: &str, cancelled: &CancellationToken) -> Result<Installed, PackageError> {
        let (packages, archive, wanted) = (self.clone(), archive.to_owned(), name.to_owned());
        // Gone with the last use of it, whatever happens.
        let unpacked = blocking(move || packages.unpack(&archive, &wanted)).await??;
        let fresh = unpacked.path().join(name);
        let package = Package::read(&fresh)?;
        if package.name != name {
            let reason = format!("its package.json is of {:?}, its image of {name:?}", package.name);
            return Err(PackageError::Manifest { package: name.to_owned(), reason });
        }
        let aside = self.aside(name, image);
        let current = self.directory(name);
        self.prepare(&aside)?;
        let replaced = current.is_dir();
        if replaced {
            let old = Package::read(&current).ok();
            if let Some(old) = &old {
                self.farewell(old, &current, cancelled).await;
                self.unlink(old);
            }
            steps::reached("agents.before-aside");
            fs::rename(&current, &aside).map_err(system("set aside", &current))?;
            steps::reached("agents.aside");
        }
        let result = self.place(&package, &fresh, &current, cancelled).await;
        let installed = Installed { name: name.to_owned(), version: package.version.clone(), aside: replaced.then_some(aside) };
        match result {
            Ok(()) => Ok(installed),
            Err(error) => {
                if let Err(second) = self.put_back(&installed).await {
                    tracing::error!(error = %triton_agent::chain(&second), agent = name, "the agent before it could not be put back");
                }
                Err(error)
            }
        }
    }

    fn unpack(&self, archive: &Path, name: &str) -> Result<tempfile::TempDir, PackageError> {
        let modules = self.modules();
        fs::create_dir_all(&modules).map_err(system("make", &modules))?;
        // On the same file system as the packages, so that a rename is all it takes.
        let holder = tempfile::Builder::new().prefix(".installing-").tempdir_in(&self.prefix);
        let holder = holder.map_err(system("make a directory in", &self.prefix))?;
        archive::unpack(archive, holder.path())?;
        if !holder.path().join(name).join("image_uuid").is_file() {
            return Err(PackageError::Archive(format!("the image is not that of an agent: it has no {name}/image_uuid")));
        }
        Ok(holder)
    }

    /// Makes the directories, and removes what an earlier attempt with the same image left aside.
    fn prepare(&self, aside: &Path) -> Result<(), PackageError> {
        for directory in ["bin", "etc", "db", "smf"].map(|name| self.prefix.join(name)) {
            fs::create_dir_all(&directory).map_err(system("make", &directory))?;
        }
        remove_tree(aside)
    }

    async fn place(&self, package: &Package, fresh: &Path, current: &Path, cancelled: &CancellationToken) -> Result<(), PackageError> {
        lifecycle::run(package, "preinstall", fresh, &self.prefix, SCRIPT_TIME, cancelled).await?;
        fs::rename(fresh, current).map_err(system("put in place", current))?;
        steps::reached("agents.placed");
        self.link(package)?;
        lifecycle::run(package, "postinstall", current, &self.prefix, SCRIPT_TIME, cancelled).await?;
        steps::reached("agents.done");
        Ok(())
    }

    /// The scripts of a package that goes. As upstream, what fails in them stops nothing.
    async fn farewell(&self, package: &Package, directory: &Path, cancelled: &CancellationToken) {
        for script in ["preuninstall", "postuninstall"] {
            if let Err(error) = lifecycle::run(package, script, directory, &self.prefix, SCRIPT_TIME, cancelled).await {
                tracing::warn!(%error, agent = package.name, "a script of an agent that is removed failed");
            }
        }
    }

    fn link(&self, package: &Package) -> Result<(), PackageError> {
        for (name, target) in package.bin() {
            let link = self.prefix.join("bin").join(name);
            let program = self.directory(&package.name).join(&target);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(system("make executable", &program))?;
            let _ = fs::remove_file(&link);
            let to = Path::new("../lib/node_modules").join(&package.name).join(target);
            symlink(to, &link).map_err(system("make the link", &link))?;
        }
        Ok(())
    }

    /// Removes the package's links, and none that leads elsewhere.
    fn unlink(&self, package: &Package) {
        let own = Path::new("../lib/node_modules").join(&package.name);
        for (name, _) in package.bin() {
            let link = self.prefix.join("bin").join(name);
            if fs::read_link(&link).is_ok_and(|to| to.starts_with(&own)) {
                let _ = fs::remove_file(&link);
            }
        }
    }

    /// The installation is proven: what was set aside for it goes. That it cannot be removed is logged only.
    pub async fn keep(&self, installed: &Installed) {
        let Some(aside) = installed.aside.clone() else { return };
        if let Ok(Err(error)) = blocking(move || remove_tree(&aside)).await {
            tracing::warn!(error = %triton_agent::chain(&error), "what an installation had set aside is left");
        }
    }

    /// Undoes an installation: the package goes, and the one before it is in its place again, with its links and its `postinstall`.
    ///
    /// # Errors
    /// When a file cannot be moved. That its `postinstall` fails is logged only: it is in place.
    pub async fn put_back(&self, installed: &Installed) -> Result<(), PackageError> {
        let current = self.directory(&installed.name);
        if let Ok(failed) = Package::read(&current) {
            self.unlink(&failed);
        }
        let gone = current.clone();
        blocking(move || remove_tree(&gone)).await??;
        steps::reached("agents.cleared");
        let Some(aside) = &installed.aside else { return Ok(()) };
        fs::rename(aside, &current).map_err(system("put back", &current))?;
        if let Ok(package) = Package::read(&current) {
            self.link(&package)?;
            let never = CancellationToken::new();
            if let Err(error) = lifecycle::run(&package, "postinstall", &current, &self.prefix, SCRIPT_TIME, &never).await {
                tracing::warn!(%error, agent = package.name, "the postinstall script of an agent that was put back failed");
            }
        }
        Ok(())
    }

    /// Removes the package `name`; its file in `etc` stays. That there is none is success.
    ///
    /// # Errors
    /// When the name is none of a package, or the files cannot be removed.
    pub async fn uninstall(&self, name: &str, cancelled: &CancellationToken) -> Result<(), PackageError> {
        manifest::check_name(name)?;
        let current = self.directory(name);
        if !current.is_dir() {
            return Ok(());
        }
        if let Ok(package) = Package::read(&current) {
            self.farewell(&package, &current, cancelled).await;
            self.unlink(&package);
        }
        // A half removed package must not be taken for one: it goes by one rename.
        let holder = tempfile::Builder::new().prefix(".removing-").tempdir_in(&self.prefix);
        let holder = holder.map_err(system("make a directory in", &self.prefix))?;
        fs::rename(&current, holder.path().join(name)).map_err(system("remove", &current))?;
        steps::reached("agents.removed");
        blocking(move || drop(holder)).await
    }

    /// Puts right what an earlier run of the agent left in the middle of an installation: packages that are aside are back in place.
    /// One of this agent itself is left to the twin that is installing it, unless its place is empty. Gives their names.
    pub fn recover(&self, own: &str) -> Vec<String> {
        let mut recovered = Vec::new();
        for entry in fs::read_dir(&self.prefix).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".installing-") || name.starts_with(".removing-") {
                let _ = remove_tree(&entry.path());
            }
        }
        for entry in fs::read_dir(self.modules()).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some((name, _image)) = file.split_once(ASIDE).filter(|(name, _)| manifest::check_name(name).is_ok()) else { continue };
            let current = self.directory(name);
            if name == own && current.is_dir() {
                continue;
            }
            if let Ok(package) = Package::read(&current) {
                self.unlink(&package);
            }
            let back = remove_tree(&current).and_then(|()| fs::rename(entry.path(), &current).map_err(system("put back", &current)));
            let linked = back.and_then(|()| Package::read(&current).and_then(|package| self.link(&package)));
            match linked {
                Ok(()) => recovered.push(name.to_owned()),
                Err(error) => tracing::error!(error = %triton_agent::chain(&error), agent = name, "an agent could not be put back"),
            }
        }
        recovered
    }
}

/// Removes a directory with all that is in it; that it is not there is success.
fn remove_tree(path: &Path) -> Result<(), PackageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
