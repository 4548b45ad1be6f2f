//! Starting, stopping, rebooting and signalling (instances.md section 5.4). Each takes the instance's lock.

use std::time::{Duration, Instant};

use triton_files::steps;
use triton_process::{PidFd, parse_signal, signal_name};
use triton_types::{InstanceUuid, Lifecycle, RunPhase};

use crate::{
    InstanceError, Instances, boot,
    guest_init::{self, Request},
    instances::PATIENCE,
    launch::Mission,
    machines::Machine,
    network,
    observe::Presence,
    slots,
};

/// How long a guest may take until its init runs.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a graceful stop waits before it kills (instances.md section 5.4).
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The same for a process that is no init, such as an application of a Docker image.
const PROCESS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a graceful reboot may take until the guest runs again.
const REBOOT_PATIENCE: Duration = Duration::from_secs(180);
/// How long the monitor may take to clear up after init has ended.
const CLEAR_PATIENCE: Duration = Duration::from_secs(30);

/// How a guest is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Kill at once.
    pub force: bool,
    /// How long to wait before killing; 60 s unless given.
    pub timeout: Option<Duration>,
}

impl Instances {
    /// Starts a stopped instance and makes it start at boot (`autoboot`).
    ///
    /// # Errors
    /// [`InstanceError::AlreadyRunning`], [`InstanceError::WrongState`], [`InstanceError::NicTags`], and why it did not start.
    pub fn start(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "start", PATIENCE)?;
        self.heal(uuid)?;
        self.settle_start(uuid, false);
        let machine = self.machines.read(uuid)?;
        let (_, presence) = self.run_of(uuid);
        if presence.has_init() {
            return Err(InstanceError::AlreadyRunning { uuid });
        }
        if machine.file.lifecycle != Lifecycle::Installed || presence != Presence::Stopped {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(format!("Cannot start vm from state \"{state}\", must be \"stopped\".")));
        }
        // Stored first: an error then means that nothing was started.
        self.set_autoboot(uuid, true)?;
        self.boot(&machine).inspect_err(|_| {
            if !machine.file.config.autoboot
                && let Err(error) = self.set_autoboot(uuid, false)
            {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "autoboot of a guest that did not start stays set");
            }
        })
    }

    /// Boots the guest and waits until its init runs. The caller holds the lock and has seen that nothing runs.
    pub(crate) fn boot(&self, machine: &Machine) -> Result<(), InstanceError> {
        let uuid = machine.file.config.uuid;
        boot::check_tags(&self.layout, &machine.file.config)?;
        steps::reached("start.checked");
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        boot::ensure_bridges(&self.layout).map_err(InstanceError::step("make bridges for", uuid))?;
        let _slot = slots::take(&self.layout).map_err(InstanceError::step("get a turn to start", uuid))?;
        let runtime = self.layout.runtime(uuid);
        std::fs::create_dir_all(&runtime).map_err(|e| triton_files::FileError::new("create directory", &runtime, e))?;
        self.runs
            .update(uuid, |run| {
                run.phase = RunPhase::Starting;
                (run.init, run.supervisor, run.boot_timestamp, run.start_error, run.adopted) = (None, None, None, None, false);
            })
            .map_err(InstanceError::step("begin to start", uuid))?;
        steps::reached("start.begun");
        let launched = self.launcher.launch(&self.layout, uuid, Mission::Boot, START_PATIENCE);
        steps::reached("start.launched");
        launched.map_err(|reason| {
            self.clear(uuid);
            let _ = self.runs.update(uuid, |run| run.start_error = Some(reason.clone()));
            InstanceError::StartFailed { uuid, reason }
        })
    }

    /// Stops an instance and keeps it from starting at boot, even if it does not run.
    ///
    /// # Errors
    /// [`InstanceError::AlreadyStopped`] when it does not run.
    pub fn stop(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "stop", PATIENCE)?;
        self.heal(uuid)?;
        let machine = self.machines.read(uuid)?;
        self.set_autoboot(uuid, false)?;
        steps::reached("stop.autoboot");
        let (_, presence) = self.run_of(uuid);
        if presence == Presence::Stopped {
            return Err(InstanceError::AlreadyStopped { uuid, state: self.state_word(&machine) });
        }
        self.halt(uuid, options)
    }

    /// Ends the guest, leaving `autoboot` as it is (ruling 40). The caller holds the lock. Success if nothing runs.
    pub(crate) fn halt(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), InstanceError> {
        self.settle_start(uuid, options.force);
        let (run, presence) = self.run_of(uuid);
        if let Some(init) = run.init.filter(|_| presence.has_init()) {
            self.runs.update(uuid, |run| run.phase = RunPhase::Stopping).map_err(InstanceError::step("begin to stop", uuid))?;
            steps::reached("stop.begun");
            let ended = PidFd::open(init).is_none_or(|fd| {
                let (patience, signal) = self.manner(uuid);
                let deadline = Instant::now() + options.timeout.unwrap_or(patience);
                !options.force && guest_init::ask(init.pid, &fd, Request::Halt, signal, deadline)
            });
            if !ended {
                self.cgroups.kill(&format!("{}/payload", self.cgroup(uuid))).map_err(InstanceError::step("kill", uuid))?;
                if let Some(fd) = PidFd::open(init) {
                    let _ = fd.signal(libc::SIGKILL);
                    if !fd.wait(Instant::now() + CLEAR_PATIENCE) {
                        return Err(InstanceError::Timeout(format!("init of {uuid} (process {}) did not end after SIGKILL", init.pid)));
                    }
                }
            }
        }
        steps::reached("stop.ended");
        self.await_supervisor(uuid);
        self.clear(uuid);
        Ok(())
    }

    /// How long a guest may take to stop, and the signal that asks it if it has no init of a known kind (instances.md section 5.4).
    fn manner(&self, uuid: InstanceUuid) -> (Duration, Option<i32>) {
        let process = self.machines.read(uuid).ok().and_then(|machine| crate::Process::of(&machine.file.config).ok().flatten());
        process.map_or((STOP_PATIENCE, None), |process| (PROCESS_PATIENCE, Some(process.stop_signal)))
    }

    /// Waits for a start that is under way although the caller holds the lock: its starter was killed, or the guest reboots.
    /// It comes to its end by itself, unless it is to be broken off.
    fn settle_start(&self, uuid: InstanceUuid, force: bool) {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let (run, presence) = self.run_of(uuid);
            if presence != Presence::Starting {
                return;
            }
            if force || Instant::now() >= deadline {
                if let Some(supervisor) = run.supervisor.and_then(PidFd::open) {
                    let _ = supervisor.signal(libc::SIGKILL);
                    supervisor.wait(Instant::now() + CLEAR_PATIENCE);
                }
                return self.clear(uuid);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the supervisor has recorded the end and gone.
    fn await_supervisor(&self, uuid: InstanceUuid) {
        let (run, _) = self.run_of(uuid);
        if let Some(supervisor) = run.supervisor.and_then(PidFd::open)
            && !supervisor.wait(Instant::now() + CLEAR_PATIENCE)
        {
            tracing::warn!(vm_uuid = %uuid, "the monitor did not end in time after its guest; it is killed");
            let _ = supervisor.signal(libc::SIGKILL);
            supervisor.wait(Instant::now() + CLEAR_PATIENCE);
        }
    }

    /// Removes what a run left behind when its monitor could not: processes, cgroups, links. Idempotent.
    pub(crate) fn clear(&self, uuid: InstanceUuid) {
        let cgroup = self.cgroup(uuid);
        if self.cgroups.populated(&cgroup)
            && let Err(error) = self.cgroups.kill(&cgroup)
        {
            tracing::warn!(vm_uuid = %uuid, %error, "processes of a stopped instance could not be killed");
        }
        if let Err(error) = self.cgroups.remove(&cgroup) {
            tracing::warn!(vm_uuid = %uuid, %error, "cgroups of a stopped instance could not be removed");
        }
        if let Err(error) = network::detach(&self.layout, uuid) {
            tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "links of a stopped instance could not be removed");
        }
        let (run, _) = self.run_of(uuid);
        if run.phase != RunPhase::Stopped {
            if run.phase != RunPhase::Starting {
                // Nobody saw how this run ended: what an earlier one left says nothing about it (ruling 37).
                let _ = triton_files::remove_if_present(&self.storage.zonepath(uuid).join("lastexited"));
            }
            let _ = self.runs.update(uuid, |run| {
                run.phase = RunPhase::Stopped;
                (run.init, run.supervisor, run.boot_timestamp) = (None, None, None);
            });
        }
    }

    /// Reboots a running guest: gracefully within 180 s, or at once with `force`. The configuration is rendered anew.
    ///
    /// # Errors
    /// [`InstanceError::WrongState`] when it does not run, [`InstanceError::NicTags`], [`InstanceError::Timeout`].
    pub fn reboot(&self, uuid: InstanceUuid, force: bool) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "reboot", PATIENCE)?;
        self.heal(uuid)?;
        self.settle_start(uuid, false);
        let machine = self.machines.read(uuid)?;
        let (run, presence) = self.run_of(uuid);
        let Some(init) = run.init.filter(|_| presence.has_init()) else {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(if force {
                format!("Cannot reset vm from state \"{state}\", must be \"running\".")
            } else {
                format!("Cannot reboot vm from state \"{state}\", must be \"running\"")
            }));
        };
        boot::check_tags(&self.layout, &machine.file.config).map_err(|error| match error {
            InstanceError::NicTags(text) => InstanceError::NicTags(format!("Cannot reboot vm: {text}")),
            other => other,
        })?;
        // A process that is no init knows nothing of reboots.
        if force || machine.file.config.docker {
            self.halt(uuid, StopOptions { force, timeout: None })?;
            return self.boot(&machine);
        }
        let deadline = Instant::now() + REBOOT_PATIENCE;
        if let Some(fd) = PidFd::open(init)
            && !guest_init::ask(init.pid, &fd, Request::Reboot, None, deadline)
        {
            return Err(InstanceError::Timeout("timed out waiting for zone to reboot".to_owned()));
        }
        steps::reached("reboot.down");
        while Instant::now() < deadline {
            match self.run_of(uuid) {
                (now, Presence::Running) if now.init != Some(init) => return Ok(()),
                // It powered off instead: the operator asked for a running instance.
                (_, Presence::Stopped) => return self.boot(&machine),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(InstanceError::Timeout("timed out waiting for zone to reboot".to_owned()))
    }

    /// Sends a signal, by number or name, to the guest's init; returns its name.
    ///
    /// # Errors
    /// [`InstanceError::UnknownSignal`], [`InstanceError::NoInit`] when it does not run.
    pub fn kill(&self, uuid: InstanceUuid, signal: &str) -> Result<String, InstanceError> {
        let number = parse_signal(signal).ok_or_else(|| InstanceError::UnknownSignal(signal.to_owned()))?;
        self.machines.read(uuid)?;
        let (run, presence) = self.run_of(uuid);
        let no_init = || InstanceError::NoInit { uuid };
        let init = run.init.filter(|_| presence.has_init()).ok_or_else(no_init)?;
        let fd = PidFd::open(init).ok_or_else(no_init)?;
        fd.signal(number).map_err(|_| no_init())?;
        if number == libc::SIGKILL {
            // Callers expect the next look to show the end.
            fd.wait(Instant::now() + CLEAR_PATIENCE);
            self.await_supervisor(uuid);
        }
        Ok(signal_name(number))
    }

    /// Stores `autoboot`; nothing is written if it is so already.
    fn set_autoboot(&self, uuid: InstanceUuid, autoboot: bool) -> Result<(), InstanceError> {
        let mut file = self.machines.read(uuid)?.file;
        if file.config.autoboot == autoboot {
            return Ok(());
        }
        file.config.autoboot = autoboot;
        self.machines.write(&file)?;
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))
    }
}
