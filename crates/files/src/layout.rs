//! Where things are on a compute node, below a root (design section 10: every program takes `--root DIR`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use triton_types::{ImageUuid, InstanceUuid, ServerUuid};

use crate::{FileError, read_json, write_json};

/// The paths of one compute node below `root` (`/` in production). Paths only: nothing is created but by [`Layout::prepare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The node below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// True for the machine's own root: a real compute node.
    pub fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of the contracts, below this root.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// `/var/triton`: state that survives a reboot.
    pub fn state(&self) -> PathBuf {
        self.at("/var/triton")
    }

    /// The marker in [`Layout::state`] without which a list of instances counts for nothing (design section 9, invariant 1).
    pub fn marker(&self) -> PathBuf {
        self.at("/var/triton/.triton-state")
    }

    /// Directory of the machine files.
    pub fn machines(&self) -> PathBuf {
        self.at("/var/triton/vmadm/machines")
    }

    /// The machine file of an instance.
    pub fn machine(&self, uuid: InstanceUuid) -> PathBuf {
        self.machines().join(format!("{uuid}.json"))
    }

    /// Directory of the run-state files.
    pub fn run_states(&self) -> PathBuf {
        self.at("/run/triton/instances")
    }

    /// The run-state file of an instance.
    pub fn run_state(&self, uuid: InstanceUuid) -> PathBuf {
        self.run_states().join(format!("{uuid}.json"))
    }

    /// Rendered files of an instance: LXC config, NIC plan, logs of the monitor. Derived, never edited.
    pub fn runtime(&self, uuid: InstanceUuid) -> PathBuf {
        self.at("/run/triton/runtime").join(uuid.to_string())
    }

    /// What of an instance's control is shown to its guest: the directory of its metadata socket (metadata.md section 5.2).
    pub fn zonecontrol(&self, uuid: InstanceUuid) -> PathBuf {
        self.at("/var/zonecontrol").join(uuid.to_string())
    }

    /// What every guest is shown at `/native`: the guest's tools (metadata.md section 5.2).
    pub fn native(&self) -> PathBuf {
        self.at("/usr/triton/native")
    }

    /// Directory of locks.
    pub fn locks(&self) -> PathBuf {
        self.at("/run/triton/locks")
    }

    /// The lock of one instance.
    pub fn instance_lock(&self, uuid: InstanceUuid) -> PathBuf {
        self.locks().join(format!("vm.{uuid}.lock"))
    }

    /// The lock of one image's import (instances.md section 8.5).
    pub fn image_lock(&self, uuid: ImageUuid) -> PathBuf {
        self.at("/var/run").join(format!("img.{uuid}.import.lock"))
    }

    /// `/var/imgadm`.
    pub fn imgadm(&self) -> PathBuf {
        self.at("/var/imgadm")
    }

    /// Downloads of images.
    pub fn downloads(&self) -> PathBuf {
        self.at("/var/tmp/.imgadm-downloads")
    }

    /// The guard file of a creation under way (cn-agent.md section 3.3).
    pub fn provision_guard(&self, uuid: InstanceUuid) -> PathBuf {
        self.at("/var/tmp").join(format!("machine-provision-{uuid}"))
    }

    /// `/usr/triton/config`: what the headnode gave this node.
    pub fn config(&self) -> PathBuf {
        self.at("/usr/triton/config")
    }

    /// Directory with the pinned namespaces of a node that is not the whole machine (ruling 46): `net` and `mnt`.
    pub fn namespaces(&self) -> PathBuf {
        self.at("/run/triton/ns")
    }

    /// The file of this node's own identity.
    pub fn identity(&self) -> PathBuf {
        self.at("/var/triton/identity.json")
    }

    /// Creates the directories of what is known of this boot only: they are gone after a reboot, whoever comes first makes them.
    ///
    /// # Errors
    /// Names the directory that could not be made.
    pub fn prepare_run(&self) -> Result<(), FileError> {
        make(&[(self.run_states(), 0o755), (self.at("/run/triton/runtime"), 0o711), (self.locks(), 0o700)])
    }

    /// Creates the directories that every program may count on, with their modes, and the state marker.
    ///
    /// # Errors
    /// Names the directory that could not be made.
    pub fn prepare(&self) -> Result<(), FileError> {
        self.prepare_run()?;
        let directories = [
            (self.machines(), 0o700),
            (self.at("/var/zonecontrol"), 0o711),
            (self.imgadm().join("images"), 0o755),
            (self.downloads(), 0o700),
            (self.at("/var/run"), 0o755),
            (self.at("/var/log/cn-agent/logs"), 0o755),
            (self.config(), 0o755),
        ];
        make(&directories)?;
        if !self.marker().exists() {
            crate::write_atomic(&self.marker(), b"instances of this compute node are described below this directory\n", 0o644)?;
        }
        Ok(())
    }

    /// Checks invariant 1: the store of instances is there, so that an empty list means none.
    ///
    /// # Errors
    /// When the marker cannot be read: the file system that holds it is not mounted.
    pub fn check_store(&self) -> Result<(), FileError> {
        let marker = self.marker();
        match fs::metadata(&marker) {
            Ok(_) => Ok(()),
            Err(e) => Err(FileError::new(
                "find the state marker",
                marker,
                io::Error::new(e.kind(), format!("the store of instances is not there: {e}")),
            )),
        }
    }
}

/// What sets this node apart from others under the same kernel (ruling 45). Persistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's uuid instead of the machine's own (DMI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_uuid: Option<ServerUuid>,
    /// Prefix of cgroups (and of everything else that shares a name space with other nodes): `triton` on a real one.
    pub prefix: String,
}

impl Identity {
    /// The identity of the node below `layout`, made at first use: a real node has the prefix `triton` and the
    /// machine's uuid, another root gets both of its own.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn load_or_create(layout: &Layout) -> Result<Self, FileError> {
        let path = layout.identity();
        if let Some(identity) = read_json(&path)? {
            return Ok(identity);
        }
        let identity = if layout.is_host() {
            Self { override_uuid: None, prefix: "triton".to_owned() }
        } else {
            let uuid = ServerUuid::random();
            let short: String = uuid.to_string().chars().take(8).collect();
            Self { override_uuid: Some(uuid), prefix: format!("triton-{short}") }
        };
        write_json(&path, &identity, 0o644)?;
        Ok(identity)
    }
}

/// Makes directories that are missing. Only each itself is closed, not those above it.
fn make(directories: &[(PathBuf, u32)]) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let one = |directory: &Path, mode| {
        fs::DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(|e| FileError::new("create directory", directory, e))
    };
    for (directory, mode) in directories {
        directory.parent().map_or(Ok(()), |parent| one(parent, 0o755))?;
        one(directory, *mode)?;
    }
    Ok(())
}
