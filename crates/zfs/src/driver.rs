//! The verbs. Each tells in its documentation what it calls (the table is in the crate's head).

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use crate::{
    Dataset, DatasetName, FailureKind, Invocation, Pool, PoolHealth, Properties, SnapshotName, SnapshotRow, StreamHeader, StreamKind,
    ZfsError,
    core::library,
    ffi::Library,
    parse_datasets, parse_pool_status, parse_pools, parse_snapshots,
    run::{self, Pump, pump},
    stream::HEADER,
};

/// What a stream may contain that older receivers cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// Blocks larger than 128 KiB as they are.
    pub large_blocks: bool,
    /// Blocks as they are compressed on disk.
    pub compressed: bool,
    /// Tiny blocks embedded in their pointers.
    pub embedded: bool,
}

impl SendOptions {
    /// `enum lzc_send_flags`.
    fn bits(self) -> i32 {
        i32::from(self.embedded) | i32::from(self.large_blocks) << 1 | i32::from(self.compressed) << 2
    }
}

/// OpenZFS on this machine. Cheap to copy: the libraries are loaded once per process, commands run per call.
#[derive(Clone, Copy)]
pub struct Zfs {
    library: &'static Library,
}

impl std::fmt::Debug for Zfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zfs")
    }
}

impl Zfs {
    /// Loads the libraries, opens `/dev/zfs` and runs `zpool list` once.
    ///
    /// # Errors
    /// [`ZfsError::Unavailable`] names what is missing: library, kernel module or command.
    pub fn open() -> Result<Self, ZfsError> {
        let zfs = Self { library: library()? };
        zfs.pools()?;
        Ok(zfs)
    }

    /// Creates the file system `name`, not mounted. `lzc_create`.
    ///
    /// # Errors
    /// When it exists, or ZFS refuses.
    pub fn create(&self, name: &DatasetName, properties: &Properties) -> Result<(), ZfsError> {
        self.library.create(name.as_str(), &properties.numbers()).map_err(|e| ZfsError::from_errno("create", name, e))
    }

    /// Creates `name` as a clone of `origin`, with its properties in the same transaction, not mounted. `lzc_clone`.
    ///
    /// # Errors
    /// When it exists, the origin does not, or ZFS refuses.
    pub fn clone_from(&self, origin: &SnapshotName, name: &DatasetName, properties: &Properties) -> Result<(), ZfsError> {
        self.library
            .clone(name.as_str(), origin.as_str(), &properties.numbers())
            .map_err(|e| ZfsError::from_errno("clone", &format!("{origin} to {name}"), e))
    }

    /// Makes a snapshot. `lzc_snapshot`.
    ///
    /// # Errors
    /// When it exists or a limit is reached.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<(), ZfsError> {
        self.library.snapshot(&[name.as_str()]).map_err(|e| ZfsError::from_errno("make the snapshot", name, e))
    }

    /// Makes snapshots of datasets of one pool, all of the same moment or none. `lzc_snapshot`.
    ///
    /// # Errors
    /// When one of them exists, or a limit is reached.
    pub fn snapshot_together(&self, names: &[SnapshotName]) -> Result<(), ZfsError> {
        let Some(first) = names.first() else { return Ok(()) };
        let all: Vec<&str> = names.iter().map(SnapshotName::as_str).collect();
        self.library.snapshot(&all).map_err(|e| ZfsError::from_errno("make the snapshot", first, e))
    }

    /// Destroys a snapshot; one that is not there is success. `lzc_destroy_snaps`.
    ///
    /// # Errors
    /// When it is held or has clones.
    pub fn destroy_snapshot(&self, name: &SnapshotName) -> Result<(), ZfsError> {
        match self.library.destroy_snapshot(name.as_str()) {
            Ok(()) | Err(libc::ENOENT) => Ok(()),
            Err(libc::EEXIST) => Err(ZfsError::Failed {
                action: "destroy",
                target: name.to_string(),
                kind: FailureKind::HasClones,
                reason: "it has clones".to_owned(),
            }),
            Err(errno) => Err(ZfsError::from_errno("destroy", name, errno)),
        }
    }

    /// Destroys an unmounted dataset without snapshots and children. `lzc_destroy`.
    ///
    /// # Errors
    /// When it is not there, mounted, or something is below it.
    pub fn destroy(&self, name: &DatasetName) -> Result<(), ZfsError> {
        self.library.destroy(name.as_str()).map_err(|e| ZfsError::from_errno("destroy", name, e))
    }

    /// Unmounts and destroys a dataset, its snapshots and everything below; absent is success. `zfs destroy -r`.
    ///
    /// # Errors
    /// When it is busy, a snapshot is held, or clones depend on it.
    pub fn destroy_recursive(&self, name: &DatasetName) -> Result<(), ZfsError> {
        absent_is_done(run::run(&Invocation::destroy_recursive(name)))
    }

    /// Puts a hold named `tag` on a snapshot; one that is there already is success. `lzc_hold`.
    ///
    /// # Errors
    /// When the snapshot is not there.
    pub fn hold(&self, snapshot: &SnapshotName, tag: &str) -> Result<(), ZfsError> {
        match self.library.hold(snapshot.as_str(), tag) {
            Ok(()) | Err(libc::EEXIST) => Ok(()),
            Err(errno) => Err(ZfsError::from_errno("hold", snapshot, errno)),
        }
    }

    /// Removes the hold `tag`; one that is not there is success. `lzc_release`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&self, snapshot: &SnapshotName, tag: &str) -> Result<(), ZfsError> {
        match self.library.release(snapshot.as_str(), tag) {
            Ok(()) | Err(libc::ENOENT | libc::ESRCH) => Ok(()),
            Err(errno) => Err(ZfsError::from_errno("release", snapshot, errno)),
        }
    }

    /// Names of the holds on a snapshot. `lzc_get_holds`.
    ///
    /// # Errors
    /// When the snapshot is not there.
    pub fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<String>, ZfsError> {
        self.library.holds(snapshot.as_str()).map_err(|e| ZfsError::from_errno("read the holds of", snapshot, e))
    }

    /// Whether a dataset or snapshot of that name exists. `lzc_exists`.
    ///
    /// # Errors
    /// Never for a legal name.
    pub fn exists(&self, name: &DatasetName) -> Result<bool, ZfsError> {
        self.library.exists(name.as_str()).map_err(|e| ZfsError::from_errno("look for", name, e))
    }

    /// As [`Zfs::exists`], for a snapshot.
    ///
    /// # Errors
    /// Never for a legal name.
    pub fn snapshot_exists(&self, name: &SnapshotName) -> Result<bool, ZfsError> {
        self.library.exists(name.as_str()).map_err(|e| ZfsError::from_errno("look for", name, e))
    }

    /// Rolls back to the newest snapshot. `lzc_rollback_to`.
    ///
    /// # Errors
    /// When a newer snapshot exists, or it is not there.
    pub fn rollback_to(&self, snapshot: &SnapshotName) -> Result<(), ZfsError> {
        self.library
            .rollback_to(snapshot.dataset().as_str(), snapshot.as_str())
            .map_err(|e| ZfsError::from_errno("roll back to", snapshot, e))
    }

    /// Rolls back, destroying newer snapshots. `zfs rollback -r`.
    ///
    /// # Errors
    /// When it is not there, or a newer one is held or has clones.
    pub fn rollback_recursive(&self, snapshot: &SnapshotName) -> Result<(), ZfsError> {
        run::run(&Invocation::rollback_recursive(snapshot)).map(drop)
    }

    /// Writes one snapshot, whole or as the difference to `from`, to a descriptor. `lzc_send`.
    ///
    /// # Errors
    /// When a snapshot is not there or the descriptor takes no more.
    pub fn send(
        &self,
        snapshot: &SnapshotName,
        from: Option<&SnapshotName>,
        to: BorrowedFd<'_>,
        options: SendOptions,
    ) -> Result<(), ZfsError> {
        self.library
            .send(snapshot.as_str(), from.map(SnapshotName::as_str), to, options.bits())
            .map_err(|e| ZfsError::from_errno("send", snapshot, e))
    }

    /// Writes one snapshot, whole or as the difference to `from`, to a writer; with `everything`, all that is below its dataset too, with
    /// properties and the snapshots between. `zfs send`. Lasts as long as the writer takes it.
    ///
    /// # Errors
    /// When a snapshot is not there, the writer fails, or ZFS says nothing for five minutes.
    pub fn send_to(
        &self,
        snapshot: &SnapshotName,
        from: Option<&SnapshotName>,
        everything: bool,
        out: &mut dyn Write,
    ) -> Result<(), ZfsError> {
        run::draw(&Invocation::send(snapshot, from, everything), out)
    }

    /// Receives a stream as the new dataset of `snapshot`, not mounted. A single stream's snapshot gets the name given
    /// (`lzc_receive`); a package's snapshots keep the sender's names (`zfs receive -u`), so list them afterwards.
    /// An incremental stream needs its `origin`, and the new dataset becomes a clone of that.
    ///
    /// # Errors
    /// When the bytes are no stream, the reader fails, or ZFS refuses. What was received until then may have to be destroyed.
    pub fn receive(&self, snapshot: &SnapshotName, origin: Option<&SnapshotName>, stream: &mut dyn Read) -> Result<StreamHeader, ZfsError> {
        self.receive_as(snapshot, origin, false, stream)
    }

    /// As [`Zfs::receive`], into a dataset that has the snapshot from which the stream begins: what was changed in it since, and
    /// snapshots that were made of it since, are lost. A package makes everything below the dataset as it was at the sender.
    ///
    /// # Errors
    /// As [`Zfs::receive`]; when the dataset lacks the snapshot.
    pub fn receive_on(&self, snapshot: &SnapshotName, stream: &mut dyn Read) -> Result<StreamHeader, ZfsError> {
        self.receive_as(snapshot, None, true, stream)
    }

    fn receive_as(
        &self,
        snapshot: &SnapshotName,
        origin: Option<&SnapshotName>,
        force: bool,
        stream: &mut dyn Read,
    ) -> Result<StreamHeader, ZfsError> {
        let error = |kind, reason: String| ZfsError::Failed { action: "receive", target: snapshot.to_string(), kind, reason };
        let mut begin = vec![0; HEADER];
        stream.read_exact(&mut begin).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => error(FailureKind::Invalid, "the stream is shorter than its header".to_owned()),
            _ => error(FailureKind::Other, e.to_string()),
        })?;
        let header = StreamHeader::parse(&begin)
            .ok_or_else(|| error(FailureKind::Invalid, "the data is no ZFS stream: its header is unknown".to_owned()))?;
        match header.kind {
            StreamKind::Package => run::feed(&Invocation::receive(&snapshot.dataset(), origin, force), &begin, stream)?,
            StreamKind::Single => self.receive_single(snapshot, origin, force, &begin, stream)?,
        }
        Ok(header)
    }

    /// The library reads from a descriptor, the stream is a reader: a pipe with a thread at its other end.
    fn receive_single(
        &self,
        snapshot: &SnapshotName,
        origin: Option<&SnapshotName>,
        force: bool,
        begin: &[u8],
        stream: &mut dyn Read,
    ) -> Result<(), ZfsError> {
        let io = |e: io::Error| ZfsError::from_errno("receive", snapshot, e.raw_os_error().unwrap_or(libc::EIO));
        let (read_end, write_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| io(e.into()))?;
        let library = self.library;
        std::thread::scope(|scope| {
            let receiver =
                scope.spawn(move || library.receive(snapshot.as_str(), origin.map(SnapshotName::as_str), force, read_end.as_fd()));
            let mut writer = File::from(write_end);
            let fed = pump(begin, stream, &mut writer);
            drop(writer);
            let received = receiver.join().unwrap_or(Err(libc::EIO));
            match fed {
                Err(Pump::Reader(error)) => Err(io(error)),
                Ok(()) | Err(Pump::Writer) => received.map_err(|e| ZfsError::from_errno("receive", snapshot, e)),
            }
        })
    }

    /// File systems and volumes: `top` and `depth` levels below, in one call. `zfs list -Hp`.
    ///
    /// # Errors
    /// When `top` is not there or the output cannot be read.
    pub fn list(&self, top: &DatasetName, depth: u8) -> Result<Vec<Dataset>, ZfsError> {
        parse_datasets(&run::run(&Invocation::list(top, depth))?)
    }

    /// Snapshots of `top` (`depth` 1) and of datasets below (more), oldest first per dataset. `zfs list -Hp -t snapshot`.
    ///
    /// # Errors
    /// As [`Zfs::list`].
    pub fn list_snapshots(&self, top: &DatasetName, depth: u8) -> Result<Vec<SnapshotRow>, ZfsError> {
        parse_snapshots(&run::run(&Invocation::list_snapshots(top, depth))?)
    }

    /// One property as ZFS prints it with `-p`. `zfs get -Hp`.
    ///
    /// # Errors
    /// When the dataset or the property does not exist.
    pub fn get(&self, dataset: &DatasetName, property: &'static str) -> Result<String, ZfsError> {
        Ok(run::run(&Invocation::get(dataset, property))?.trim_end_matches('\n').to_owned())
    }

    /// All properties of a dataset, one a line: name, value, source. `zfs get -Hp all`.
    ///
    /// # Errors
    /// When the dataset does not exist.
    pub fn get_all(&self, dataset: &DatasetName) -> Result<String, ZfsError> {
        run::run(&Invocation::get_all(dataset))
    }

    /// Sets properties in one call. `zfs set`.
    ///
    /// # Errors
    /// When ZFS refuses one.
    pub fn set(&self, dataset: &DatasetName, properties: &Properties) -> Result<(), ZfsError> {
        if properties.words().is_empty() {
            return Ok(());
        }
        run::run(&Invocation::set(dataset, properties)).map(drop)
    }

    /// Mounts a file system; one that is mounted is success. `zfs mount`.
    ///
    /// # Errors
    /// When its mount point cannot be used.
    pub fn mount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        match run::run(&Invocation::mount(dataset)) {
            Err(ZfsError::Failed { reason, .. }) if reason.contains("already mounted") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Unmounts a file system; one that is not mounted is success. `zfs unmount`.
    ///
    /// # Errors
    /// When it is busy.
    pub fn unmount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        match run::run(&Invocation::unmount(dataset)) {
            Err(ZfsError::Failed { reason, .. }) if reason.contains("not currently mounted") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Gives a dataset with the property `zoned` to the processes of a user namespace, for as long as there are any. `zfs zone`.
    ///
    /// # Errors
    /// When it is given to that namespace already, or ZFS is older than 2.2.
    pub fn zone(&self, dataset: &DatasetName, namespace: &Path) -> Result<(), ZfsError> {
        run::run(&Invocation::zone(namespace, dataset)).map(drop)
    }

    /// Renames a dataset. `zfs rename`.
    ///
    /// # Errors
    /// When the new name exists or the dataset is busy.
    pub fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), ZfsError> {
        run::run(&Invocation::rename(from, to)).map(drop)
    }

    /// Renames a snapshot to `@name`. `zfs rename`.
    ///
    /// # Errors
    /// When the new name exists.
    pub fn rename_snapshot(&self, from: &SnapshotName, to: &SnapshotName) -> Result<(), ZfsError> {
        run::run(&Invocation::rename_snapshot(from, to.name())).map(drop)
    }

    /// All imported pools. `zpool list -Hp`.
    ///
    /// # Errors
    /// When ZFS is unavailable.
    pub fn pools(&self) -> Result<Vec<Pool>, ZfsError> {
        parse_pools(&run::run(&Invocation::pools())?)
    }

    /// Health of the pool of `dataset`. `zpool status`.
    ///
    /// # Errors
    /// When there is no such pool.
    pub fn pool_health(&self, dataset: &DatasetName) -> Result<PoolHealth, ZfsError> {
        parse_pool_status(&run::run(&Invocation::pool_status(dataset))?)
    }
}

fn absent_is_done(result: Result<String, ZfsError>) -> Result<(), ZfsError> {
    match result {
        Err(error) if error.kind() == FailureKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_zfs_is_told_so_and_nothing_aborts() {
        if std::path::Path::new("/dev/zfs").exists() {
            assert!(Zfs::open().is_ok(), "the module answers, so ZFS is available");
            return;
        }
        for _ in 0..2 {
            let error = Zfs::open().unwrap_err();
            assert!(matches!(error, ZfsError::Unavailable(_)), "{error}");
            assert!(error.to_string().starts_with("ZFS is not available: "), "{error}");
        }
    }

    #[test]
    fn the_flags_of_send_are_the_librarys_bits() {
        let options = |embedded, large_blocks, compressed| SendOptions { large_blocks, compressed, embedded }.bits();
        assert_eq!((options(false, false, false), options(true, false, false)), (0, 1));
        assert_eq!((options(false, true, false), options(false, false, true), options(true, true, true)), (2, 4, 7));
    }
}
