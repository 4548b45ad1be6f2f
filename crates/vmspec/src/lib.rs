//! The language of vmadm: what a payload may say, what it becomes, and how instances are filtered and listed.
//!
//! Everything here is a pure function. What it must know of the machine (pools, images, NIC tags, other instances) comes
//! through the [`World`] trait, which `triton-instance` implements. `vmadm`, cn-agent's tasks and the instance model call it;
//! it owns no state and no files.
//!
//! Rules come from `instances.md` sections 2 and 4. Input may be hostile: every function is linear in its input (but for
//! sorting), list lengths are bounded where a list becomes state of the machine ([`limits`]), and nothing recurses.
//!
//! * [`validate()`], [`validate_create`], [`validate_update`]: the verdict that `vmadm validate` prints.
//! * [`create()`] and [`update()`]: from payload to [`triton_types::VmConfig`].
//! * [`Filter`], [`lookup()`], [`agent_lookup`], [`select_fields`], [`list()`]: over VM objects as JSON.
//! * [`PROPERTIES`]: the table that all of them read.

mod changes;
mod create;
mod diff;
pub mod docker;
mod error;
mod fields;
mod filesystems;
mod filter;
pub mod limits;
mod list;
mod lookup;
mod memory;
mod network_checks;
mod nic_input;
mod nic_keys;
mod nics;
mod normalise;
mod primary;
mod routes;
mod table;
mod update;
mod validate;
mod value;
mod world;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use changes::{Change, Effect};
pub use create::{Created, create};
pub use diff::{Difference, DifferenceKind, differences};
pub use error::PayloadError;
pub use filter::{Context, Filter, FilterError};
pub use list::{DEFAULT_COLUMNS, DEFAULT_SORT, ListError, ListOptions, list};
pub use lookup::{LookupError, agent_lookup, lookup, select_fields, unique};
pub use network_checks::check_conflicts;
pub use nics::INTERFACE_PREFIX;
pub use table::{Column, Fallback, Kind, PROPERTIES, Property, property};
pub use update::{Updated, update};
pub use validate::{Verdict, validate, validate_create, validate_update};
pub use world::{ImageStatus, NicTagStatus, OtherInstance, World};
