//! `xtask vm up`: from nothing, or from a saved state, to a node that lets us in.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::{
    accel,
    args::UpArgs,
    boot::Boot,
    disk, node,
    qemu::{self, BOOTED, Life, Start},
    ssh::Ssh,
    state::State,
};
use crate::{
    packages::{self, Purpose},
    platform::{self, ImageArgs},
    say::Progress,
};

/// From power on to a shell, under emulation on a busy machine.
pub const BOOT: Duration = Duration::from_secs(900);

/// Steps that [`up`] shows.
pub const STEPS: usize = platform::STEPS + 4;

/// A machine's place: its folder, and which of a pair it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder of all machines.
    pub base: PathBuf,
    /// The machine's own, which may be the same.
    pub dir: PathBuf,
    /// 0, or 1 for the second.
    pub number: u8,
}

impl Place {
    /// The first machine below `base`.
    pub fn first(base: &Path) -> Self {
        Self { base: base.to_owned(), dir: base.to_owned(), number: 0 }
    }

    /// The machine of the tests below `base`.
    pub fn of_tests(base: &Path) -> Self {
        Self { base: base.to_owned(), dir: base.join("test"), number: 0 }
    }

    /// The second machine of the pair whose first is `self`.
    pub fn second(&self) -> Self {
        Self { base: self.base.clone(), dir: self.dir.join("second"), number: 1 }
    }

    /// Every machine that may be below `base`, those that are below others first.
    pub fn all(base: &Path) -> [Self; 4] {
        let (first, test) = (Self::first(base), Self::of_tests(base));
        [test.second(), test, first.second(), first]
    }
}

/// Boots or restores the machine; leaves alone one that runs.
pub fn up(place: &Place, args: &UpArgs, life: Life, progress: &mut Progress) -> Result<State> {
    let dir = &place.dir;
    let _lock = claim(place)?;
    let known = State::load(dir)?;
    if let Some(state) = known.as_ref().filter(|state| state.running().is_some()) {
        if !state.saved {
            bail!("the machine in {} was not set up to its end: look at it with `vm ssh` and `vm log`, then `vm down`", dir.display());
        }
        return Ok(state.clone());
    }
    packages::ensure(&[Purpose::Machine], progress)?;
    let built = platform::ensure(&ImageArgs { release: args.release, ..ImageArgs::default() }, progress)?;

    progress.begin("disks, key, acceleration");
    let medium = disk::medium(&built, progress)?;
    let image = disk::keep(dir, &built)?;
    let chosen = accel::choose(&built.file("vmlinuz"), || progress.turn("probing KVM"))?;
    let uuid = known.as_ref().map_or_else(|| triton_types::ServerUuid::random().to_string(), |state| state.uuid.clone());
    let size = (args.memory, args.cpus);
    let mut state = State::new(place.number, image, chosen, size, qemu::free_ports()?, uuid);
    // A saved state belongs to an image and a machine: it is used only where nothing differs.
    let same = known.is_some_and(|known| known.fits(&state));
    let restore = same && !args.boot;
    if life == Life::Ours && !restore {
        // What tests begin on is new: nothing of an earlier run may decide how they end.
        disk::remove(dir)?;
    }
    disk::ensure(dir, progress)?;
    progress.done(format_args!("{}, {}", state.accel, medium.display()));

    progress.begin(if restore { "the saved state" } else { "boot (1 to 3 minutes under emulation)" });
    let ssh = Ssh::new(dir, &state);
    ssh.forget();
    let start = Start { restore: restore.then_some(BOOTED), boot: Boot::Kernel(""), life };
    if let Err(error) = qemu::start(dir, &mut state, &start, progress).and_then(|()| ssh.wait(&state, BOOT, progress)) {
        qemu::kill(&state)?;
        return Err(error);
    }
    progress.done("the node lets us in");

    progress.begin("pool, datasets, configuration");
    ssh.set_clock(progress)?;
    state.saved = same;
    if restore {
        progress.done("as they were saved");
    } else {
        node::set_up(&ssh, place.number, progress)?;
        progress.done("zones");
    }

    progress.begin("saved state");
    if restore {
        progress.done(BOOTED);
    } else {
        ssh.forget();
        qemu::save(dir, BOOTED)?;
        state.saved = true;
        progress.done(format_args!("{BOOTED}: the next `up` has it back in seconds"));
    }
    state.save(dir)?;
    Ok(state)
}

/// One verb at a time changes the machine; its folders are ours or new.
pub fn claim(place: &Place) -> Result<Flock<fs::File>> {
    mark(&place.base)?;
    match Flock::lock(mark(&place.dir)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => bail!("another xtask works on the machine in {}", place.dir.display()),
    }
}

/// The file that says that a folder is ours.
pub const MARKER: &str = ".triton-vm";

/// Makes a folder ours, or finds that it is; the file that says so.
fn mark(dir: &Path) -> Result<fs::File> {
    let marker = dir.join(MARKER);
    let foreign = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) && !marker.exists();
    ensure!(!foreign, "{} holds files that `vm up` did not make: choose another folder with --dir", dir.display());
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    fs::File::create(&marker).with_context(|| format!("could not create {}", marker.display()))
}
