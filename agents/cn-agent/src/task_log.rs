//! One file for each task in `tasklogdir` (cn-agent.md section 2.7): bunyan records of what was asked, what happened, how it ended.
//!
//! Written by a thread of its own through a bounded queue, so that a slow disk delays no task; what does not fit is dropped and counted.
//! The directory is bounded too: the oldest files go.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use serde_json::{Value, json};
use triton_types::Timestamp;

use crate::{TaskName, redact};

/// Most files in the directory.
const MOST_FILES: usize = 1000;
/// Most bytes of all files.
const MOST_BYTES: u64 = 32 << 20;
/// After this many new files the directory is looked through.
const SWEEP_EVERY: u32 = 64;
/// Records that may wait to be written.
const QUEUE: usize = 512;

#[derive(Debug)]
struct Record {
    file: String,
    line: String,
}

/// Where the logs of tasks go.
#[derive(Clone, Debug)]
pub struct TaskLog {
    queue: Option<SyncSender<Record>>,
    dropped: Arc<AtomicU64>,
    hostname: Arc<str>,
}

impl TaskLog {
    /// Logs that go nowhere.
    pub fn none() -> Self {
        Self { queue: None, dropped: Arc::default(), hostname: "".into() }
    }

    /// Logs below `directory`, which is made if it is missing. The thread ends with the last clone.
    ///
    /// # Errors
    /// When the directory or the thread cannot be made.
    pub fn start(directory: &Path, hostname: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let (queue, records) = sync_channel(QUEUE);
        let directory = directory.to_owned();
        std::thread::Builder::new().name("task-log".to_owned()).spawn(move || write(&directory, &records))?;
        Ok(Self { queue: Some(queue), dropped: Arc::default(), hostname: hostname.into() })
    }

    /// Records that were lost because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The log of one task.
    pub fn task(&self, name: TaskName, request_id: &str) -> LogLine {
        let pid = std::process::id();
        let file = format!("{}-{pid}-{name}.log", Timestamp::now().as_millis());
        LogLine { log: self.clone(), file: file.into(), name, request_id: request_id.into() }
    }
}

/// Writes records into the log of one task.
#[derive(Clone, Debug)]
pub struct LogLine {
    log: TaskLog,
    file: Arc<str>,
    name: TaskName,
    request_id: Arc<str>,
}

impl LogLine {
    /// Writes one record; `fields` are redacted.
    pub fn write(&self, level: u8, message: &str, fields: &Value) {
        let Some(queue) = &self.log.queue else { return };
        let record = json!({
            "name": "cn-agent", "hostname": &*self.log.hostname, "pid": std::process::id(), "level": level, "task": self.name.as_str(),
            "req_id": &*self.request_id, "detail": redact(fields), "msg": message, "time": Timestamp::now(), "v": 0,
        });
        if queue.try_send(Record { file: self.file.to_string(), line: format!("{record}\n") }).is_err() {
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes an event of the task.
    pub fn event(&self, name: &str, event: &Value) {
        self.write(30, name, event);
    }
}

fn write(directory: &Path, records: &Receiver<Record>) {
    let mut fresh = 0;
    sweep(directory);
    for record in records {
        let path = directory.join(&record.file);
        let new = !path.exists();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(record.line.as_bytes())) {
            tracing::debug!(%error, path = %path.display(), "the log of a task could not be written");
        }
        fresh += u32::from(new);
        if fresh >= SWEEP_EVERY {
            fresh = 0;
            sweep(directory);
        }
    }
}

/// True for the names that this module gives: nothing else is ever removed.
fn is_ours(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let mut number = || parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    number() && number() && parts.next().is_some_and(|rest| rest.strip_suffix(".log").is_some_and(|name| name.parse::<TaskName>().is_ok()))
}

/// Removes the oldest logs until the directory is within its bounds.
fn sweep(directory: &Path) {
    let mut files: Vec<(String, PathBuf, u64)> = Vec::new();
    let mut sizes: HashMap<PathBuf, u64> = HashMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if is_ours(&name) {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            sizes.insert(entry.path(), size);
            files.push((name, entry.path(), size));
        }
    }
    // Names begin with the time in milliseconds, whose number of digits does not change before the year 2286.
    files.sort();
    let (mut count, mut bytes) = (files.len(), sizes.values().sum::<u64>());
    for (_, path, size) in files {
        if count <= MOST_FILES && bytes <= MOST_BYTES {
            return;
        }
        if fs::remove_file(&path).is_ok() {
            count -= 1;
            bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_logs_go_and_foreign_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..MOST_FILES + 10 {
            fs::write(directory.path().join(format!("{}-1-nop.log", 1_700_000_000_000_u64 + n as u64)), "x").unwrap();
        }
        for foreign in ["1700000000000-1-unknown.log", "notes.log", "1700000000000-x-nop.log"] {
            fs::write(directory.path().join(foreign), "x").unwrap();
        }
        sweep(directory.path());
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), MOST_FILES + 3);
        assert!(!names.contains(&"1700000000009-1-nop.log".to_owned()));
        assert!(names.contains(&"1700000000010-1-nop.log".to_owned()));
        fs::write(directory.path().join("1800000000000-1-nop.log"), vec![b'x'; MOST_BYTES as usize]).unwrap();
        sweep(directory.path());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "bytes are bounded too");
    }
}
