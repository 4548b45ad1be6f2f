//! Creation: steps with an undo, visible and deletable from before the first effect (instances.md section 6.3).

use std::time::Duration;

use triton_files::{Lock, LockError, steps};
use triton_types::{InstanceUuid, JsonMap, Lifecycle, MachineFile, StorageKind, StorageRecord, Timestamp, VmConfig};
use triton_vmspec::{Created, PayloadError};

use crate::{
    InstanceError, Instances, boot,
    guest_root::{clone_options, data_options},
    id_ranges,
    world::NodeWorld,
};

/// How long a creation waits for its lock: who holds it longer than [`Instances::recover`] needs to look is another creation.
const SWEEP_PATIENCE: Duration = Duration::from_secs(1);
/// How long creators wait for each other while they claim ids and addresses. It is milliseconds of work under the lock, but whoever tries
/// again may be passed by others, and on a busy node there may be hundreds: to wait is better than to fail.
const CLAIM_PATIENCE: Duration = Duration::from_secs(600);

impl Instances {
    /// The lock of an instance that is about to come here.
    ///
    /// # Errors
    /// [`InstanceError::Exists`] when somebody else is making it.
    pub(crate) fn lock_of_new(&self, uuid: InstanceUuid, action: &str) -> Result<Lock, InstanceError> {
        Lock::take(&self.layout.instance_lock(uuid), action, SWEEP_PATIENCE).map_err(|error| match error {
            LockError::Held { .. } => InstanceError::Exists { uuid },
            LockError::File(error) => InstanceError::File(error),
        })
    }

    /// Creates an instance from a payload, and starts it if `autoboot`. Returns its uuid.
    ///
    /// What fails before the instance is complete is undone; an instance that is complete and does not start stays, in
    /// state `failed`, with the reason in the error: callers look at it and delete it (instances.md section 5.3).
    ///
    /// # Errors
    /// [`InstanceError::Payload`] with nothing changed, [`InstanceError::Exists`], or the step that failed.
    pub fn create(&self, payload: JsonMap) -> Result<InstanceUuid, InstanceError> {
        let world = NodeWorld::new(self);
        let Created { config, warnings, .. } = triton_vmspec::create(payload, &world, Timestamp::now())?;
        if config.delegate_dataset && self.storage.kind() == StorageKind::Dir {
            // A directory is no dataset: an object that says so would lie (section 7.6).
            return Err(PayloadError::Delegation.into());
        }
        if config.autoboot {
            // A network that this node cannot give is found before anything is made, not at the first start.
            boot::check_tags(&self.layout, &config)?;
        }
        let uuid = config.uuid;
        for warning in warnings {
            tracing::warn!(vm_uuid = %uuid, %warning, "payload");
        }
        let lock = self.lock_of_new(uuid, "create")?;
        let file = match self.begin(config, &world) {
            Ok(file) => file,
            Err(error) => {
                if !self.exists(uuid) {
                    lock.remove();
                }
                return Err(error);
            }
        };
        steps::reached("create.begun");
        if let Err(error) = self.install(file) {
            self.undo(uuid, lock);
            return Err(error);
        }
        self.first_boot(uuid)?;
        Ok(uuid)
    }

    /// Chooses the id range and writes the machine file: from here on the instance exists.
    pub(crate) fn begin(&self, config: VmConfig, world: &NodeWorld<'_>) -> Result<MachineFile, InstanceError> {
        let uuid = config.uuid;
        if self.exists(uuid) {
            return Err(InstanceError::Exists { uuid });
        }
        if self.storage.instance_exists(uuid).map_err(InstanceError::step("look for the storage of", uuid))? {
            return Err(InstanceError::DatasetExists { dataset: format!("{}/{uuid}", self.storage.pool()) });
        }
        // Two creators must not choose one range or one address: the choice and the file that records it are made under one lock.
        let _claims = self.claim(uuid)?;
        let (files, all_known) = self.neighbours()?;
        if !config.nics.is_empty() {
            let others: Vec<_> = files.iter().map(|file| world.other(file)).collect();
            triton_vmspec::check_conflicts(&config, &others)?;
        }
        let ids = id_ranges::choose(&self.layout, &files, all_known)?
            .ok_or_else(|| InstanceError::Node("no range of user ids is left on this compute node".to_owned()))?;
        let storage = StorageRecord { kind: self.storage.kind(), ids, ownership: None };
        let file = MachineFile { format: MachineFile::FORMAT, lifecycle: Lifecycle::Provisioning, storage: Some(storage), config };
        if let Err(error) = self.machines.write(&file) {
            // It may be there although it could not be made durable.
            let _ = self.machines.remove(uuid);
            return Err(error.into());
        }
        Ok(file)
    }

    /// The machine files of all instances, and whether none was unreadable.
    fn neighbours(&self) -> Result<(Vec<MachineFile>, bool), InstanceError> {
        let (mut files, mut all_known) = (Vec::new(), true);
        for uuid in self.machines.uuids()? {
            match self.machines.read_alone(uuid) {
                Ok(file) => files.push(file),
                Err(InstanceError::NotFound { .. }) => {}
                Err(_) => all_known = false,
            }
        }
        Ok((files, all_known))
    }

    /// The lock under which what no two instances may share is chosen and recorded: id ranges, MACs, addresses. Taken after
    /// an instance's own lock, never before.
    pub(crate) fn claim(&self, uuid: InstanceUuid) -> Result<Lock, InstanceError> {
        Lock::take(&self.layout.locks().join("claims.lock"), "claim ids and addresses", CLAIM_PATIENCE)
            .map_err(InstanceError::step("claim ids and addresses for", uuid))
    }

    /// Makes everything that a complete instance has.
    fn install(&self, mut file: MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        self.runs.bump(uuid).map_err(InstanceError::step("announce", uuid))?;
        let image = file.config.image_uuid.ok_or_else(|| InstanceError::Node(format!("instance {uuid} has no image")))?;
        self.storage.clone_image(image, uuid, &clone_options(&file.config)).map_err(InstanceError::step("clone the image for", uuid))?;
        if file.config.delegate_dataset {
            self.storage
                .create_data(uuid, &data_options(&file.config))
                .map_err(InstanceError::step("make the delegated dataset of", uuid))?;
        }
        steps::reached("create.cloned");
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        self.own_root(&mut file)?;
        self.make_volumes(&file)?;
        steps::reached("create.owned");
        self.machines.write_documents(&file)?;
        steps::reached("create.documents");
        self.fill_root(&file)?;
        steps::reached("create.files");
        // Once for all of it, not file by file.
        self.storage.make_durable(uuid).map_err(InstanceError::step("make durable", uuid))?;
        if file.config.indestructible_zoneroot {
            self.storage.set_indestructible(uuid, true).map_err(InstanceError::step("protect", uuid))?;
        }
        file.lifecycle = Lifecycle::Installed;
        self.machines.write(&file)?;
        self.runs.bump(uuid).map_err(InstanceError::step("announce", uuid))?;
        steps::reached("create.installed");
        // Others may admit its addresses; its own firewall is in force before its links are there.
        crate::firewall::follow_quietly(&self.layout, uuid, file.config.firewall_enabled);
        Ok(())
    }

    /// Starts a new instance; one that does not start is marked as failed.
    fn first_boot(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let machine = self.machines.read(uuid)?;
        if !machine.file.config.autoboot {
            return Ok(());
        }
        self.boot(&machine).inspect_err(|_| {
            let mut file = machine.file.clone();
            file.lifecycle = Lifecycle::Provisioning;
            if let Err(error) = self.machines.write(&file) {
                tracing::error!(vm_uuid = %uuid, %error, "a failed creation could not be marked");
            }
            let _ = self.runs.bump(uuid);
        })
    }

    /// Takes back a creation that failed: storage first, the machine file last.
    pub(crate) fn undo(&self, uuid: InstanceUuid, lock: Lock) {
        let _ = self.storage.set_indestructible(uuid, false);
        let result = self.storage.destroy_instance(uuid).map_err(InstanceError::step("destroy the storage of", uuid)).and_then(|()| {
            if let Err(error) = crate::zonecontrol::remove(&self.layout, uuid) {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "the directory of a failed creation's socket stays");
            }
            if let Err(error) = self.runs.remove(uuid) {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "the run-state of a failed creation stays");
            }
            Ok(self.machines.remove(uuid)?)
        });
        match result {
            Ok(()) => lock.remove(),
            Err(error) => {
                tracing::error!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "a failed creation was not taken back; delete it");
            }
        }
    }
}
