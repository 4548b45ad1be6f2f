//! What an instance is right now: its run-state held against the processes that are really there.

use triton_process::is_alive;
use triton_types::{Lifecycle, RunPhase, RunState, VmState, ZoneState};

/// A run-state, believed only as far as its processes bear it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No init, nothing under way.
    Stopped,
    /// A monitor is bringing it up.
    Starting,
    /// Init is alive and has its supervisor.
    Running,
    /// Init is alive, its supervisor is dead: it must be adopted (ruling 37).
    Orphaned,
    /// Init is alive and was asked to end.
    Stopping,
    /// Init is dead, its supervisor is still clearing up.
    Down,
}

impl Presence {
    /// Looks at the processes that `run` names.
    pub fn of(run: &RunState) -> Self {
        let init = run.init.is_some_and(is_alive);
        let supervisor = run.supervisor.is_some_and(is_alive);
        match (run.phase, init, supervisor) {
            (RunPhase::Stopped, ..) => Self::Stopped,
            (RunPhase::Starting, _, true) => Self::Starting,
            (RunPhase::Running, true, true) => Self::Running,
            (RunPhase::Stopping, true, true) => Self::Stopping,
            (RunPhase::Running | RunPhase::Stopping | RunPhase::Starting, true, false) => Self::Orphaned,
            (RunPhase::Running | RunPhase::Stopping, false, true) => Self::Down,
            (RunPhase::Running | RunPhase::Stopping | RunPhase::Starting, false, false) => Self::Stopped,
        }
    }

    /// True while there is an init.
    pub fn has_init(self) -> bool {
        matches!(self, Self::Running | Self::Orphaned | Self::Stopping)
    }
}

/// `state` and `zone_state` (instances.md sections 5.1 and 5.2). `creating` says that a live process is creating it.
pub fn states(lifecycle: Lifecycle, dataset: bool, presence: Presence, creating: bool) -> (VmState, ZoneState) {
    let zone = match (lifecycle, presence) {
        (_, Presence::Running | Presence::Orphaned) => ZoneState::Running,
        (_, Presence::Stopping) => ZoneState::ShuttingDown,
        (_, Presence::Down) => ZoneState::Down,
        (_, Presence::Starting) => ZoneState::Ready,
        (Lifecycle::Deleting, Presence::Stopped) => ZoneState::Incomplete,
        (Lifecycle::Provisioning | Lifecycle::Installed, Presence::Stopped) if !dataset => ZoneState::Configured,
        (Lifecycle::Provisioning, Presence::Stopped) => ZoneState::Incomplete,
        (Lifecycle::Installed, Presence::Stopped) => ZoneState::Installed,
    };
    let state = match (lifecycle, &zone) {
        (Lifecycle::Provisioning, _) if !creating => VmState::Failed,
        (Lifecycle::Deleting, ZoneState::Incomplete) => VmState::Incomplete,
        (_, ZoneState::Running) => VmState::Running,
        (Lifecycle::Provisioning | Lifecycle::Installed, _) if creating => VmState::Provisioning,
        (_, ZoneState::ShuttingDown) => VmState::ShuttingDown,
        (_, ZoneState::Down) => VmState::Down,
        (_, ZoneState::Ready) => VmState::Ready,
        (_, ZoneState::Configured) => VmState::Configured,
        (_, ZoneState::Incomplete) => VmState::Incomplete,
        (_, ZoneState::Installed | ZoneState::Other(_)) => VmState::Stopped,
    };
    (state, zone)
}

#[cfg(test)]
mod tests {
    use triton_process::reference;
    use triton_types::{InstanceUuid, ProcessRef};

    use super::*;

    #[test]
    fn the_table_of_section_5_holds() {
        use Lifecycle::{Deleting, Installed, Provisioning};
        for (lifecycle, dataset, presence, creating, state, zone) in [
            (Installed, true, Presence::Stopped, false, VmState::Stopped, ZoneState::Installed),
            (Installed, false, Presence::Stopped, false, VmState::Configured, ZoneState::Configured),
            (Installed, true, Presence::Starting, false, VmState::Ready, ZoneState::Ready),
            (Installed, true, Presence::Starting, true, VmState::Provisioning, ZoneState::Ready),
            (Installed, true, Presence::Running, false, VmState::Running, ZoneState::Running),
            (Installed, true, Presence::Orphaned, false, VmState::Running, ZoneState::Running),
            (Installed, true, Presence::Stopping, false, VmState::ShuttingDown, ZoneState::ShuttingDown),
            (Installed, true, Presence::Down, false, VmState::Down, ZoneState::Down),
            (Provisioning, false, Presence::Stopped, true, VmState::Provisioning, ZoneState::Configured),
            (Provisioning, true, Presence::Stopped, true, VmState::Provisioning, ZoneState::Incomplete),
            (Provisioning, true, Presence::Stopped, false, VmState::Failed, ZoneState::Incomplete),
            (Provisioning, false, Presence::Stopped, false, VmState::Failed, ZoneState::Configured),
            (Deleting, true, Presence::Stopped, false, VmState::Incomplete, ZoneState::Incomplete),
        ] {
            let case = format!("{lifecycle:?} {dataset} {presence:?} {creating}");
            assert_eq!(states(lifecycle, dataset, presence, creating), (state, zone), "{case}");
        }
    }

    #[test]
    fn a_run_state_is_believed_only_as_far_as_processes_live() {
        let live = reference(std::process::id() as i32);
        let dead = Some(ProcessRef { pid: 1, start_ticks: u64::MAX });
        let mut run = RunState::stopped(InstanceUuid::random());
        for (phase, init, supervisor, presence) in [
            (RunPhase::Running, live, live, Presence::Running),
            (RunPhase::Running, live, dead, Presence::Orphaned),
            (RunPhase::Running, dead, live, Presence::Down),
            (RunPhase::Running, dead, dead, Presence::Stopped),
            (RunPhase::Starting, None, None, Presence::Stopped),
            (RunPhase::Starting, None, live, Presence::Starting),
            (RunPhase::Stopped, live, live, Presence::Stopped),
        ] {
            (run.phase, run.init, run.supervisor) = (phase, init, supervisor);
            assert_eq!(Presence::of(&run), presence, "{phase:?}");
        }
    }
}
