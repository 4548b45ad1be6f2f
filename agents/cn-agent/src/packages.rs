//! Installed agents: packages below `/opt/smartdc/agents` with the scripts of their life (cn-agent.md section 3.11).
//!
//! An installation first notes that it begins: a directory named after the package and the image. It sets the installed package aside
//! there, puts the new one in its place, and destroys what was set aside when all of it has succeeded. What fails, or is interrupted, is
//! put back: by the installation itself, or by the next start of the agent, which finds the note.

mod archive;
mod aside;
mod lifecycle;
mod links;
mod manifest;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use triton_files::{Layout, Lock, steps};

pub use manifest::Package;

use aside::{ASIDE, Aside};

/// Beginnings of names of directories that are filled or emptied.
const INSTALLING: &str = ".installing-";
const REMOVING: &str = ".removing-";
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
    claim: PathBuf,
}

/// What was set aside for an installation that is done but not yet proven; destroyed by [`Packages::keep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Name of the package.
    pub name: String,
    /// Version that is installed now.
    pub version: String,
    aside: Aside,
}

/// Makes a call on a thread where it may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, PackageError> {
    let died = |error: tokio::task::JoinError| PackageError::Archive(format!("the installation broke off: {error}"));
    tokio::task::spawn_blocking(call).await.map_err(died)
}

impl Packages {
    /// Those of the node below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self {
            prefix: layout.at("/opt/smartdc/agents"),
            scratch: layout.at("/var/tmp"),
            claim: layout.locks().join("cn-agent-update.lock"),
        }
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

    /// Claims the right to replace this agent itself, until the claim is dropped. While it is held, no start of the agent takes the
    /// installation for one that was interrupted.
    ///
    /// # Errors
    /// When somebody else has it, or the lock's file cannot be used.
    pub async fn claim(&self) -> Result<Lock, PackageError> {
        let path = self.claim.clone();
        let taken = blocking(move || Lock::take(&path, "install cn-agent", Duration::ZERO)).await?;
        taken.map_err(|error| PackageError::Archive(format!("another installation is under way: {}", triton_agent::chain(&error))))
    }

    /// Brings files and names to the disk, so that a power cut leaves either what was before or all of what is now.
    fn sync(&self) -> Result<(), PackageError> {
        let all = File::open(&self.prefix).and_then(|directory| Ok(nix::unistd::syncfs(&directory)?));
        all.map_err(system("write to disk", &self.prefix))
    }

    /// Installs the archive of image `image` as the package `name`, in place of an installed one. The latter is kept aside until
    /// [`Packages::keep`]; [`Packages::put_back`] undoes the installation.
    ///
    /// # Errors
    /// When the archive is not that of `name`, a script of it fails, or `cancelled` fires: everything is then as it was.
    pub async fn install(&self, archive: &Path, name: &str, image: &str, cancelled: &CancellationToken) -> Result<Installed, PackageError> {
        manifest::check_name(name)?;
        let (packages, archive, wanted) = (self.clone(), archive.to_owned(), name.to_owned());
        // Gone with the last use of it, whatever happens.
        let unpacked = blocking(move || packages.unpack(&archive, &wanted)).await??;
        let fresh = unpacked.path().join(name);
        let package = Package::read(&fresh)?;
        if package.name != name {
            let reason = format!("its package.json is of {:?}, its image of {name:?}", package.name);
            return Err(PackageError::Manifest { package: name.to_owned(), reason });
        }
        let aside = Aside::begin(self, name, image)?;
        let installed = Installed { name: name.to_owned(), version: package.version.clone(), aside };
        match self.replace(&package, &fresh, &installed.aside, cancelled).await {
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
        for directory in ["lib/node_modules", "bin", "etc", "db", "smf"].map(|name| self.prefix.join(name)) {
            fs::create_dir_all(&directory).map_err(system("make", &directory))?;
        }
        // On the same file system as the packages, so that a rename is all it takes.
        let holder = tempfile::Builder::new().prefix(INSTALLING).tempdir_in(&self.prefix);
        let holder = holder.map_err(system("make a directory in", &self.prefix))?;
        archive::unpack(archive, holder.path())?;
        let package = holder.path().join(name);
        archive::check_links(&package)?;
        if !package.join("image_uuid").is_file() {
            return Err(PackageError::Archive(format!("the image is not that of an agent: it has no {name}/image_uuid")));
        }
        self.sync()?;
        steps::reached("agents.unpacked");
        Ok(holder)
    }

    async fn replace(&self, package: &Package, fresh: &Path, aside: &Aside, cancelled: &CancellationToken) -> Result<(), PackageError> {
        let current = self.directory(&package.name);
        if aside.replaces {
            let old = Package::read(&current).ok();
            if let Some(old) = &old {
                self.farewell(old, &current, cancelled).await;
                steps::reached("agents.farewell");
            }
            fs::rename(&current, &aside.path).map_err(system("set aside", &current))?;
            steps::reached("agents.aside");
            if let Some(old) = &old {
                self.unlink(old);
            }
        }
        lifecycle::run(package, "preinstall", fresh, &self.prefix, SCRIPT_TIME, cancelled).await?;
        steps::reached("agents.preinstalled");
        fs::rename(fresh, &current).map_err(system("put in place", &current))?;
        steps::reached("agents.placed");
        self.link(package)?;
        steps::reached("agents.linked");
        lifecycle::run(package, "postinstall", &current, &self.prefix, SCRIPT_TIME, cancelled).await?;
        steps::reached("agents.postinstalled");
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

    /// The `postinstall` script of a package that is in place again. That it fails is logged only.
    async fn welcome(&self, package: &Package) {
        let never = CancellationToken::new();
        let directory = self.directory(&package.name);
        if let Err(error) = lifecycle::run(package, "postinstall", &directory, &self.prefix, SCRIPT_TIME, &never).await {
            tracing::warn!(%error, agent = package.name, "the postinstall script of an agent that was put back failed");
        }
    }

    /// The installation is proven: what was set aside for it goes.
    ///
    /// # Errors
    /// When that cannot be: the next start of the agent would undo the installation.
    pub async fn keep(&self, installed: &Installed) -> Result<(), PackageError> {
        let (packages, aside) = (self.clone(), installed.aside.clone());
        blocking(move || {
            packages.sync()?;
            packages.discard(&aside.path)?;
            packages.sync()
        })
        .await??;
        steps::reached("agents.kept");
        Ok(())
    }

    /// Undoes an installation: the package goes, and the one before it is in its place again, with its links and its `postinstall`.
    ///
    /// # Errors
    /// When a file cannot be moved. That its `postinstall` fails is logged only: it is in place.
    pub async fn put_back(&self, installed: &Installed) -> Result<(), PackageError> {
        let (packages, name, aside) = (self.clone(), installed.name.clone(), installed.aside.path.clone());
        if let Some(package) = blocking(move || packages.restore(&name, &aside)).await?? {
            self.welcome(&package).await;
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
        let package = Package::read(&current).ok();
        if let Some(package) = &package {
            self.farewell(package, &current, cancelled).await;
            steps::reached("agents.farewell");
        }
        // A half removed package must not be taken for one: its links go first, then it goes by one rename.
        if let Some(package) = &package {
            self.unlink(package);
        }
        let packages = self.clone();
        blocking(move || packages.discard(&current)).await??;
        steps::reached("agents.removed");
        Ok(())
    }

    /// Puts right what an earlier run of the agent left in the middle of an installation: what is aside is back in place. That of the
    /// agent `own` itself is left to the twin that is installing it, as long as there is one. Gives the packages that are back, for
    /// [`Packages::welcome_all`]. Blocking.
    pub fn recover(&self, own: &str) -> Vec<Package> {
        let mut recovered = Vec::new();
        for entry in fs::read_dir(&self.prefix).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(INSTALLING) && Lock::is_free(&self.claim) || name.starts_with(REMOVING) {
                let _ = remove_tree(&entry.path());
            }
        }
        recovered.extend(self.restore_where(|name| name != own));
        recovered.extend(self.recover_own(own));
        recovered
    }

    /// As [`Packages::recover`], for the agent `own` alone. Blocking.
    pub fn recover_own(&self, own: &str) -> Vec<Package> {
        if Lock::is_free(&self.claim) { self.restore_where(|name| name == own) } else { Vec::new() }
    }

    fn restore_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<Package> {
        let mut restored = Vec::new();
        for (name, aside) in self.asides().into_iter().filter(|(name, _)| wanted(name)) {
            match self.restore(&name, &aside) {
                Ok(package) => restored.extend(package),
                Err(error) => tracing::error!(error = %triton_agent::chain(&error), agent = name, "an agent could not be put back"),
            }
        }
        restored
    }

    /// Runs the `postinstall` scripts of packages that are back.
    pub async fn welcome_all(&self, packages: &[Package]) {
        for package in packages {
            self.welcome(package).await;
        }
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
