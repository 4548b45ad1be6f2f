//! The order in which tasks run: queues with a limit, and one change at a time for each instance (cn-agent.md section 2.6).
//!
//! In memory only: between processes the instance's own lock decides. Questions take nothing here and so wait for nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use triton_types::InstanceUuid;

use crate::{Params, Queue, TaskError, TaskName};

/// One slot for each instance that is being changed or waited for; it goes with its last user.
#[derive(Debug, Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    users: usize,
    creating: bool,
}

/// Locks of instances.
#[derive(Clone, Debug, Default)]
pub struct VmLocks(Arc<Mutex<HashMap<InstanceUuid, Slot>>>);

/// A place in the line of one instance, given back when dropped.
#[derive(Debug)]
struct Place {
    locks: VmLocks,
    uuid: InstanceUuid,
    creator: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.locks.slots();
        if let Some(slot) = slots.get_mut(&self.uuid) {
            slot.users -= 1;
            slot.creating &= !self.creator;
            if slot.users == 0 {
                slots.remove(&self.uuid);
            }
        }
    }
}

impl VmLocks {
    fn slots(&self) -> MutexGuard<'_, HashMap<InstanceUuid, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_in_line(&self, uuid: InstanceUuid, name: TaskName) -> Result<(Place, Arc<tokio::sync::Mutex<()>>), TaskError> {
        let creator = name == TaskName::MachineCreate;
        let mut slots = self.slots();
        let slot = slots.entry(uuid).or_default();
        if creator && slot.creating {
            return Err(TaskError::failed(format!("Machine {uuid} exists.")));
        }
        slot.creating |= creator;
        slot.users += 1;
        Ok((Place { locks: self.clone(), uuid, creator }, slot.turn.clone()))
    }

    /// Number of instances that are being changed or waited for.
    pub fn len(&self) -> usize {
        self.slots().len()
    }

    /// True if no instance is being changed.
    pub fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }
}

/// The right to run, given back when dropped. The fields are dropped in this order: the turn before the place.
#[derive(Debug)]
pub struct Turn {
    _turn: Option<OwnedMutexGuard<()>>,
    _place: Option<Place>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Decides when a task may run.
#[derive(Clone, Debug)]
pub struct Order {
    locks: VmLocks,
    agents: Arc<Semaphore>,
}

impl Default for Order {
    fn default() -> Self {
        Self { locks: VmLocks::default(), agents: Arc::new(Semaphore::new(Queue::Agents.limit().unwrap_or(1))) }
    }
}

impl Order {
    /// Waits until `name` may run. First come, first served.
    ///
    /// # Errors
    /// A creation of an instance that is being created fails at once, with the words of one that exists (section 3.2, BUG c).
    pub async fn turn(&self, name: TaskName, params: &Params) -> Result<Turn, TaskError> {
        let mut turn = Turn { _turn: None, _place: None, _permit: None };
        if name.queue() == Queue::Agents {
            turn._permit = self.agents.clone().acquire_owned().await.ok();
        }
        if let Some(uuid) = params.instance().filter(|_| name.changes_one_instance()) {
            let (place, mutex) = self.locks.stand_in_line(uuid, name)?;
            turn._place = Some(place);
            turn._turn = Some(mutex.lock_owned().await);
        }
        Ok(turn)
    }

    /// The locks of instances.
    pub fn locks(&self) -> &VmLocks {
        &self.locks
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(uuid: InstanceUuid) -> Params {
        Params::new(json!({"uuid": uuid}))
    }

    async fn waits<T>(future: impl Future<Output = T>) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(20), future).await.is_err()
    }

    /// cn-agent case 30
    #[tokio::test]
    async fn changes_of_one_instance_wait_and_a_second_creation_does_not() {
        let order = Order::default();
        let (one, two) = (of(InstanceUuid::random()), of(InstanceUuid::random()));
        let first = order.turn(TaskName::MachineCreate, &one).await.unwrap();
        assert!(waits(order.turn(TaskName::MachineDestroy, &one)).await);
        let error = order.turn(TaskName::MachineCreate, &one).await.unwrap_err().to_string();
        assert_eq!(error, format!("Machine {} exists.", one.instance().unwrap()));
        for (name, params) in [(TaskName::MachineBoot, &two), (TaskName::MachineLoad, &one), (TaskName::MachineKill, &one)] {
            order.turn(name, params).await.unwrap();
        }
        drop(first);
        drop(order.turn(TaskName::MachineCreate, &one).await.unwrap());
        assert!(order.locks().is_empty(), "a slot outlived its users");
    }

    /// cn-agent case 18
    #[tokio::test]
    async fn two_installations_of_agents_run_one_after_the_other() {
        let order = Order::default();
        let first = order.turn(TaskName::AgentInstall, &Params::default()).await.unwrap();
        assert!(waits(order.turn(TaskName::AgentsUninstall, &Params::default())).await);
        order.turn(TaskName::Nop, &Params::default()).await.unwrap();
        drop(first);
        order.turn(TaskName::AgentInstall, &Params::default()).await.unwrap();
    }
}
