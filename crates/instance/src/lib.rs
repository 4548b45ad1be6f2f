//! Instances of a compute node: what they should be, what they are, and every change between.
//!
//! Called by `vmadm` and the agents. Owns the machine files, the run-state files and the runtime directories. Changes take
//! the instance's lock, are made of steps with an undo, and can be resumed after a kill at any point; readers take no
//! lock. Everything is synchronous: daemons call it on blocking threads. Guests belong to their monitors
//! (`instance-monitor`), so nothing here is needed for a guest to go on running.

mod all;
mod archive;
mod boot;
mod changes;
mod create;
mod delete;
mod docker;
mod error;
mod events;
pub mod firewall;
mod glance;
mod gone;
pub mod guard;
mod guest_files;
mod guest_init;
mod guest_mounts;
mod guest_root;
mod id_ranges;
mod image;
mod info;
mod initctl;
mod inits;
mod instances;
mod inventory;
mod launch;
mod live;
mod live_routes;
mod machines;
mod mount_targets;
mod names;
pub mod network;
mod object;
mod observe;
mod place;
mod recover;
mod reprovision;
mod run;
mod runstates;
mod seed;
mod settle;
mod slots;
mod snapshots;
mod spec;
mod transfer;
mod update;
mod watch;
mod world;
pub mod zonecontrol;

pub use all::{AllReport, Progress};
pub use boot::{BootFiles, Command, prepare};
pub use changes::{Changes, News, watch, watch_with_inits};
pub use docker::{Process, ProcessError};
pub use error::{InstanceError, chain_text as chain};
pub use events::{Event, EventKind, Events};
pub use gone::gone;
pub use image::CreateImageError;
pub use instances::{AllSnapshots, Instances, to_json};
pub use inventory::{Inventory, Loaded, Look, RealInventory, is_hidden};
pub use launch::{LINE_SOCKET, Launcher, MONITOR_LOG, Mission, Readiness, monitor_program as console_program};
pub use machines::{Damage, Machine, Machines};
pub use names::{guest_link, host_link};
pub use object::NodeFacts;
pub use observe::Presence;
pub use place::GuestPlace;
pub use recover::Recovery;
pub use run::{STOP_PATIENCE, StopOptions};
pub use runstates::{RunStateError, RunStates};
pub use seed::{DATA_SOURCE_KEY, DataSource, vendor_data};
pub use snapshots::RollbackOptions;
pub use transfer::{Have, Offer, Sent};
pub use update::UpdateOutcome;
pub use watch::{Change, ChangeKind, Watcher};
pub use world::validate;
