//! Why an operation on an instance failed, in the words that callers match on (instances.md section 4.2).

use triton_files::{FileError, LockError};
use triton_types::InstanceUuid;

/// An operation on an instance failed. The text is what `vmadm` prints and cn-agent answers with.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is no such instance.
    #[error("zoneadm: {uuid}: No such zone configured")]
    NotFound {
        /// The instance asked for.
        uuid: InstanceUuid,
    },
    /// Its machine file is there and cannot be used: it exists, and more is not known (ruling 1).
    #[error("instance {uuid} exists but its machine file cannot be used: {reason}")]
    Unreadable {
        /// The instance.
        uuid: InstanceUuid,
        /// What is wrong with the file.
        reason: String,
    },
    /// The payload is refused; nothing was changed.
    #[error(transparent)]
    Payload(#[from] triton_vmspec::PayloadError),
    /// A uuid is taken.
    #[error("VM with UUID {uuid} already exists")]
    Exists {
        /// The uuid.
        uuid: InstanceUuid,
    },
    /// A dataset of that name is there without an instance.
    #[error("Dataset {dataset} exists.")]
    DatasetExists {
        /// `<pool>/<uuid>`.
        dataset: String,
    },
    /// Start of a running instance.
    #[error("VM {uuid} is already 'running'")]
    AlreadyRunning {
        /// The instance.
        uuid: InstanceUuid,
    },
    /// Stop of an instance that does not run.
    #[error("VM {uuid} is already not 'running' (currently: {state})")]
    AlreadyStopped {
        /// The instance.
        uuid: InstanceUuid,
        /// Its state.
        state: String,
    },
    /// A signal for an instance without init.
    #[error("Cannot find running init PID for VM {uuid}")]
    NoInit {
        /// The instance.
        uuid: InstanceUuid,
    },
    /// The state does not allow the operation; the text is complete.
    #[error("{0}")]
    WrongState(String),
    /// NIC tags that this node does not have, one line each.
    #[error("{0}")]
    NicTags(String),
    /// No such signal.
    #[error("Unknown signal \"{0}\"")]
    UnknownSignal(String),
    /// The instance's protection forbids it; the text is complete.
    #[error("{0}")]
    Protected(String),
    /// Not the name of a snapshot.
    #[error("Invalid snapshot name")]
    InvalidSnapshotName,
    /// A snapshot of that name is there.
    #[error("snapshot with name \"{name}\" already exists.")]
    SnapshotExists {
        /// Its name.
        name: String,
    },
    /// There is no such snapshot.
    #[error("No snapshot named \"{name}\" for {uuid}")]
    NoSnapshot {
        /// The instance.
        uuid: InstanceUuid,
        /// The name asked for.
        name: String,
    },
    /// `zfs_snapshot_limit` is reached.
    #[error("instance {uuid} has as many snapshots as its zfs_snapshot_limit allows")]
    SnapshotLimit {
        /// The instance.
        uuid: InstanceUuid,
    },
    /// A snapshot would not hold all of it.
    #[error("Cannot currently snapshot zones that have datasets")]
    HasDatasets,
    /// A reprovisioning without an image.
    #[error("payload is missing image_uuid")]
    NoImageInPayload,
    /// Something did not happen in time; the text is complete.
    #[error("{0}")]
    Timeout(String),
    /// The guest did not start.
    #[error("could not start instance {uuid}: {reason}")]
    StartFailed {
        /// The instance.
        uuid: InstanceUuid,
        /// The monitor's words, with the lines of LXC's log.
        reason: String,
    },
    /// The instance is being changed by somebody else.
    #[error("instance {uuid} is busy: {source}")]
    Busy {
        /// The instance.
        uuid: InstanceUuid,
        /// Who holds it, for what.
        source: LockError,
    },
    /// A step of a change failed.
    #[error("could not {action} instance {uuid}: {source}")]
    Step {
        /// What was being done.
        action: &'static str,
        /// The instance.
        uuid: InstanceUuid,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What `vmadm receive` was given is no whole instance.
    #[error("the stream cannot be received: {0}")]
    Stream(String),
    /// The node's own files or storage cannot be used.
    #[error("{0}")]
    Node(String),
    /// A file of the node cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl InstanceError {
    /// The code that callers decide by: vmadm's `restCode` words and errno names (instances.md section 4.2).
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some("VmNotFound"),
            Self::AlreadyRunning { .. } => Some("EALREADYRUNNING"),
            Self::AlreadyStopped { .. } | Self::NoInit { .. } => Some("ENOTRUNNING"),
            Self::Exists { .. } => Some("EEXIST"),
            Self::Busy { .. } => Some("EBUSY"),
            Self::Timeout(_) => Some("ETIMEDOUT"),
            _ => None,
        }
    }

    /// Wraps what made the step `action` on `uuid` fail.
    pub(crate) fn step<E>(action: &'static str, uuid: InstanceUuid) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Step { action, uuid, source: source.into() }
    }
}

/// The text of an error and of everything that caused it, joined by `: `.
pub fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
