//! The directory through which a guest reaches the metadata service (metadata.md section 5.2).
//!
//! It is made before the guest, by whoever comes first, and never replaced while the instance exists: running guests have it
//! mounted, and see a new socket in it, but not a new directory.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::PathBuf,
};

use triton_files::{FileError, Layout};
use triton_types::{IdRange, InstanceUuid};

/// Name of the socket in the directory.
pub const SOCKET: &str = "metadata.sock";
/// Where guests see the directory, relative to their root: the second is that of lx images.
pub(crate) const GUEST_PATHS: [&str; 2] = [".zonecontrol", "native/.zonecontrol"];
/// Where guests see the host's tools.
pub(crate) const NATIVE: &str = "native";

/// Makes the directory, or finds it: the host's own, passed by the group of the guest's root and by nobody else.
///
/// # Errors
/// When it cannot be made.
pub fn ensure(layout: &Layout, uuid: InstanceUuid, ids: IdRange) -> Result<PathBuf, FileError> {
    let path = layout.zonecontrol(uuid);
    let error = |action: &'static str| {
        let path = path.clone();
        move |e: io::Error| FileError::new(action, path, e)
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(error("create the directory of"))?;
        fs::set_permissions(parent, Permissions::from_mode(0o711)).map_err(error("set the mode of the directory of"))?;
    }
    match DirBuilder::new().mode(0o700).create(&path) {
        // The caller may speak of an instance that is being deleted: whoever looks last, here or there, removes it.
        Ok(()) if !layout.machine(uuid).exists() => {
            let _ = remove(layout, uuid);
            return Err(error("make, for an instance that is gone,")(io::ErrorKind::NotFound.into()));
        }
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(error("create directory")(e)),
        _ => {}
    }
    chown(&path, Some(0), Some(ids.base)).map_err(error("give to the guest's group"))?;
    fs::set_permissions(&path, Permissions::from_mode(0o750)).map_err(error("set the mode of"))?;
    Ok(path)
}

/// How often a directory is emptied into which the metadata service is just putting a socket.
const TRIES: usize = 5;

/// Removes the directory of an instance that is gone; that there is none is success.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(layout: &Layout, uuid: InstanceUuid) -> Result<(), FileError> {
    let path = layout.zonecontrol(uuid);
    let mut left = TRIES;
    loop {
        left -= 1;
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && left > 0 => {}
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(FileError::new("remove", path, e)),
            _ => return Ok(()),
        }
    }
}
