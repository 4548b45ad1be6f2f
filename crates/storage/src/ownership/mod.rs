//! How a guest's root owns its files: by an idmapped mount where kernel and file system can, else by shifted ids on disk
//! (instances.md section 7.2).

mod acl;
mod capability;
mod shift;

#[cfg(test)]
mod tests;

pub use shift::{ShiftError, shift, unshift};

use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path};

use nix::errno::Errno;
use triton_types::{IdRange, Ownership};

use crate::tree::{TreeError, ffi};

/// Any range does for the trial: nothing is written by it.
const TRIAL_BASE: u32 = 1_000_000;

/// Tries an idmapped mount of the file system that holds `path`, on a detached copy of its mount that is gone afterwards.
///
/// # Errors
/// When the trial itself is impossible (`path` is not there, no process can be made); a kernel, file system or lack of
/// privilege that refuses is an answer: [`Ownership::Shifted`].
pub fn detect(path: &Path) -> Result<Ownership, TreeError> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| TreeError::new("try an idmapped mount of", path, e))?;
    let refused = |errno| matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM | Errno::ENOSPC | Errno::EUSERS);
    let trial = || {
        std::fs::symlink_metadata(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        let namespace = ffi::user_namespace(TRIAL_BASE)?;
        let mount = ffi::detached_mount(&name)?;
        ffi::map_ids(&mount, &namespace)
    };
    match trial() {
        Ok(()) => Ok(Ownership::Idmapped),
        Err(errno) if refused(errno) => {
            tracing::debug!(path = %path.display(), %errno, "no idmapped mount");
            Ok(Ownership::Shifted)
        }
        Err(errno) => Err(TreeError::new("try an idmapped mount of", path, errno)),
    }
}

/// The value of an extended attribute as it is where the guest's ids are not shifted; the host id that an ACL names and that
/// is not in the range.
pub(crate) fn unshifted(name: &str, value: &[u8], ids: IdRange) -> Result<Vec<u8>, u32> {
    let IdRange { base, size } = ids;
    match name {
        "security.capability" => Ok(capability::unshifted(value, base, size)),
        "system.posix_acl_access" | "system.posix_acl_default" => {
            match acl::map(value, |id| id.checked_sub(base).filter(|offset| *offset < size).ok_or(id)) {
                Some(acl::Acl::Changed(new)) => Ok(new),
                Some(acl::Acl::Refused(id)) => Err(id),
                Some(acl::Acl::Unchanged) | None => Ok(value.to_vec()),
            }
        }
        _ => Ok(value.to_vec()),
    }
}
