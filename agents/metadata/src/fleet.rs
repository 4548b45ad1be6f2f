//! The sockets of all instances: each has one, from before its guest's first boot until it is deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::Arc,
};

use tokio_util::task::TaskTracker;
use triton_agent::kept;
use triton_files::Layout;
use triton_instance::{LINE_SOCKET, zonecontrol};
use triton_types::{InstanceUuid, ProcessRef};

use crate::{Guest, Limits, Numbers, Shared, Store, http::Door, lines::Line, server::Server};

/// What one instance is served by.
struct Served {
    owner: u32,
    guest: Arc<Guest>,
    server: Server,
    line: Line,
    door: Option<Door>,
}

/// The sockets.
pub struct Fleet {
    layout: Layout,
    store: Arc<dyn Store>,
    limits: Arc<Limits>,
    shared: Shared,
    numbers: Numbers,
    tasks: TaskTracker,
    served: BTreeMap<InstanceUuid, Served>,
    /// Serial lines that the service manager kept for the next service, which is this one.
    lines: BTreeMap<InstanceUuid, OwnedFd>,
    missing: BTreeSet<InstanceUuid>,
    unlisted: bool,
}

impl Fleet {
    /// No sockets yet.
    pub fn new(layout: &Layout, store: Arc<dyn Store>, limits: Limits, numbers: Numbers) -> Self {
        Self {
            layout: layout.clone(),
            store,
            shared: Shared::new(&limits),
            limits: Arc::new(limits),
            numbers,
            tasks: TaskTracker::new(),
            served: BTreeMap::new(),
            lines: BTreeMap::new(),
            missing: BTreeSet::new(),
            unlisted: false,
        }
    }

    /// Takes over serial lines by the uuids of their guests.
    pub fn take_lines(&mut self, lines: impl IntoIterator<Item = (String, OwnedFd)>) {
        for (name, line) in lines {
            match name.parse() {
                Ok(uuid) => drop(self.lines.insert(uuid, line)),
                Err(_) => kept::forget(&name),
            }
        }
    }

    /// Looks at every instance. When they cannot be listed, all sockets stay as they are (invariant 1).
    pub async fn look_at_all(&mut self) {
        let store = self.store.clone();
        let listed = tokio::task::spawn_blocking(move || store.instances()).await;
        match listed.map_err(|error| error.to_string()).and_then(|listed| listed) {
            Ok(mut uuids) => {
                self.unlisted = false;
                uuids.extend(self.served.keys().copied());
                uuids.extend(self.missing.iter().copied());
                uuids.sort_unstable();
                uuids.dedup();
                for uuid in uuids {
                    self.look_at(uuid).await;
                }
                // What is left belongs to nobody.
                std::mem::take(&mut self.lines).keys().for_each(|uuid| kept::forget(&uuid.to_string()));
            }
            // A node that is not set up yet says it once.
            Err(error) if !std::mem::replace(&mut self.unlisted, true) => {
                tracing::error!(%error, "the instances cannot be listed: sockets stay as they are");
            }
            Err(_) => {}
        }
    }

    /// Looks at one instance: gives it a socket, or takes it away.
    pub async fn look_at(&mut self, uuid: InstanceUuid) {
        let store = self.store.clone();
        let http = self.limits.http_connections > 0;
        let looked = tokio::task::spawn_blocking(move || (store.prepare(uuid), if http { store.door(uuid) } else { None })).await;
        let (owner, init) = looked.unwrap_or_else(|error| (Err(error.to_string()), None));
        match owner {
            Ok(None) => {
                if self.served.remove(&uuid).is_some() {
                    kept::forget(&uuid.to_string());
                }
                self.missing.remove(&uuid);
            }
            Ok(Some(owner)) => {
                self.serve(uuid, owner);
                self.open(uuid, init);
            }
            Err(error) => {
                // One that is served goes on being served.
                if !self.served.contains_key(&uuid) && self.missing.insert(uuid) {
                    tracing::error!(vm_uuid = %uuid, %error, "an instance has no metadata socket");
                }
            }
        }
        self.numbers.set(self.served.len(), self.missing.len());
    }

    fn serve(&mut self, uuid: InstanceUuid, owner: u32) {
        if let Some(served) = self.served.get(&uuid).filter(|served| served.owner == owner && served.server.is_there()) {
            served.line.wake();
            return;
        }
        // Its connections end: what they belong to is gone.
        self.served.remove(&uuid);
        let path = self.layout.zonecontrol(uuid).join(zonecontrol::SOCKET);
        let guest = Guest::new(uuid, self.store.clone(), self.limits.clone(), &self.shared, self.numbers.clone());
        let guest = Arc::new(guest);
        match Server::start(guest.clone(), &path, owner, &self.tasks) {
            Ok(server) => {
                let line = Line::start(guest.clone(), self.layout.runtime(uuid).join(LINE_SOCKET), self.lines.remove(&uuid), &self.tasks);
                self.missing.remove(&uuid);
                self.served.insert(uuid, Served { owner, guest, server, line, door: None });
            }
            Err(error) => {
                if self.missing.insert(uuid) {
                    tracing::error!(vm_uuid = %uuid, error = %triton_agent::chain(&error), "an instance has no metadata socket");
                }
            }
        }
    }

    /// Serves the namespace of `init` over HTTP, or none.
    fn open(&mut self, uuid: InstanceUuid, init: Option<ProcessRef>) {
        let Some(served) = self.served.get_mut(&uuid) else { return };
        if served.door.as_ref().map(Door::process) != init {
            served.door = None;
            served.door = init.map(|init| Door::start(served.guest.clone(), served.owner, init, &self.tasks));
        }
    }

    /// Instances with a socket.
    pub fn len(&self) -> usize {
        self.served.len()
    }

    /// No instance has one.
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }
}
