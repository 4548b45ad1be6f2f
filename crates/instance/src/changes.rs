//! Changes of the instances for an agent: a thread watches, the agent takes what gathered. Bounded by the number of instances.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;
use triton_files::{FileError, Layout};
use triton_types::InstanceUuid;

use crate::{Watcher, error::chain_text};

/// Pause after the watcher failed (vm-agent.md section 6.1).
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What gathered since it was last taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Instances that changed.
    pub touched: BTreeSet<InstanceUuid>,
    /// Watching was interrupted: anything may have changed.
    pub gap: bool,
}

/// The meeting point of the watcher and the agent.
#[derive(Debug, Default)]
pub struct Changes {
    news: Mutex<News>,
    bell: Notify,
    watching: AtomicBool,
}

impl Changes {
    /// Adds a change.
    pub fn touch(&self, uuids: impl IntoIterator<Item = InstanceUuid>) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).touched.extend(uuids);
        self.bell.notify_one();
    }

    /// Says that anything may have changed.
    pub fn gap(&self) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).gap = true;
        self.bell.notify_one();
    }

    /// Waits for news and takes them.
    pub async fn next(&self) -> News {
        loop {
            let rung = self.bell.notified();
            let news = self.take();
            if news != News::default() {
                return news;
            }
            rung.await;
        }
    }

    /// Takes what there is.
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True while changes are seen as they happen.
    pub fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }
}

/// Watches the instances below `layout` on a thread that ends with the process.
///
/// # Errors
/// When the thread cannot be started.
pub fn watch(layout: &Layout, changes: Arc<Changes>) -> io::Result<()> {
    start(layout, changes, Watcher::new)
}

/// As [`watch`], and follows the inits of instances that run, with a descriptor for each: for who has to know at once that one died.
///
/// # Errors
/// As [`watch`].
pub fn watch_with_inits(layout: &Layout, changes: Arc<Changes>) -> io::Result<()> {
    start(layout, changes, Watcher::with_inits)
}

type Open = fn(&Layout) -> Result<Watcher, FileError>;

fn start(layout: &Layout, changes: Arc<Changes>, open: Open) -> io::Result<()> {
    let layout = layout.clone();
    thread::Builder::new().name("watcher".to_owned()).stack_size(256 << 10).spawn(move || run(&layout, &changes, open)).map(drop)
}

fn run(layout: &Layout, changes: &Changes, open: Open) {
    let mut failing = false;
    loop {
        let result = open(layout).and_then(|mut watcher| {
            failing = false;
            changes.watching.store(true, Ordering::Relaxed);
            changes.gap();
            loop {
                changes.touch(watcher.wait(Duration::from_secs(3600))?.into_iter().map(|change| change.uuid));
            }
        });
        let result: Result<std::convert::Infallible, _> = result;
        changes.watching.store(false, Ordering::Relaxed);
        if let Err(error) = result
            && !std::mem::replace(&mut failing, true)
        {
            tracing::error!(error = %chain_text(&error), "instances cannot be watched: nothing is reported until they can");
        }
        thread::sleep(AFTER_FAILURE);
    }
}
