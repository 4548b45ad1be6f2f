//! Programs of packages: links in `bin`, relative as npm makes them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{Package, PackageError, Packages, system};

impl Packages {
    fn bin(&self, name: &str) -> PathBuf {
        self.prefix.join("bin").join(name)
    }

    /// Makes the package's programs executable and links them.
    pub(super) fn link(&self, package: &Package) -> Result<(), PackageError> {
        for (name, target) in package.bin() {
            let link = self.bin(name);
            let program = self.directory(&package.name).join(&target);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(system("make executable", &program))?;
            let _ = fs::remove_file(&link);
            let to = Path::new("../lib/node_modules").join(&package.name).join(target);
            symlink(to, &link).map_err(system("make the link", &link))?;
        }
        Ok(())
    }

    /// Removes the package's links, and none that leads elsewhere.
    pub(super) fn unlink(&self, package: &Package) {
        let own = Path::new("../lib/node_modules").join(&package.name);
        for (name, _) in package.bin() {
            let link = self.bin(name);
            if fs::read_link(&link).is_ok_and(|to| to.starts_with(&own)) {
                let _ = fs::remove_file(&link);
            }
        }
    }
}
