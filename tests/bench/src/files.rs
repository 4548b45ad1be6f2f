//! When the kernel told of changes of instances' files.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
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

/// When a file was put in its place, or last something out of or into a folder.
fn ctime_ms(metadata: io::Result<Metadata>) -> Option<f64> {
    metadata.ok().map(|found| found.ctime() as f64 * 1e3 + found.ctime_nsec() as f64 / 1e6)
}

/// The time and the text of one and the same file, whatever takes its place meanwhile.
fn contents(path: &Path) -> (Option<f64>, String) {
    let Ok(mut file) = File::open(path) else { return (None, String::new()) };
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    (read.ok().and_then(|_| ctime_ms(file.metadata())), text)
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
                    let woken = now_ms();
                    for event in events {
                        let Some(name) = event.name.and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
                        let gone = event.mask.contains(EventMask::DELETE);
                        if gone && !is_machine {
                            continue;
                        }
                        // This thread may be woken late; the kernel's own time of the change is not.
                        let (changed, text) = match gone {
                            true => (ctime_ms(fs::metadata(&folder)), String::new()),
                            false => contents(&folder.join(format!("{name}.json"))),
                        };
                        let at = changed.map_or(woken, |changed| changed.min(woken));
                        let what = match (is_machine, gone) {
                            (true, true) => "gone".to_owned(),
                            (true, false) => "machine".to_owned(),
                            (false, _) => {
                                let run: Value = serde_json::from_str(&text).unwrap_or_default();
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
