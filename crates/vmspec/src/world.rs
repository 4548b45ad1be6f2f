//! What payload rules must know of the machine. `triton-instance` implements it over its storage, images and NIC tags.

use triton_types::{ImageType, ImageUuid, InstanceUuid, JsonMap, Nic, NicTag};

/// Whether an image can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageStatus {
    /// Not installed in the pool.
    Absent,
    /// Installed, of this type.
    Installed(ImageType),
}

/// Whether a NIC tag can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicTagStatus {
    /// Not on this compute node.
    Unknown,
    /// Rests on a physical NIC, whose users need an MTU of at least 1500.
    Physical,
    /// A tag without uplink, or an overlay.
    Virtual,
}

/// Another instance of this compute node, as far as NICs are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherInstance {
    /// Who it is.
    pub uuid: InstanceUuid,
    /// Its state is `failed` and it is not running: its addresses are free (instances.md section 2.4).
    pub failed: bool,
    /// Its NICs.
    pub nics: Vec<Nic>,
}

/// Facts of the compute node. Implementations answer from memory or from files; they do not fail: what cannot be read is
/// reported as absent, except that [`World::instance_exists`] must answer true for an unreadable machine file (ruling 1).
pub trait World {
    /// The pool used when the payload names none (`Zpool` of sysinfo).
    fn default_pool(&self) -> String;
    /// A pool of this name exists.
    fn pool_exists(&self, pool: &str) -> bool;
    /// Whether the image is installed, and its type.
    fn image(&self, image: &ImageUuid) -> ImageStatus;
    /// How the process of an image of type `docker` is run (`tags["docker:config"]` of its manifest); `None` for all others.
    fn image_process(&self, image: &ImageUuid) -> Option<JsonMap>;
    /// Whether the tag exists, and on what it rests.
    fn nic_tag(&self, tag: &NicTag) -> NicTagStatus;
    /// An instance with this uuid exists, readable or not.
    fn instance_exists(&self, uuid: &InstanceUuid) -> bool;
    /// All instances, for the search for conflicts. Called only when NICs are added or changed; the instance that is
    /// updated may be among them and is ignored.
    fn other_instances(&self) -> Vec<OtherInstance>;
    /// A path of the host exists (for the source of a file system).
    fn path_exists(&self, path: &str) -> bool;
}
