//! Where a guest is, for programs that do something inside it.

use std::path::PathBuf;

use triton_types::{IdRange, InstanceUuid, Ownership, ProcessRef};

use crate::{InstanceError, Instances};

/// Where a guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPlace {
    /// Its root on the host, mounted.
    pub root: PathBuf,
    /// Its ids on the host.
    pub ids: IdRange,
    /// How its files are owned on disk.
    pub ownership: Ownership,
    /// Its init, while it runs.
    pub init: Option<ProcessRef>,
    /// The control group of its processes, relative to the hierarchies' roots.
    pub payload: String,
}

impl Instances {
    /// Where the guest is now.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`]; when its root is not complete or cannot be mounted.
    pub fn place(&self, uuid: InstanceUuid) -> Result<GuestPlace, InstanceError> {
        let machine = self.machines.read(uuid)?.file;
        let (run, presence) = self.run_of(uuid);
        let Some((ids, Some(ownership))) = machine.storage.map(|storage| (storage.ids, storage.ownership)) else {
            return Err(InstanceError::Node(format!("the root of instance {uuid} is not complete")));
        };
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        let init = run.init.filter(|_| presence.has_init());
        Ok(GuestPlace { root: self.storage.root(uuid), ids, ownership, init, payload: format!("{}/payload", self.cgroup(uuid)) })
    }
}
