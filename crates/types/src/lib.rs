//! Words of Triton, shared by every crate: identities, states, the VM object, NICs, image manifests and the
//! formats of the files that describe an instance. No I/O and no policy: parsing, printing and invariants only.
//!
//! Rules come from `instances.md` sections 1 to 3, 5 and 8 of the contracts, and from design section 4.

mod ids;
mod image;
mod machine;
mod net;
mod nic;
mod packed;
mod process;
mod runstate;
mod state;
mod time;
mod vm;

pub use ids::{IdError, ImageUuid, InstanceUuid, NetworkUuid, OwnerUuid, RuleUuid, ServerUuid, VolumeUuid};
pub use image::{ImageFile, ImageManifest, ImageState, ImageType, ManifestProblem};
pub use machine::{IdRange, Lifecycle, MachineFile, Ownership, StorageKind, StorageRecord};
pub use net::{Mac, NetError, NicAddress, NicTag};
pub use nic::{Nic, NicObject};
pub use packed::Packed;
pub use process::ProcessRef;
pub use runstate::{ExitRecord, RunPhase, RunState};
pub use state::{VmState, ZoneState};
pub use time::Timestamp;
pub use vm::{Filesystem, Quota, Snapshot, VmConfig, VmObject};

/// A JSON object, keys in the order in which they were read or set.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;
