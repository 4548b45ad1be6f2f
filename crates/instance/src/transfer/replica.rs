//! Moving a stopped instance by streams of ZFS (cn-agent.md section 3.12): its datasets with their snapshots, the volumes and what
//! the guest manages itself with them, and at each later time only what has changed.

use std::io::{self, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use triton_files::{FileError, steps};
use triton_storage::{Part, Points, StorageError, plan_copy, unshift};
use triton_types::{IdRange, ImageUuid, InstanceUuid, Lifecycle, MachineFile, Ownership, Timestamp, VmConfig};

use super::{
    Head,
    parts::{PartReader, PartsWriter},
    stream::{DATASETS, FrameReader, FrameWriter},
};
use crate::{
    InstanceError, Instances, boot,
    guest_root::{clone_options, data_options},
    instances::PATIENCE,
};

/// What the node that has an instance says of it, so that the other one can say what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The image that the instance was made from, if it is still a clone of it, and the number of the image's snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<(ImageUuid, u64)>,
}

/// What the other node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Snapshots of the copy that is there.
    pub points: Points,
    /// It has the image too.
    pub image: bool,
}

/// The description at the beginning of a stream.
#[derive(Debug, Serialize, Deserialize)]
struct ReplicaHead {
    #[serde(flatten)]
    head: Head,
    /// A copy that is there has nothing in common with this.
    anew: bool,
}

/// Why streams cannot be written: the way, or what is sent.
enum SendError {
    Way(io::Error),
    Storage(StorageError),
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        Self::Way(error)
    }
}

impl Instances {
    /// How this instance can be sent by streams of ZFS; none if it cannot: its files have the ids of a range of this node, or are in
    /// directories.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn offer(&self, uuid: InstanceUuid) -> Result<Option<Offer>, InstanceError> {
        let machine = self.machines.read_alone(uuid)?;
        if !self.storage.can_replicate() || machine.storage.and_then(|storage| storage.ownership) != Some(Ownership::Idmapped) {
            return Ok(None);
        }
        let image = self.storage.origin(uuid).map_err(InstanceError::step("look for the image of", uuid))?;
        Ok(Some(Offer { image }))
    }

    /// What this node has of an instance that is offered to it; none if it takes no streams of ZFS.
    ///
    /// # Errors
    /// When storage does not answer.
    pub fn have(&self, uuid: InstanceUuid, offer: &Offer) -> Result<Option<Have>, InstanceError> {
        if !self.storage.can_replicate() {
            return Ok(None);
        }
        let look = || -> Result<Have, StorageError> {
            let points = self.storage.points(uuid)?;
            let image = offer.image.map_or(Ok(false), |(image, guid)| self.storage.has_image(image, guid))?;
            Ok(Have { points, image })
        };
        look().map(Some).map_err(InstanceError::step("look for copies of", uuid))
    }

    /// Writes to `out` what the other node does not have of a stopped instance. It stays as it is, locked and stopped meanwhile, but for a
    /// snapshot by which the next time is less.
    ///
    /// # Errors
    /// [`InstanceError::WrongState`] if it is not stopped; what cannot be read or written.
    pub fn send_replica(&self, uuid: InstanceUuid, have: &Have, out: &mut dyn Write) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "send", PATIENCE)?;
        let machine = self.sendable(uuid)?;
        let offer = self.offer(uuid)?.ok_or_else(|| InstanceError::Node(format!("instance {uuid} cannot be sent by streams of ZFS")))?;
        let now = Timestamp::now();
        let mark = now.as_millis().to_string();
        self.storage.mark_for_copy(uuid, &mark).map_err(InstanceError::step("mark", uuid))?;
        steps::reached("send.marked");
        let original = self.storage.points(uuid).map_err(InstanceError::step("list the snapshots of", uuid))?;
        let plan = plan_copy(&original, &have.points, offer.image.map(|(image, _)| image).filter(|_| have.image));
        let head = Head { date: now, pool: self.storage.pool().to_owned(), machine };
        let head = serde_json::to_vec(&ReplicaHead { head, anew: plan.anew }).map_err(InstanceError::step("describe", uuid))?;
        let mut frames = FrameWriter::begin(out, DATASETS, &head).map_err(InstanceError::step("send", uuid))?;
        let mut parts = PartsWriter(&mut frames);
        for part in &plan.parts {
            let content = |out: &mut dyn Write| self.storage.send_part(uuid, part, out).map_err(SendError::Storage);
            parts.part(part, content).map_err(|error| match error {
                SendError::Way(error) => InstanceError::step("send", uuid)(error),
                SendError::Storage(error) => InstanceError::step("send", uuid)(error),
            })?;
        }
        parts.finish().map_err(InstanceError::step("send", uuid))?;
        frames.finish().map_err(InstanceError::step("send", uuid))
    }

    /// Makes what the other node has sent a copy of its instance, or the copy that is there as the original is now. It is stopped. A copy
    /// that was begun and broke off is seen as failed; the next stream goes on from what it has.
    ///
    /// `adjust` may look at the configuration before anything is changed, and change what does not concern the stream, or refuse it; a
    /// copy that has nothing in common with the original (its second argument) is its to remove.
    ///
    /// # Errors
    /// What is wrong with the stream, what does not fit this node, and those of `adjust`.
    pub fn receive_replica(
        &self,
        from: &mut dyn Read,
        adjust: impl FnOnce(&mut VmConfig, bool) -> Result<(), InstanceError>,
    ) -> Result<InstanceUuid, InstanceError> {
        let broken = |error: io::Error| InstanceError::Stream(error.to_string());
        let (mut frames, head) = FrameReader::begin(BufReader::with_capacity(256 << 10, from), DATASETS).map_err(broken)?;
        let ReplicaHead { head, anew } =
            serde_json::from_slice(&head).map_err(|error| InstanceError::Stream(format!("its description cannot be read: {error}")))?;
        let uuid = head.machine.config.uuid;
        let theirs = head.machine.storage.map(|storage| storage.ids);
        let mut file = self.adapt(head)?;
        adjust(&mut file.config, anew)?;
        boot::check_tags(&self.layout, &file.config)?;
        let lock = self.lock_of_new(uuid, "receive")?;
        let is_new = !self.exists(uuid);
        let begun = if is_new { self.begin_received(file) } else { self.begin_again(file) };
        let file = match begun {
            Ok(file) => file,
            Err(error) => {
                if !self.exists(uuid) {
                    lock.remove();
                }
                return Err(error);
            }
        };
        steps::reached("receive.begun");
        let taken = self.take_parts(uuid, &mut frames).and_then(|()| frames.finish().map_err(broken));
        if let Err(error) = taken.and_then(|()| self.complete_replica(file, theirs)) {
            // What an earlier copy has of the instance is of use for the next one.
            if is_new {
                self.undo(uuid, lock);
            }
            return Err(error);
        }
        Ok(uuid)
    }

    /// The copy that is there is not complete until it is as the original is now. It keeps its range of ids.
    fn begin_again(&self, mut file: MachineFile) -> Result<MachineFile, InstanceError> {
        let uuid = file.config.uuid;
        file.storage = self.machines.read_alone(uuid)?.storage;
        file.lifecycle = Lifecycle::Provisioning;
        self.machines.write(&file)?;
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))?;
        Ok(file)
    }

    fn take_parts(&self, uuid: InstanceUuid, frames: &mut dyn Read) -> Result<(), InstanceError> {
        let broken = |error: io::Error| InstanceError::Stream(error.to_string());
        while let Some((part, mut content)) = PartReader::next::<Part>(frames).map_err(broken)? {
            self.storage.receive_part(uuid, &part, &mut content).map_err(InstanceError::step("receive", uuid))?;
            content.finish().map_err(broken)?;
            steps::reached("receive.part");
        }
        Ok(())
    }

    /// All of it is there, as the original's node has it on its disks.
    fn complete_replica(&self, file: MachineFile, theirs: Option<IdRange>) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        let data = file.config.delegate_dataset.then(|| data_options(&file.config));
        self.storage
            .complete_copy(uuid, &clone_options(&file.config), data.as_ref())
            .map_err(InstanceError::step("complete the copy of", uuid))?;
        steps::reached("receive.filled");
        // Volumes have the ids of a range of the node that they come from; the root has the guest's own.
        let volumes = self.storage.zonepath(uuid).join("volumes");
        if let Some(theirs) = theirs.filter(|_| volumes.is_dir()) {
            let unreadable = |e| FileError::new("read the directory", &volumes, e);
            for entry in std::fs::read_dir(&volumes).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                unshift(&path, theirs).map_err(InstanceError::step("shift the ids of a volume of", uuid))?;
            }
        }
        self.complete_received(file)?;
        self.storage.forget_marks(uuid, 1).map_err(InstanceError::step("remove old marks of", uuid))
    }

    /// Removes the snapshots that were made for copies of this instance, but the newest `keep`.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`]; when storage cannot remove one.
    pub fn forget_marks(&self, uuid: InstanceUuid, keep: usize) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "remove-sync-snapshots", PATIENCE)?;
        if !self.storage.can_replicate() {
            return Ok(());
        }
        self.storage.forget_marks(uuid, keep).map_err(InstanceError::step("remove snapshots of", uuid))
    }
}
