//! The tags of this node, as the file says.

use sha2::{Digest, Sha256};
use triton_files::Layout;
use triton_types::{JsonMap, Mac, NicTag};

use crate::{NicTagError, file};

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: NicTag,
    /// The NIC that provides it; none: a network within this node.
    pub mac: Option<Mac>,
    /// NAPI's identity of it.
    pub uuid: Option<String>,
    /// Bytes, 1500 to 9000; 1500 if the file says nothing.
    pub mtu: Option<u32>,
}

/// The MTU of a tag that states none.
pub(crate) const DEFAULT_MTU: u32 = 1500;

/// The tags of this node when the file was read.
#[derive(Clone, Debug)]
pub struct NicTags {
    pub(crate) layout: Layout,
    /// The file's content; absent: there is no file.
    pub(crate) document: Option<JsonMap>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) admin: NicTag,
}

impl NicTags {
    /// Reads `/usr/triton/config/triton-networking.json`. No file is no tags; [`NicTags::has_file`] tells.
    ///
    /// # Errors
    /// When the file is there but cannot be read or understood: that is never the same as no tags.
    pub fn load(layout: &Layout) -> Result<Self, NicTagError> {
        file::load(layout)
    }

    /// False if the node was not given a file yet.
    pub fn has_file(&self) -> bool {
        self.document.is_some()
    }

    /// Whether this node provides `tag`.
    pub fn contains(&self, tag: &NicTag) -> bool {
        self.get(tag).is_some()
    }

    /// The tag called `tag`.
    pub fn get(&self, tag: &NicTag) -> Option<&Tag> {
        self.tags.iter().find(|found| found.name == *tag)
    }

    /// All tags, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter()
    }

    /// The tag of the admin network: the file's `admin_tag`, else `admin`. It need not be among the tags.
    pub fn admin(&self) -> &NicTag {
        &self.admin
    }

    /// The bridge that carries `tag`, whether it was made yet or not: one for all tags of a NIC, one for each tag without
    /// a NIC. None if this node does not provide the tag.
    pub fn bridge(&self, tag: &NicTag) -> Option<String> {
        self.get(tag).map(Tag::bridge)
    }
}

impl Tag {
    /// The bridge that carries the tag: `tb` and ten hex digits derived from the NIC, or from the tag if it has none.
    pub fn bridge(&self) -> String {
        let key = match self.mac {
            Some(mac) => format!("uplink {mac}"),
            None => format!("tag {}", self.name),
        };
        let digest = Sha256::digest(key.as_bytes());
        digest.iter().take(5).fold("tb".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// The MTU that counts, in bytes.
    pub fn effective_mtu(&self) -> u32 {
        self.mtu.unwrap_or(DEFAULT_MTU)
    }
}
