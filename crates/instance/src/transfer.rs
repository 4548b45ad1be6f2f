//! Moving a stopped instance to another node: `vmadm send` and `vmadm receive`.
//!
//! The stream is the same for every kind of storage: the machine's description and the guest's files with the guest's own
//! ids. The receiving node gives them a range of its own. Snapshots do not travel.

mod parts;
mod replica;
mod stream;

use std::io::{self, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use triton_files::steps;
use triton_image::{CancelToken, unpack_tree};
use triton_storage::StorageError;
use triton_types::{InstanceUuid, Lifecycle, MachineFile, Ownership, Timestamp, VmConfig};

use crate::{InstanceError, Instances, Presence, boot, guest_root::clone_options, instances::PATIENCE, world::NodeWorld};
pub use replica::{Have, Offer};
use stream::{FILES, FrameReader, FrameWriter};

/// The description at the beginning of a stream.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// When it was sent.
    date: Timestamp,
    /// The pool that it was in.
    pool: String,
    /// The machine, with metadata, tags and routes.
    machine: MachineFile,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Snapshots of the instance, which did not travel.
    pub snapshots: usize,
}

impl Instances {
    /// Writes a stopped instance to `out`. It stays as it is, locked and stopped meanwhile.
    ///
    /// # Errors
    /// [`InstanceError::WrongState`] if it is not stopped; what cannot be read or written.
    pub fn send(&self, uuid: InstanceUuid, out: &mut dyn Write) -> Result<Sent, InstanceError> {
        let _lock = self.lock(uuid, "send", PATIENCE)?;
        let machine = self.sendable(uuid)?;
        if machine.config.delegate_dataset {
            // What is in it is the guest's, and no file of the machine: a stream of files would be without it.
            return Err(InstanceError::HasDatasets);
        }
        let Some(storage) = machine.storage else {
            return Err(InstanceError::Node(format!("instance {uuid} has no storage record")));
        };
        let snapshots = self.storage.snapshots(uuid).map_err(InstanceError::step("list the snapshots of", uuid))?.len();
        let head = Head { date: Timestamp::now(), pool: self.storage.pool().to_owned(), machine };
        let head = serde_json::to_vec(&head).map_err(InstanceError::step("describe", uuid))?;
        let mut frames = FrameWriter::begin(out, FILES, &head).map_err(InstanceError::step("send", uuid))?;
        let shifted = storage.ownership != Some(Ownership::Idmapped);
        let packed = self.storage.pack_instance(uuid, storage.ids, shifted, &mut frames).map_err(InstanceError::step("send", uuid))?;
        frames.finish().map_err(InstanceError::step("send", uuid))?;
        Ok(Sent { bytes: packed.bytes, entries: packed.entries, snapshots })
    }

    /// The machine of a stopped instance that its caller has locked.
    fn sendable(&self, uuid: InstanceUuid) -> Result<MachineFile, InstanceError> {
        self.heal(uuid)?;
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        let machine = self.machines.read(uuid)?.file;
        let (_, presence) = self.run_of(uuid);
        if machine.lifecycle != Lifecycle::Installed || presence != Presence::Stopped {
            let state = self.load(uuid)?.state;
            return Err(InstanceError::WrongState(format!("Cannot send vm from state \"{state}\", must be \"stopped\".")));
        }
        Ok(machine)
    }

    /// Makes the instance that a stream holds. It is stopped. Nothing of it stays unless all of the stream was read and is whole;
    /// a creation that was killed is seen as failed, and can be deleted.
    ///
    /// # Errors
    /// [`InstanceError::Exists`], an address or NIC tag that does not fit this node, or what is wrong with the stream.
    pub fn receive(&self, from: &mut dyn Read) -> Result<InstanceUuid, InstanceError> {
        self.receive_with(from, |_| Ok(()))
    }

    /// As [`Instances::receive`], for a migration that is not over: `adjust` may look at the configuration before anything is made
    /// of it, and change what does not concern the stream (`do_not_inventory`, `autoboot`), or refuse it.
    ///
    /// # Errors
    /// As [`Instances::receive`], and those of `adjust`.
    pub fn receive_with(
        &self,
        from: &mut dyn Read,
        adjust: impl FnOnce(&mut VmConfig) -> Result<(), InstanceError>,
    ) -> Result<InstanceUuid, InstanceError> {
        let broken = |error: io::Error| InstanceError::Stream(error.to_string());
        let (frames, head) = FrameReader::begin(BufReader::with_capacity(256 << 10, from), FILES).map_err(broken)?;
        let head: Head =
            serde_json::from_slice(&head).map_err(|error| InstanceError::Stream(format!("its description cannot be read: {error}")))?;
        let uuid = head.machine.config.uuid;
        let mut file = self.adapt(head)?;
        adjust(&mut file.config)?;
        boot::check_tags(&self.layout, &file.config)?;
        let lock = self.lock_of_new(uuid, "receive")?;
        let file = match self.begin_received(file) {
            Ok(file) => file,
            Err(error) => {
                if !self.exists(uuid) {
                    lock.remove();
                }
                return Err(error);
            }
        };
        steps::reached("receive.begun");
        if let Err(error) = self.fill_received(file, frames) {
            self.undo(uuid, lock);
            return Err(error);
        }
        Ok(uuid)
    }

    /// The description as it is right for this node: format checked, pool and paths of this node.
    fn adapt(&self, head: Head) -> Result<MachineFile, InstanceError> {
        let mut file = head.machine;
        if file.format > MachineFile::FORMAT {
            let text = format!("its machine has format {}, this node knows formats up to {}", file.format, MachineFile::FORMAT);
            return Err(InstanceError::Stream(text));
        }
        if file.lifecycle != Lifecycle::Installed {
            return Err(InstanceError::Stream("the instance in it is not complete".to_owned()));
        }
        let own = self.storage.pool();
        let (old, new) = (format!("/{}/{}/", head.pool, file.config.uuid), format!("/{own}/{}/", file.config.uuid));
        for filesystem in &mut file.config.filesystems {
            if let Some(rest) = filesystem.source.strip_prefix(&old) {
                filesystem.source = format!("{new}{rest}");
            }
        }
        file.config.zpool = Some(own.to_owned());
        file.storage = None;
        Ok(file)
    }

    fn begin_received(&self, file: MachineFile) -> Result<MachineFile, InstanceError> {
        let world = NodeWorld::new(self);
        self.begin(file.config, &world)
    }

    fn fill_received(&self, file: MachineFile, frames: FrameReader<BufReader<&mut dyn Read>>) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        self.runs.bump(uuid).map_err(InstanceError::step("announce", uuid))?;
        let mut frames = Some(frames);
        let mut fill = |directory: &std::path::Path| -> Result<(), StorageError> {
            let content = |error: Box<dyn std::error::Error + Send + Sync>| StorageError::Content(error);
            let mut stream = frames.take().ok_or_else(|| content("it was read already".into()))?;
            unpack_tree(&mut stream, directory, &CancelToken::default()).map_err(|error| content(Box::new(error)))?;
            stream.finish().map_err(|error| content(Box::new(error)))?;
            let config = directory.join("config");
            // The archive has none, whoever made it.
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(config)
                .map_err(|error| content(Box::new(error)))
        };
        let volumes = self.volumes_of(&file.config);
        self.storage
            .create_instance(uuid, &clone_options(&file.config), &volumes, &mut fill)
            .map_err(InstanceError::step("receive", uuid))?;
        steps::reached("receive.filled");
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        self.complete_received(file)
    }

    /// What an instance of another node has to have here, once its files are there with the guest's own ids.
    fn complete_received(&self, mut file: MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        self.own_root(&mut file)?;
        self.own_volumes(&file)?;
        self.make_volumes(&file)?;
        steps::reached("receive.owned");
        self.machines.write_documents(&file)?;
        self.refresh_seed(&file)?;
        steps::reached("receive.documents");
        self.storage.make_durable(uuid).map_err(InstanceError::step("make durable", uuid))?;
        if file.config.indestructible_zoneroot {
            self.storage.set_indestructible(uuid, true).map_err(InstanceError::step("protect", uuid))?;
        }
        file.lifecycle = Lifecycle::Installed;
        self.machines.write(&file)?;
        self.runs.bump(uuid).map_err(InstanceError::step("announce", uuid))?;
        steps::reached("receive.installed");
        Ok(())
    }
}
