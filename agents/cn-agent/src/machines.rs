//! All that tasks know of instances and images: two small traits, so that tasks can be judged without a kernel.
//!
//! The real ones are in [`crate::real`]. All calls block and are made through [`crate::tasks::Model`].

use std::io::{Read, Write};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use triton_types::{ImageUuid, InstanceUuid, JsonMap};

use crate::GuestPlace;

/// An operation on an instance or image failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MachineError {
    /// What vmadm or imgadm would say.
    pub message: String,
    /// What callers decide by: `VmNotFound`, `EALREADYRUNNING`, `ENOTRUNNING`, `ESRCH`, ...
    pub code: Option<String>,
}

impl MachineError {
    /// An error with a code.
    pub fn new(message: impl Into<String>, code: Option<&str>) -> Self {
        Self { message: message.into(), code: code.map(str::to_owned) }
    }

    /// True if the code is one of `codes`.
    pub fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// The code if it is one that CNAPI is told: `details.restCode` (section 3).
    pub fn rest_code(&self) -> Option<String> {
        self.code.clone().filter(|_| self.is(&["VmNotFound", "VmNotRunning"]))
    }
}

/// How to stop or reboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// At once, without asking the guest.
    pub force: bool,
    /// Seconds until a guest that was asked is forced.
    pub timeout_secs: Option<u64>,
}

/// Instances of this node.
pub trait Machines: Send + Sync + 'static {
    /// True if it exists, hidden ones (`do_not_inventory`) included.
    ///
    /// # Errors
    /// When that cannot be told: the store of instances is not there.
    fn exists(&self, uuid: InstanceUuid) -> Result<bool, MachineError>;

    /// The whole VM object as `vmadm get` prints it.
    ///
    /// # Errors
    /// Code `VmNotFound` if there is no such instance, or it is hidden and `include_dni` is false.
    fn load(&self, uuid: InstanceUuid, include_dni: bool) -> Result<Value, MachineError>;

    /// Makes an instance from a payload, and starts it as the payload says.
    ///
    /// # Errors
    /// Nothing is left of an instance whose creation failed, or it is there in state `failed`.
    fn create(&self, payload: JsonMap) -> Result<(), MachineError>;

    /// Changes properties of an instance.
    ///
    /// # Errors
    /// When the update is refused, or this version cannot make it.
    fn update(&self, uuid: InstanceUuid, update: JsonMap) -> Result<(), MachineError>;

    /// The VM objects of all instances that are not hidden.
    ///
    /// # Errors
    /// When the list is not complete.
    fn list(&self) -> Result<Vec<Value>, MachineError>;

    /// Makes a snapshot.
    ///
    /// # Errors
    /// When the name is not legal or taken, or storage refuses.
    fn create_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError>;

    /// Destroys a snapshot.
    ///
    /// # Errors
    /// `No snapshot named ...` when there is none.
    fn delete_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError>;

    /// Puts an instance back to a snapshot, and starts it.
    ///
    /// # Errors
    /// When there is no such snapshot, or the instance does not start.
    fn rollback_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError>;

    /// Gives an instance the image that `payload` names, and starts it.
    ///
    /// # Errors
    /// When it is refused, or the instance does not start.
    fn reprovision(&self, uuid: InstanceUuid, payload: &JsonMap) -> Result<(), MachineError>;

    /// Starts it.
    ///
    /// # Errors
    /// Code `EALREADYRUNNING` if it runs.
    fn start(&self, uuid: InstanceUuid) -> Result<(), MachineError>;

    /// Stops it.
    ///
    /// # Errors
    /// Code `ENOTRUNNING` or `ESRCH` if it does not run.
    fn stop(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError>;

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// When it does not run, too.
    fn reboot(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError>;

    /// Sends its init a signal (a name or number; SIGTERM without one).
    ///
    /// # Errors
    /// Code `ENOTRUNNING` or `ESRCH` if it does not run.
    fn kill(&self, uuid: InstanceUuid, signal: Option<&str>) -> Result<(), MachineError>;

    /// Deletes it.
    ///
    /// # Errors
    /// Code `VmNotFound` if there is no such instance.
    fn delete(&self, uuid: InstanceUuid) -> Result<(), MachineError>;

    /// Bytes that its files take, about as many as [`Machines::send`] writes.
    ///
    /// # Errors
    /// Code `VmNotFound` if there is no such instance.
    fn used(&self, uuid: InstanceUuid) -> Result<u64, MachineError>;

    /// Writes it to `out`, for [`Machines::receive`] of another node. It is stopped, and stays so meanwhile.
    ///
    /// # Errors
    /// When it is not stopped, or cannot be read or written.
    fn send(&self, uuid: InstanceUuid, out: &mut dyn Write) -> Result<(), MachineError>;

    /// Makes the instance `uuid` of what [`Machines::send`] wrote: stopped, hidden, and without starting by itself. It takes the place
    /// of an earlier hidden and stopped one; nothing of it stays unless all of it arrived.
    ///
    /// # Errors
    /// When the stream is of another instance, or there is one that is not to be replaced.
    fn receive(&self, uuid: InstanceUuid, from: &mut dyn Read) -> Result<(), MachineError>;

    /// What another node needs to know to say what it has of this instance ([`Machines::have`]); none if it cannot be sent by streams of ZFS.
    ///
    /// # Errors
    /// When it cannot be read.
    fn offer(&self, uuid: InstanceUuid) -> Result<Option<Value>, MachineError>;

    /// What this node has of an instance that another one offers; none if it takes no streams of ZFS.
    ///
    /// # Errors
    /// When that cannot be told, or the offer is none.
    fn have(&self, uuid: InstanceUuid, offer: &Value) -> Result<Option<Value>, MachineError>;

    /// As [`Machines::send`], for [`Machines::receive_changes`] of another node that has what `have` says: only the rest is sent.
    ///
    /// # Errors
    /// As [`Machines::send`].
    fn send_changes(&self, uuid: InstanceUuid, have: &Value, out: &mut dyn Write) -> Result<(), MachineError>;

    /// As [`Machines::receive`], of what [`Machines::send_changes`] wrote: an earlier copy becomes the new one.
    ///
    /// # Errors
    /// As [`Machines::receive`].
    fn receive_changes(&self, uuid: InstanceUuid, from: &mut dyn Read) -> Result<(), MachineError>;

    /// Removes the snapshots by which copies are brought up to date, but the newest `keep`.
    ///
    /// # Errors
    /// When one cannot be removed.
    fn forget_marks(&self, uuid: InstanceUuid, keep: usize) -> Result<(), MachineError>;

    /// Where it is, for doing something inside it; its root is mounted then.
    ///
    /// # Errors
    /// Code `VmNotFound` if there is no such instance.
    fn place(&self, uuid: InstanceUuid) -> Result<GuestPlace, MachineError>;

    /// Runtime facts (`vmadm info`), as the JSON text that it prints.
    ///
    /// # Errors
    /// When it does not run.
    fn info(&self, uuid: InstanceUuid, types: &[String]) -> Result<String, MachineError>;
}

/// What `machine_create_image` asks for (cn-agent.md section 3.6).
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRequest {
    /// `none`, `gzip`, `bzip2` or `xz`.
    pub compression: String,
    /// The image server that gets the image.
    pub imgapi_url: String,
    /// Fields of its manifest.
    pub manifest: JsonMap,
    /// Only what differs from the instance's image.
    pub incremental: bool,
    /// Most ancestors that an incremental image may have.
    pub max_origin_depth: Option<usize>,
    /// To be run in the instance before.
    pub prepare_script: Option<String>,
    /// The caller's request id.
    pub request_id: String,
}

/// Images of this node.
pub trait Images: Send + Sync + 'static {
    /// The manifest of an installed image.
    ///
    /// # Errors
    /// When that cannot be told.
    fn get(&self, uuid: ImageUuid) -> Result<Option<Value>, MachineError>;

    /// Imports an image with its origins from the configured sources, into `pool` (the node's own without one). Requests carry
    /// `request_id`; the import ends early when `cancelled` fires.
    ///
    /// # Errors
    /// imgadm's words.
    fn import(&self, uuid: ImageUuid, pool: Option<&str>, request_id: &str, cancelled: &CancellationToken) -> Result<(), MachineError>;

    /// Makes an image of a stopped instance and publishes it.
    ///
    /// # Errors
    /// imgadm's words and code: `VmNotStopped`, `VmNotFound`, `ManifestValidation`, ...
    fn create(&self, uuid: InstanceUuid, request: &ImageRequest, cancelled: &CancellationToken) -> Result<(), MachineError>;
}
