//! A machine in the hands of a scenario: scripts on it, saved states, ends and beginnings.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    args::UpArgs,
    boot::Boot,
    disk,
    qemu::{self, Life, Start},
    ssh::Ssh,
    state::State,
    up::{self, BOOT, Place},
};
use crate::{
    run::{self, Output},
    say::Progress,
};

/// Differs from boot to boot.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// Longest script, where none is given.
const SCRIPT: Duration = Duration::from_secs(300);

/// A running machine that ends with this process.
#[derive(Debug)]
pub struct Bed {
    place: Place,
    state: State,
    progress: Progress,
    /// When everything has to be over.
    deadline: Instant,
    /// States that this process saved.
    saved: BTreeSet<String>,
    /// It was started with devices to which no saved state belongs.
    other_devices: bool,
}

impl Bed {
    /// Boots it, or has its saved state back.
    pub fn up(place: Place, size: &UpArgs, deadline: Instant) -> Result<Self> {
        let mut progress = Progress::new(up::STEPS);
        // One that a killed run left saved is as good as any; one that runs belongs to nobody.
        if let Some(state) = State::load(&place.dir)? {
            qemu::kill(&state)?;
        }
        let state = up::up(&place, size, Life::Ours, &mut progress).inspect_err(|_| progress.clear())?;
        Ok(Self { place, state, progress, deadline, saved: BTreeSet::new(), other_devices: false })
    }

    /// Another machine of the same image, with a blank disk and no state, which is off. It is new at each call.
    pub fn blank(&self, name: &str) -> Result<Self> {
        let place = Place { base: self.place.base.clone(), dir: self.place.dir.join(name), number: self.place.number };
        let mut progress = Progress::new(1);
        match std::fs::remove_dir_all(&place.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("could not remove {}: {error}", place.dir.display()),
            _ => drop(up::claim(&place)?),
        }
        disk::ensure(&place.dir, &mut progress)?;
        let (of, uuid) = (&self.state, triton_types::ServerUuid::random().to_string());
        let state = State::new(place.number, of.image.clone(), of.accel.clone(), (of.memory, of.cpus), qemu::free_ports()?, uuid);
        Ok(Self { place, state, progress, deadline: self.deadline, saved: BTreeSet::new(), other_devices: false })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is known of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The way in.
    pub fn ssh(&self) -> Ssh {
        Ssh::new(&self.place.dir, &self.state)
    }

    /// A sign of life.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// What is left of `limit` before everything has to be over.
    pub fn within(&self, limit: Duration) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { bail!("the time for tests on the node is over") } else { Ok(limit.min(left)) }
    }

    /// Runs a script; returns what it said.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let limit = self.within(SCRIPT)?;
        self.ssh().run(script, limit, &mut self.progress)
    }

    /// Runs a script that may fail.
    pub fn try_run(&mut self, script: &str) -> Result<Output> {
        let limit = self.within(SCRIPT)?;
        run::run(self.ssh().command(script), limit, &mut self.progress)
    }

    /// Runs a script until it succeeds.
    pub fn until(&mut self, what: &str, script: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + self.within(limit)?;
        loop {
            let output = self.try_run(script)?;
            if output.success {
                return Ok(output.text);
            }
            if Instant::now() > end {
                bail!("waited {} s in vain for: {what}; the last look said: {}", limit.as_secs(), output.text.trim());
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Copies files into a folder of the node.
    pub fn push(&mut self, files: &[PathBuf], folder: &str) -> Result<()> {
        self.within(SCRIPT)?;
        self.ssh().push(files, folder, &mut self.progress)
    }

    /// Saves memory and disk under a name; in the place of an earlier state of that name.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.run("sync")?;
        self.ssh().forget();
        qemu::save(&self.place.dir, name)?;
        self.saved.insert(name.to_owned());
        Ok(())
    }

    /// True if this process saved that state.
    pub fn saved(&self, name: &str) -> bool {
        self.saved.contains(name)
    }

    /// When everything has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Goes back to a saved state: a node that booted just now, as far as it knows, with the right time.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        let limit = self.within(SCRIPT)?;
        self.ssh().forget();
        if self.other_devices {
            // A scenario that failed left a machine to which no saved state belongs.
            qemu::kill(&self.state)?;
            self.other_devices = false;
        }
        if self.state.running().is_some() {
            qemu::restore(&self.place.dir, name)?;
        } else {
            let start = Start { restore: Some(name), boot: Boot::Kernel(""), life: Life::Ours };
            qemu::start(&self.place.dir, &mut self.state, &start, &mut self.progress)?;
        }
        self.ssh().wait(&self.state, limit, &mut self.progress)?;
        self.ssh().set_clock(&mut self.progress)
    }

    /// The power goes: what was not on the disk is lost.
    pub fn cut(&mut self) -> Result<()> {
        self.ssh().forget();
        qemu::kill(&self.state)
    }

    /// Power on, with more for the kernel's command line; waits until the node has booted to its end.
    pub fn boot(&mut self, append: &str) -> Result<()> {
        self.power_on(Boot::Kernel(append))?;
        self.booted()
    }

    /// Power on, and no more.
    pub fn power_on(&mut self, boot: Boot<'_>) -> Result<()> {
        let start = Start { restore: None, boot, life: Life::Ours };
        self.other_devices = !matches!(boot, Boot::Kernel(_));
        qemu::start(&self.place.dir, &mut self.state, &start, &mut self.progress)
    }

    /// Waits until the node lets us in and has booted to its end.
    pub fn booted(&mut self) -> Result<()> {
        let limit = self.within(BOOT)?;
        self.ssh().wait(&self.state, limit, &mut self.progress)?;
        self.settle()
    }

    /// An orderly reboot, as the operator asks for it.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.run(BOOT_ID)?;
        // The connection may end before the command does.
        let _ = run::run(self.ssh().alone("systemctl reboot"), Duration::from_secs(60), &mut self.progress);
        self.ssh().forget();
        let end = Instant::now() + self.within(BOOT)?;
        loop {
            // Each look has a connection of its own: one to the node that goes down would hang.
            let look = run::run(self.ssh().alone(BOOT_ID), Duration::from_secs(30), &mut self.progress);
            if look.is_ok_and(|look| look.success && look.text != before) {
                return self.settle();
            }
            if self.state.running().is_none() {
                bail!("the machine ended instead of rebooting");
            }
            if Instant::now() > end {
                bail!("the node did not reboot");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until every unit of the boot has been tried.
    fn settle(&mut self) -> Result<()> {
        // Its exit status says whether units failed: that is for the scenario to judge.
        self.try_run("timeout 280 systemctl is-system-running --wait").map(drop)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.ssh().forget();
        let _ = qemu::kill(&self.state);
    }
}
