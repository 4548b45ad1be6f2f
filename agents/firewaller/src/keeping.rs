//! Keeping what is stored in force, whatever FWAPI does: at start before anything else, and again whenever somebody changed the table, the
//! files or an instance (section 12.6; rulings 1 and 9).
//!
//! Threads of their own hear the kernel's notices and those of the files; they ring, and one task looks. What this process did itself does
//! not ring.

use std::{
    convert::Infallible,
    ffi::OsStr,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use inotify::{EventMask, Inotify, WatchMask};
use tokio::{sync::Notify, time::Instant};
use tracing::{error, info, warn};
use triton_agent::chain;
use triton_files::Layout;
use triton_firewall::TABLE;
use triton_instance::Changes;
use triton_nft::{Change, Events, NftError};

use crate::{Numbers, RealNode};

/// Everything is looked at at least this often, whatever notices say.
const LOOK: Duration = Duration::from_secs(300);
/// FWAPI is asked again for files that cannot be used, at the next look after this: it may not have answered.
const ASK_AGAIN: Duration = Duration::from_secs(240);
/// How long notices are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// Who changes an instance follows with the firewall at once; after so long it is looked whether that was so.
const FOLLOWED: Duration = Duration::from_secs(2);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What may have changed.
#[derive(Debug, Default)]
struct Bell {
    notify: Notify,
    table: AtomicBool,
    files: AtomicBool,
    /// Somebody wrote into a file that was there, which nothing else shows.
    edited: AtomicBool,
}

impl Bell {
    fn ring(&self, which: &AtomicBool) {
        which.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// The upkeep of the table. Its threads end with the process.
pub struct Keeping {
    node: Arc<RealNode>,
    numbers: Numbers,
    bell: Arc<Bell>,
    said: bool,
    damaged: Vec<(String, String)>,
}

impl Keeping {
    /// Begins to listen, in the network namespace of the calling thread: no change after this is missed.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(layout: &Layout, node: Arc<RealNode>, numbers: Numbers) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let builder = |name: &str| thread::Builder::new().name(name.to_owned()).stack_size(256 << 10);
        let (ears, listening) = (bell.clone(), std::sync::mpsc::sync_channel(1));
        builder("table").spawn(move || hear_table(&ears, &listening.0))?;
        // The first notices are asked for before the first look.
        let _ = listening.1.recv_timeout(AFTER_FAILURE);
        let (eyes, folder) = (bell.clone(), layout.at("/var/fw"));
        builder("files").spawn(move || watch_files(&eyes, &folder))?;
        Ok(Self { node, numbers, bell, said: false, damaged: Vec::new() })
    }

    /// Puts what is stored in force; true if it is.
    pub async fn look(&mut self, closely: bool) -> bool {
        let node = self.node.clone();
        let result = tokio::task::spawn_blocking(move || (node.put_in_force(closely), node.damaged())).await;
        let applied = match result {
            Ok((applied, damaged)) => {
                self.tell_damaged(damaged);
                applied
            }
            Err(error) => {
                error!(%error, "looking after the table ended by itself");
                self.numbers.in_force(false);
                return false;
            }
        };
        match applied {
            Ok(applied) => {
                if applied.messages > 0 {
                    info!(messages = applied.messages, made = applied.made, "the table was brought to what is stored");
                    self.numbers.repaired();
                }
                self.said = false;
                self.numbers.in_force(true);
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    error!(error = %chain(&error), "what is stored cannot be put in force: what was in force stays");
                }
                self.numbers.in_force(false);
                false
            }
        }
    }

    fn tell_damaged(&mut self, damaged: Vec<(String, String)>) {
        self.numbers.damaged(damaged.len());
        self.damaged = damaged;
    }

    /// Looks whenever something changed, for ever. `ask` is rung when a file cannot be used: FWAPI has what it said.
    pub async fn run(mut self, changes: &Changes, ask: &Notify) {
        let mut instances = None;
        let mut look = Instant::now() + LOOK;
        let mut asked = Instant::now();
        loop {
            let wake = [Some(look), instances].into_iter().flatten().min().unwrap_or(look);
            tokio::select! {
                () = self.bell.notify.notified() => tokio::time::sleep(GATHER).await,
                _ = changes.next() => drop(instances.get_or_insert_with(|| Instant::now() + FOLLOWED)),
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Instant::now();
            let closely = self.bell.table.swap(false, Ordering::AcqRel) || now >= look;
            let files = self.bell.files.swap(false, Ordering::AcqRel);
            let of_instances = instances.take_if(|due| now >= *due).is_some();
            if !closely && !files && !of_instances {
                continue;
            }
            let known = self.damaged.clone();
            let edited = self.bell.edited.swap(false, Ordering::AcqRel);
            if closely || self.differs(of_instances, edited).await {
                let good = self.look(closely).await;
                look = Instant::now() + if good { LOOK } else { AFTER_FAILURE };
            }
            let news: Vec<_> = self.damaged.iter().filter(|file| !known.contains(file)).collect();
            for (path, reason) in &news {
                warn!(path, reason, "a file cannot be used; what is in force of it stays, and FWAPI is asked");
            }
            if !news.is_empty() || (!self.damaged.is_empty() && asked.elapsed() >= ASK_AGAIN) {
                asked = Instant::now();
                ask.notify_one();
            }
        }
    }

    /// Whether a notice of files or instances is worth a look. A file that was mended by a change needs none, and counts no more.
    async fn differs(&mut self, instances: bool, edited: bool) -> bool {
        let node = self.node.clone();
        match tokio::task::spawn_blocking(move || (node.differs(instances, edited), node.damaged())).await {
            Ok((differs, damaged)) => {
                self.tell_damaged(damaged);
                // What cannot be told is looked at.
                !matches!(differs, Ok(false))
            }
            Err(_) => true,
        }
    }
}

fn hear_table(bell: &Bell, listening: &std::sync::mpsc::SyncSender<()>) {
    let hear = || -> Result<Infallible, NftError> {
        let mut events = Events::open()?;
        bell.ring(&bell.table);
        let _ = listening.try_send(());
        loop {
            if Change::by_others(&events.wait(LOOK)?, TABLE) {
                bell.ring(&bell.table);
            }
        }
    };
    keep_on("changes of the table are not told; it is looked at every few minutes", hear);
}

fn watch_files(bell: &Bell, folder: &std::path::Path) {
    let watch = || -> io::Result<Infallible> {
        let mut inotify = Inotify::init()?;
        for name in ["rules", "vms"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)?;
            let mask = WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::CLOSE_WRITE | WatchMask::DELETE | WatchMask::DELETE_SELF;
            inotify.watches().add(folder, mask)?;
        }
        bell.edited.store(true, Ordering::Release);
        bell.ring(&bell.files);
        let mut buffer = [0; 4096];
        loop {
            for event in inotify.read_events_blocking(&mut buffer)? {
                if event.mask.contains(EventMask::IGNORED) {
                    return Err(io::Error::other("a folder was removed"));
                }
                if event.mask.contains(EventMask::Q_OVERFLOW) || (event.mask.contains(EventMask::CLOSE_WRITE) && is_record(event.name)) {
                    bell.edited.store(true, Ordering::Release);
                }
            }
            bell.ring(&bell.files);
            // What is written in one go rings once.
            thread::sleep(GATHER);
        }
    };
    keep_on("changes of rules by hand are not told; they are looked at every few minutes", watch);
}

/// Whether a rule or a remote instance has a file of this name, and not who is about to replace one.
fn is_record(name: Option<&OsStr>) -> bool {
    name.and_then(OsStr::to_str).is_some_and(|name| !name.starts_with('.'))
}

/// Does it again and again; the first of a row of the same failures is said.
fn keep_on<E: std::error::Error>(what: &str, act: impl Fn() -> Result<Infallible, E>) {
    let mut said = String::new();
    loop {
        let Err(error) = act();
        let text = error.to_string();
        if text != said {
            warn!(error = text, "{what}");
            said = text;
        }
        thread::sleep(AFTER_FAILURE);
    }
}
