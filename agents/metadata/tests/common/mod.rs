//! A guest of the service whose values are in memory, and clients of it.
// Each test file uses a part; a panic here is a failed test, with its place.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metadata_agent::{Guest, Limits, Numbers, Shared, Store, talk};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use triton_mdata::{Frame, Map, client::Ask};
use triton_types::{InstanceUuid, JsonMap, ProcessRef};

/// Only reached by failures.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The instance of metadata.md section 12.
pub fn fixture() -> JsonMap {
    serde_json::from_str(include_str!("../../../../crates/mdata/src/fixture.json")).unwrap()
}

/// Values in memory. Counts what is written, and fails when it is told to.
#[derive(Default)]
pub struct Memory {
    pub vm: Mutex<JsonMap>,
    pub writes: AtomicUsize,
    pub refuse: Mutex<Option<String>>,
    /// How long a look takes; how many there are at once, and were at most.
    pub slow: Duration,
    pub looks: (AtomicUsize, AtomicUsize),
}

impl Memory {
    fn check(&self) -> Result<(), String> {
        self.refuse.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    pub fn stored(&self, map: &str) -> JsonMap {
        self.vm.lock().unwrap()[map].as_object().unwrap().clone()
    }
}

impl Store for Memory {
    fn instances(&self) -> Result<Vec<InstanceUuid>, String> {
        Ok(vec![InstanceUuid::NIL])
    }

    fn prepare(&self, _: InstanceUuid) -> Result<Option<u32>, String> {
        Ok(Some(0))
    }

    fn view(&self, _: InstanceUuid) -> Result<JsonMap, String> {
        self.check()?;
        let (now, most) = &self.looks;
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::thread::sleep(self.slow);
        now.fetch_sub(1, Ordering::Relaxed);
        Ok(self.vm.lock().unwrap().clone())
    }

    fn door(&self, _: InstanceUuid) -> Option<ProcessRef> {
        None
    }

    fn change(&self, _: InstanceUuid, map: Map, key: &str, value: Option<&str>) -> Result<(), String> {
        self.check()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut vm = self.vm.lock().unwrap();
        let Some(Value::Object(stored)) = vm.get_mut(map.name()) else { return Err("there is no such map".to_owned()) };
        match value {
            Some(value) => drop(stored.insert(key.to_owned(), value.into())),
            None => drop(stored.shift_remove(key)),
        }
        Ok(())
    }
}

pub mod recorded;

pub struct Bed {
    pub store: Arc<Memory>,
    pub guest: Arc<Guest>,
}

/// Limits that do not slow tests down.
pub fn fast() -> Limits {
    Limits { reads: (1e6, 1e6), writes: (1e6, 1e6), ..Limits::default() }
}

impl Bed {
    pub fn new() -> Self {
        Self::with(fast())
    }

    pub fn with(limits: Limits) -> Self {
        let store = Arc::new(Memory { vm: Mutex::new(fixture()), ..Memory::default() });
        Self::beside(&Shared::new(&limits), store, limits)
    }

    /// A guest of a store that others have, too.
    pub fn beside(shared: &Shared, store: Arc<Memory>, limits: Limits) -> Self {
        let guest = Guest::new(InstanceUuid::NIL, store.clone(), Arc::new(limits), shared, Numbers::default());
        Self { store, guest: Arc::new(guest) }
    }

    pub fn connect(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guest = self.guest.clone();
        tokio::spawn(async move { talk(&guest, theirs).await });
        Client { stream: ours, rest: Vec::new() }
    }
}

pub struct Client {
    pub stream: UnixStream,
    rest: Vec<u8>,
}

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("it reads").unwrap();
    }

    /// The next line, without its end; `None` at the end of the connection.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.rest)).await.expect("it answers or closes") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends this and reads so many lines.
    pub async fn lines(&mut self, bytes: impl AsRef<[u8]>, count: usize) -> String {
        self.send(bytes).await;
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(&self.line().await.expect("the connection is open"));
            text.push('\n');
        }
        text
    }

    /// Nothing is said to this: the next answer is that to an empty line.
    pub async fn silence(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = [bytes.as_ref(), b"\n\n"].concat();
        assert_eq!(self.lines(&bytes, 1).await, "invalid command\n", "{}", String::from_utf8_lossy(&bytes));
    }

    /// The answer to a request of version 2, decoded.
    pub async fn ask(&mut self, ask: &Ask) -> (String, String) {
        let line = self.lines(ask.encode(7), 1).await;
        let frame = Frame::parse(line.trim_end()).unwrap_or_else(|| panic!("no frame: {line}"));
        assert_eq!(frame.request, "00000007");
        (frame.code.clone(), frame.text())
    }

    pub async fn put(&mut self, key: &str, value: &str) -> (String, String) {
        self.ask(&Ask::Put(key.to_owned(), value.as_bytes().to_vec())).await
    }

    pub async fn get(&mut self, key: &str) -> (String, String) {
        self.ask(&Ask::Get(key.to_owned())).await
    }

    pub async fn delete(&mut self, key: &str) -> (String, String) {
        self.ask(&Ask::Delete(key.to_owned())).await
    }

    pub async fn keys(&mut self) -> Vec<String> {
        self.ask(&Ask::Keys).await.1.lines().map(str::to_owned).collect()
    }
}

pub fn success(text: &str) -> (String, String) {
    ("SUCCESS".to_owned(), text.to_owned())
}

pub fn failure(text: &str) -> (String, String) {
    ("FAILURE".to_owned(), text.to_owned())
}

pub fn not_found() -> (String, String) {
    ("NOTFOUND".to_owned(), String::new())
}
