//! When to look at the machine's own links and tags again: the kernel tells of links, inotify of the tags' file (net-agent.md section 18).

use std::{io, sync::Arc, thread, time::Duration};

use inotify::{Inotify, WatchMask};
use tokio::{sync::Notify, time::Instant};
use triton_agent::chain;
use triton_files::Layout;
use triton_link::{LinkEvent, LinkEvents, NetNs};
use triton_netconf::{BRIDGE_PREFIX, HOST_PORT_PREFIX, TRUNK_PREFIXES};

/// How long changes are gathered: links change many times while they come up.
const GATHER: Duration = Duration::from_millis(300);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Host ends of guests' links.
const GUEST: &str = "vt";

/// A link that guests' starts and stops make and remove all the time, or that only joins two of ours.
fn is_of_guests(name: &str) -> bool {
    [GUEST, HOST_PORT_PREFIX, TRUNK_PREFIXES[0], TRUNK_PREFIXES[1], BRIDGE_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// Rings `bell` whenever a link of the machine's may have changed, for ever.
pub async fn watch_links(bell: Arc<Notify>) {
    loop {
        let opened = NetNs::current().and_then(|netns| LinkEvents::open(&netns));
        let error = match opened {
            Ok(events) => {
                // What happened before is looked at now.
                bell.notify_one();
                listen(events, &bell).await
            }
            Err(error) => error,
        };
        tracing::warn!(error = %chain(&error), "changes of links are not told");
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

async fn listen(mut events: LinkEvents, bell: &Notify) -> triton_link::LinkError {
    let mut due: Option<Instant> = None;
    loop {
        let ring = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Ok(LinkEvent::Changed(link) | LinkEvent::Removed(link)) if is_of_guests(&link.name) => {}
                Ok(_) => drop(due.get_or_insert_with(|| Instant::now() + GATHER)),
                Err(error) => return error,
            },
            () = ring => {
                due = None;
                bell.notify_one();
            }
        }
    }
}

/// Rings `bell` whenever the file of tags was replaced, on a thread that ends with the process.
///
/// # Errors
/// When the thread cannot be started.
pub fn watch_tags(layout: &Layout, bell: Arc<Notify>) -> io::Result<()> {
    let folder = layout.config();
    let watch = move || -> io::Result<std::convert::Infallible> {
        let mut inotify = Inotify::init()?;
        inotify.watches().add(&folder, WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE)?;
        bell.notify_one();
        let mut buffer = [0; 4096];
        loop {
            let tags = |name: Option<&std::ffi::OsStr>| name.is_none_or(|name| name == "triton-networking.json");
            if inotify.read_events_blocking(&mut buffer)?.any(|event| tags(event.name)) {
                bell.notify_one();
            }
        }
    };
    let run = move || {
        let mut said = false;
        loop {
            let Err(error) = watch();
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(%error, "changes of the NIC tags are not told; they are seen when links change");
            }
            thread::sleep(AFTER_FAILURE);
        }
    };
    thread::Builder::new().name("tags".to_owned()).stack_size(256 << 10).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_guests_are_not_the_machines() {
        for (name, guests) in
            [("vtabc", true), ("tv0123456789", true), ("tb0123456789", true), ("eth0", false), ("aggr0", false), ("external0", false)]
        {
            assert_eq!(is_of_guests(name), guests, "{name}");
        }
    }

    #[tokio::test]
    async fn a_new_file_of_tags_rings() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir_all(layout.config()).unwrap();
        let bell = Arc::new(Notify::new());
        watch_tags(&layout, bell.clone()).unwrap();
        bell.notified().await;
        triton_files::write_json(&layout.config().join("triton-networking.json"), &serde_json::json!({}), 0o644).unwrap();
        tokio::time::timeout(Duration::from_secs(20), bell.notified()).await.unwrap();
    }
}
