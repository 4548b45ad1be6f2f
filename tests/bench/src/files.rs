//! When the kernel told of changes of instances' files.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use inotify::{EventMask, Inotify, WatchMask};
use serde_json::Value;
use triton_files::Layout;

/// Milliseconds since 1970.
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// One event: what happened (`machine`: a machine file was replaced; `gone`: it was removed; else the phase in a run-state), to which
/// instance, when.
type Event = (String, String, f64);

/// Events as they come, on a thread that ends with the process.
pub struct FileEvents(Arc<Mutex<Vec<Event>>>);

impl FileEvents {
    /// Those of the node below `layout`.
    pub fn of(layout: &Layout) -> Self {
        let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
        for (folder, is_machine) in [(layout.machines(), true), (layout.run_states(), false)] {
            let seen = seen.clone();
            let mut inotify = Inotify::init().expect("inotify");
            inotify.watches().add(&folder, WatchMask::MOVED_TO | WatchMask::DELETE).expect("the folder is there");
            thread::spawn(move || {
                let mut buffer = [0; 16 << 10];
                while let Ok(events) = inotify.read_events_blocking(&mut buffer) {
                    let at = now_ms();
                    for event in events {
                        let Some(name) = event.name.and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
                        let gone = event.mask.contains(EventMask::DELETE);
                        let what = match (is_machine, gone) {
                            (true, true) => "gone".to_owned(),
                            (true, false) => "machine".to_owned(),
                            (false, true) => continue,
                            (false, false) => {
                                let text = fs::read(folder.join(format!("{name}.json"))).unwrap_or_default();
                                let run: Value = serde_json::from_slice(&text).unwrap_or_default();
                                run["phase"].as_str().unwrap_or_default().to_owned()
                            }
                        };
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push((what, name.to_owned(), at));
                    }
                }
            });
        }
        Self(seen)
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// When this happened to the instance first.
    pub fn first(&self, uuid: &str, what: &str) -> Option<f64> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(kind, of, _)| kind == what && of == uuid).map(|(_, _, at)| *at)
    }
}
