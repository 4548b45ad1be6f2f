//! The tags of this node, as the file says.

use triton_files::Layout;
use triton_netconf::{Aggregation, Overlay, Provider, bridge_of};
use triton_types::{JsonMap, Mac, NicTag};

use crate::{Fabric, NicTagError, file};

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: NicTag,
    /// What provides it; [`Provider::Nothing`]: a network within this node.
    pub provider: Provider,
    /// Whether it was made as a network within this node.
    pub etherstub: bool,
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
    pub(crate) aggregations: Vec<Aggregation>,
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

    /// The rules of overlay networks, by the name that their tags begin with (`<rule>/<number>`).
    pub fn overlay_rules(&self) -> impl Iterator<Item = &str> {
        let rules = self.document.as_ref().and_then(|document| document.get("nictag_rules")?.as_object());
        rules.into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// The overlays that this node takes part in; a rule that cannot be followed is left out.
    pub fn overlays(&self) -> Vec<Overlay> {
        self.overlay_rules().filter_map(|name| self.overlay(name)?.ok()).collect()
    }

    /// The rule called `name`; an error says what is wrong with it.
    fn overlay(&self, name: &str) -> Option<Result<Overlay, String>> {
        let rule = self.document.as_ref()?.get("nictag_rules")?.as_object()?.get(name)?;
        Some(rule.as_str().ok_or_else(|| "not a text".to_owned()).and_then(|rule| Overlay::parse(name, rule)))
    }

    /// The overlay network that `tag` (`<overlay>/<number>`) names, whether it is on this node yet or not. None if it names none that this
    /// node takes part in.
    ///
    /// # Errors
    /// When this node's rule, or the number, is not what it should be.
    pub fn fabric(&self, tag: &NicTag) -> Result<Option<Fabric>, NicTagError> {
        let Some((name, number)) = tag.as_str().split_once('/') else { return Ok(None) };
        let error = |reason: String| NicTagError::Fabric { tag: tag.clone(), reason };
        let overlay = match self.overlay(name) {
            None => return Ok(None),
            Some(overlay) => overlay.map_err(|problem| error(format!("nictag_rules of triton-networking.json: {problem}")))?,
        };
        let vnet = number.parse().ok().filter(|vnet| *vnet < 1 << 24 && (number == "0" || !number.starts_with(['0', '+'])));
        let vnet = vnet.ok_or_else(|| error("its number is none of an overlay network: 0 to 16777215".to_owned()))?;
        Ok(Some(Fabric { tag: tag.clone(), vnet, underlay: overlay.underlay, port: overlay.port, mtu: overlay.mtu }))
    }

    /// The bridge that carries `tag`, whether it was made yet or not: one for all tags of a NIC, one for each tag without
    /// a NIC, one for each overlay network. None if this node does not provide the tag.
    pub fn bridge(&self, tag: &NicTag) -> Option<String> {
        let fabric = || self.fabric(tag).ok().flatten().map(|fabric| fabric.bridge());
        self.get(tag).map(Tag::bridge).or_else(fabric)
    }
}

impl Tag {
    /// The bridge that carries the tag, the first one if several do.
    pub fn bridge(&self) -> String {
        bridge_of(&self.provider, &self.name)
    }

    /// The MAC address of the NIC that provides the tag by itself.
    pub fn mac(&self) -> Option<Mac> {
        match self.provider {
            Provider::Nic(mac) => Some(mac),
            Provider::Aggregation(_) | Provider::Nothing => None,
        }
    }

    /// The MTU that counts, in bytes.
    pub fn effective_mtu(&self) -> u32 {
        self.mtu.unwrap_or(DEFAULT_MTU)
    }
}
