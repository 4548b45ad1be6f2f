//! Keeping the guard of guests' NICs in force, whatever NAPI does (rulings 9 and 25): what somebody emptied is made anew at once, and what
//! guests are given by DHCP and router advertisements is learned from copies of the packets.
//!
//! Threads of their own, since the kernel's answers block; all end with the process or soon after [`Guarding`] is dropped. One more looks
//! after the node's own firewall.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::net::if_::if_indextoname;
use triton_agent::chain;
use triton_files::Layout;
use triton_guard::{COPIES, Guard, Heard, Lesson, Snoop, TABLE};
use triton_instance::guard::{all_protections, compare, repair};
use triton_nft::{Change, Copy, Events, Logs, NftError};

use crate::{host_firewall::HostFirewall, metrics::Numbers};

/// The table is looked at at least this often, whatever notices say.
const LOOK: Duration = Duration::from_secs(30);
/// How long changes of the table gather before its sets are held against all NICs: guests start and stop in numbers.
const GATHER: Duration = Duration::from_secs(1);
/// After such a comparison comes a pause of so many times its length.
const REST: u32 = 20;
/// The sets are held against all NICs at least this often.
const COMPARE: Duration = Duration::from_secs(300);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Pause after copies could not be asked for: somebody else reads them, or this kernel makes none.
const WITHOUT_COPIES: Duration = Duration::from_secs(30);
/// What NICs may do is read anew when it is older than this and a packet came.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// Host ends of guests' links.
const GUEST: &str = "vt";

/// The upkeep of the guard. It ends soon after this is dropped.
#[derive(Debug)]
pub struct Guarding(Arc<AtomicBool>);

impl Drop for Guarding {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Guarding {
    /// Begins, in the network namespace of the calling thread. Returns when the guard has been looked at once, or could not be.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn start(layout: &Layout, numbers: &Numbers) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (looked, first) = mpsc::sync_channel(1);
        let keep = Keeper { layout: layout.clone(), numbers: numbers.clone(), stop: stop.clone(), said: false };
        let builder = |name: &str| thread::Builder::new().name(name.to_owned()).stack_size(512 << 10);
        builder("guard").spawn(move || keep.run(&looked))?;
        let ear = Ear { layout: layout.clone(), numbers: numbers.clone(), stop: stop.clone(), snoop: Snoop::default(), known: None };
        builder("snoop").spawn(move || ear.run())?;
        if let Some(host) = HostFirewall::of(layout, numbers, &stop) {
            builder("host").spawn(move || host.run())?;
        }
        // A keeper that ends without a word has said why.
        let _ = first.recv_timeout(LOOK);
        Ok(Self(stop))
    }
}

/// Notices changes of the table and repairs it.
struct Keeper {
    layout: Layout,
    numbers: Numbers,
    stop: Arc<AtomicBool>,
    said: bool,
}

impl Keeper {
    fn run(mut self, looked: &mpsc::SyncSender<()>) {
        while !self.stop.load(Ordering::Relaxed) {
            let result = Events::open().and_then(|mut events| {
                // What happened before is seen now.
                let mut pending = !self.repair();
                let _ = looked.try_send(());
                let (mut compare_at, mut rested_at) = (Instant::now(), Instant::now());
                while !self.stop.load(Ordering::Relaxed) {
                    let patience = if pending { AFTER_FAILURE } else { LOOK.min(compare_at.saturating_duration_since(Instant::now())) };
                    let changes = events.wait(patience)?;
                    let quiet = changes.is_empty();
                    let concerns =
                        |change: &Change| matches!(change, Change::Lost) || matches!(change, Change::Table(table) if table == TABLE);
                    let changed = changes.iter().any(concerns);
                    if pending || quiet || changed {
                        pending = !self.repair();
                    }
                    let now = Instant::now();
                    if changed {
                        compare_at = compare_at.min((now + GATHER).max(rested_at));
                    }
                    if now >= compare_at {
                        let right = self.compare();
                        // What was put right comes back as a change of the table, and is looked at once more.
                        compare_at = Instant::now() + if right { COMPARE } else { AFTER_FAILURE };
                        // It reads the files of all instances: however often guests start, others have most of the time.
                        rested_at = Instant::now() + now.elapsed() * REST;
                    }
                }
                Ok(())
            });
            let _ = looked.try_send(());
            if let Err(error) = result {
                self.say(&error);
                thread::sleep(AFTER_FAILURE);
            }
        }
    }

    /// False if it has to be tried again.
    fn repair(&mut self) -> bool {
        match repair(&self.layout) {
            Ok(None) => {}
            Ok(Some(nics)) => {
                tracing::warn!(nics, "the guard of guests' NICs was not in force: it is made anew");
                self.numbers.repaired();
            }
            Err(error) => {
                self.say(&error);
                self.numbers.guard(false);
                return false;
            }
        }
        self.said = false;
        self.numbers.guard(true);
        true
    }

    /// False if it has to be tried again.
    fn compare(&mut self) -> bool {
        match compare(&self.layout) {
            Ok(links) if links.is_empty() => true,
            Ok(links) => {
                tracing::warn!(?links, "the guard's sets were not as the NICs say: they are put right");
                self.numbers.repaired();
                true
            }
            Err(error) => {
                self.say(&error);
                false
            }
        }
    }

    /// Says the first of a row of failures.
    fn say(&mut self, error: &(dyn std::error::Error + 'static)) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::error!(error = %chain(error), "the guard of guests' NICs cannot be looked after");
        }
    }
}

/// Hears what guests are given.
struct Ear {
    layout: Layout,
    numbers: Numbers,
    stop: Arc<AtomicBool>,
    snoop: Snoop,
    known: Option<Instant>,
}

impl Ear {
    fn run(mut self) {
        let mut said = false;
        while !self.stop.load(Ordering::Relaxed) {
            let Err(error) = self.listen() else { return };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(error = %chain(&error), "addresses that guests are given cannot be learned");
            }
            thread::sleep(WITHOUT_COPIES);
        }
    }

    fn listen(&mut self) -> Result<(), NftError> {
        let mut logs = Logs::open(COPIES.0, COPIES.1)?;
        let mut lost = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for copy in logs.wait(LOOK)? {
                self.hear(&copy);
            }
            if logs.lost() > lost {
                tracing::warn!(times = logs.lost() - lost, "packets that give guests addresses were lost: clients ask again");
                lost = logs.lost();
            }
        }
        Ok(())
    }

    fn hear(&mut self, copy: &Copy) {
        let guest = |index: Option<u32>| {
            let name = if_indextoname(index?).ok()?.into_string().ok()?;
            name.starts_with(GUEST).then_some(name)
        };
        let (link, heard) = match (guest(copy.output), guest(copy.input)) {
            (Some(link), _) => (link, Heard::Told),
            (None, Some(link)) => (link, Heard::Asked),
            (None, None) => return,
        };
        let now = Instant::now();
        if !self.snoop.knows(&link) || self.known.is_none_or(|at| now >= at + KNOWN_FOR) {
            match all_protections(&self.layout) {
                Ok(all) => {
                    self.snoop.watch(all);
                    self.known = Some(now);
                }
                Err(error) => tracing::warn!(error, "what NICs may do is not known: what was known counts on"),
            }
        }
        for lesson in self.snoop.hear(&link, heard, &copy.payload, now) {
            self.apply(&link, &lesson);
        }
    }

    fn apply(&self, link: &str, lesson: &Lesson) {
        let result = Guard::open(&self.layout).and_then(|mut guard| match lesson {
            Lesson::Learn(address, time) => guard.learn(link, *address, *time),
            Lesson::Unlearn(address) => guard.unlearn(link, *address),
        });
        match result {
            Ok(()) => {
                tracing::info!(link, ?lesson, "a guest's dynamic address");
                self.numbers.learned();
            }
            Err(error) => tracing::warn!(link, ?lesson, error = %chain(&error), "a guest's dynamic address cannot be made good"),
        }
    }
}
