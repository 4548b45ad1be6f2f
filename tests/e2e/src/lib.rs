//! The harness of scenarios on a real kernel: nodes below roots of their own, each with its network namespace, storage
//! in directories and a small image with a real init. Whatever a test makes is removed when its node is dropped, also
//! after a failure.

mod busybox;
mod cloud_init;
mod command;
mod headnode;
mod host;
pub mod hostile;
mod metadata;
mod node;
mod reporters;
mod userland;
mod wait;
pub mod wire;

pub use busybox::{IMAGE_UUID, image_files, rootfs_tar};
pub use cloud_init::CloudInit;
pub use command::{Outcome, program};
pub use headnode::{Headnode, HttpReply, http};
pub use metadata::{MetadataService, mdata};
pub use node::{EXTERNAL_TAG, Node, assert_no_trace, sweep};
pub use reporters::Reporters;
pub use userland::userland;
pub use wait::{until, until_some};
