//! Datasets of images and instances: one model, two kinds of storage behind it.
//!
//! Called by `image` (import), `instance` (create, delete, snapshots), `sysinfo` and the status sampler. Owns everything
//! below `/<pool>` but the contents of an instance's `config/`, `logs/` and `root/`, and the record
//! `/var/triton/storage.json` that says which kind was chosen. The two kinds are never mixed.
//!
//! * `zfs`: image `<pool>/<uuid>` with its snapshot `@final`, instance a clone of it. Production.
//! * `dir`: image `/<pool>/<uuid>/` with `root/` and a file `@final`, instance a copy of it (reflinked where the file system
//!   can). A copy survives any kill, and a power cut once [`Storage::make_durable`] has returned. Quotas are recorded and not enforced. The pool's numbers are those of the whole file
//!   system that holds it (`statvfs`), so other files count as used.
//!
//! Everything is synchronous and works on real files; callers hold the instance's or image's lock.

mod change;
mod dir;
mod error;
mod export;
mod layout;
mod model;
mod ownership;
mod record;
mod replica;
mod storage;
mod tree;
mod zfs;

pub use error::StorageError;
pub use export::Fill;
pub use model::{CloneOptions, DataOptions, ImageDataset, PoolStatus, SnapshotInfo, SnapshotLabel, Usage};
pub use ownership::{ShiftError, detect, shift, unshift};
pub use replica::{Part, Plan, Point, Points, plan as plan_copy};
pub use storage::Storage;
pub use tree::{Packed, TreeError};
