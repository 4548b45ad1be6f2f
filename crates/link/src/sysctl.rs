//! Settings of a link that exist only below `/proc/sys/net`, which shows the reading thread's namespace.

use std::{fs, io, path::Path};

use crate::{Cause, LinkError, Links, links::check_name};

/// Which settings of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `net.ipv4.conf.<link>`.
    Ipv4,
    /// `net.ipv6.conf.<link>`.
    Ipv6,
}

impl Links {
    /// Sets `net.<family>.conf.<name>.<key>`. False if this kernel has no such family.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link, `NotFound` if there is no such key.
    pub fn set_sysctl(&self, family: Family, name: &str, key: &'static str, value: &str) -> Result<bool, LinkError> {
        let error = |cause: Cause| LinkError::new("set a sysctl of", format!("{name} ({key})"), cause);
        check_name(name).map_err(error)?;
        let family = match family {
            Family::Ipv4 => "/proc/sys/net/ipv4/conf",
            Family::Ipv6 => "/proc/sys/net/ipv6/conf",
        };
        let write = || -> Result<bool, Cause> {
            let family = Path::new(family);
            match fs::write(family.join(name).join(key), value) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
                Err(_) if !family.exists() => Ok(false),
                Err(_) if !family.join(name).exists() => Err(Cause::kernel(libc::ENODEV)),
                Err(e) => Err(e.into()),
            }
        };
        self.netns().run(write).and_then(|done| done).map_err(error)
    }

    /// Takes IPv6 away from `name`, its addresses included: for bridges and their ports, which only carry frames.
    ///
    /// # Errors
    /// As [`Links::set_sysctl`].
    pub fn disable_ipv6(&self, name: &str) -> Result<(), LinkError> {
        self.set_sysctl(Family::Ipv6, name, "disable_ipv6", "1").map(drop)
    }
}
