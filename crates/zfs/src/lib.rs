//! OpenZFS: pools, datasets, snapshots, send and receive. A driver: it knows nothing of instances and images.
//!
//! Called by `triton-storage` (and later by what manages pools). Owns the two ways to ZFS and hides which one a verb takes:
//!
//! | verb | call |
//! | --- | --- |
//! | [`Zfs::create`], [`Zfs::clone_from`] | `lzc_create`, `lzc_clone`; properties as the kernel's numbers |
//! | [`Zfs::snapshot`], [`Zfs::destroy_snapshot`] | `lzc_snapshot`, `lzc_destroy_snaps` |
//! | [`Zfs::hold`], [`Zfs::release`], [`Zfs::holds`] | `lzc_hold`, `lzc_release`, `lzc_get_holds` |
//! | [`Zfs::rollback_to`] | `lzc_rollback_to` (newest snapshot only) |
//! | [`Zfs::destroy`] | `lzc_destroy` (unmounted, without children) |
//! | [`Zfs::send`], [`Zfs::receive`] of one snapshot | `lzc_send`, `lzc_receive` |
//! | [`Zfs::receive`] of a package (`send -R`, `-I`, `-p`) | `zfs receive -u`: libzfs_core takes single streams only |
//! | [`Zfs::exists`] | `lzc_exists` |
//! | [`Zfs::list`], [`Zfs::list_snapshots`], [`Zfs::get`], [`Zfs::get_all`] | `zfs list -Hp`, `zfs get -Hp`: one call for all datasets |
//! | [`Zfs::set`], [`Zfs::mount`], [`Zfs::unmount`], [`Zfs::rename`], [`Zfs::rename_snapshot`] | `zfs` |
//! | [`Zfs::destroy_recursive`], [`Zfs::rollback_recursive`] | `zfs destroy -r`, `zfs rollback -r` |
//! | [`Zfs::pools`], [`Zfs::pool_health`] | `zpool list -Hp`, `zpool status` |
//!
//! `lzc_*` calls cost about an eighth of the commands, and mount nothing. Commands run with `LC_ALL=C`, fixed columns and a
//! deadline. Without the kernel module, the libraries or the commands every verb answers [`ZfsError::Unavailable`].

mod command;
mod core;
mod driver;
mod error;
mod ffi;
mod name;
mod parse;
mod properties;
mod run;
mod stream;

pub use command::{Invocation, Program};
pub use driver::{SendOptions, Zfs};
pub use error::{FailureKind, Unavailable, ZfsError};
pub use name::{DatasetName, NameError, SnapshotName};
pub use parse::{Dataset, DatasetKind, Pool, PoolHealth, SnapshotRow, parse_datasets, parse_pool_status, parse_pools, parse_snapshots};
pub use properties::{CanMount, Compression, Properties, PropertyError};
pub use stream::{StreamHeader, StreamKind};
