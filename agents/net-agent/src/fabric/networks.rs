//! The networks of an overlay on this node: their taps are read, and their devices told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use tokio::{sync::mpsc, task::AbortHandle};
use triton_agent::chain;
use triton_files::{Layout, LockError};
use triton_link::{FdbEntry, Links, Remote, Tap};
use triton_nictag::{Fabric, FabricPart, NicTagError, Overlay, fabric_parts, mend_fabric};
use triton_svp::{Underlay, Vnet};
use triton_types::{Mac, NicTag};

use super::{
    core::Do,
    frame::{Question, question},
};

/// Questions of one network in a second, and at once; what is more is dropped: guests ask again.
const RATE: f64 = 1000.0;
/// What fits into a frame with the largest MTU.
const FRAME: usize = 9300;

/// What a guest asks.
pub(super) type Heard = (Vnet, Question);

/// What the kernel's device knows of one address: the node, and the VLANs in which the bridge sends frames to it.
pub(super) type Known = (Mac, Underlay, Vec<u16>);

/// What a look at the kernel found.
pub(super) struct Look {
    /// Networks that are not on this node any more.
    pub(super) gone: Vec<Vnet>,
    /// Those that are new, with what is known of each.
    pub(super) new: Vec<(Vnet, Vec<Known>)>,
    /// Whether all of them are looked after.
    pub(super) whole: bool,
}

struct Network {
    part: FabricPart,
    tap: Arc<Tap>,
    reader: AbortHandle,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The networks that are read.
pub(super) struct Networks {
    links: Links,
    layout: Layout,
    overlay: Overlay,
    heard: mpsc::Sender<Heard>,
    all: BTreeMap<Vnet, Network>,
    /// Those that could not be mended, which was said.
    lacking: BTreeSet<NicTag>,
}

impl Networks {
    pub(super) fn new(links: Links, layout: Layout, overlay: Overlay, heard: mpsc::Sender<Heard>) -> Self {
        Self { links, layout, overlay, heard, all: BTreeMap::new(), lacking: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Compares with the kernel.
    pub(super) async fn look(&mut self) -> Result<Look, NicTagError> {
        let parts = fabric_parts(&self.links, &self.overlay.name).await?;
        let here: BTreeMap<Vnet, FabricPart> = parts.whole.into_iter().filter_map(|part| Some((number(&part.tag)?, part))).collect();
        let is_gone = |vnet: &Vnet, network: &Network| here.get(vnet) != Some(&network.part) || network.reader.is_finished();
        let gone: Vec<Vnet> = self.all.iter().filter(|(vnet, network)| is_gone(vnet, network)).map(|(vnet, _)| *vnet).collect();
        gone.iter().for_each(|vnet| drop(self.all.remove(vnet)));
        let (mut new, mut whole) = (Vec::new(), true);
        for (vnet, part) in here {
            if self.all.contains_key(&vnet) {
                continue;
            }
            match self.read(vnet, part).await {
                Ok(known) => new.push((vnet, known)),
                // Other networks go on.
                Err(error) => {
                    whole = false;
                    tracing::warn!(overlay = %self.overlay.name, %vnet, error = %chain(&error), "an overlay network is not looked after yet");
                }
            }
        }
        self.lacking.retain(|tag| parts.broken.contains(tag));
        for tag in parts.broken {
            match self.mend(tag.clone()).await {
                Ok(()) => {}
                // An instance is being started or stopped.
                Err(NicTagError::Lock(LockError::Held { .. })) => whole = false,
                Err(error) => {
                    whole = false;
                    if self.lacking.insert(tag.clone()) {
                        tracing::warn!(%tag, error = %chain(&error), "an overlay network lacks a link, which cannot be made");
                    }
                }
            }
        }
        Ok(Look { gone, new, whole })
    }

    /// What it makes is an event, and so the next look's.
    async fn mend(&self, tag: NicTag) -> Result<(), NicTagError> {
        let Some(vnet) = number(&tag) else { return Ok(()) };
        let Overlay { underlay, port, mtu, .. } = self.overlay;
        mend_fabric(&self.links, &self.layout, &Fabric { tag, vnet: vnet.number(), underlay, port, mtu }).await?;
        Ok(())
    }

    /// Begins to read a network's tap.
    async fn read(&mut self, vnet: Vnet, part: FabricPart) -> Result<Vec<Known>, NicTagError> {
        let tap = Arc::new(Tap::open(self.links.netns(), &part.tap)?);
        // It may have been removed meanwhile: then this one is a new link, and nobody's port.
        if self.links.get(&part.tap).await?.is_none_or(|link| link.index != part.tap_index) {
            return Err(NicTagError::Absent(part.tap));
        }
        let known = self.known(&part).await?;
        let reader = tokio::spawn(listen(vnet, tap.clone(), self.heard.clone())).abort_handle();
        self.all.insert(vnet, Network { part, tap, reader });
        Ok(known)
    }

    async fn known(&self, part: &FabricPart) -> Result<Vec<Known>, NicTagError> {
        let entries = self.links.fdb(&part.vxlan).await?;
        let remotes = self.links.remotes(&part.vxlan).await?;
        let vlans = |mac: [u8; 6]| {
            let of_it = entries.iter().filter(move |entry| entry.mac == mac);
            // The bridge's VLAN of untagged frames is 1 (ruling 19).
            of_it.map(|entry| entry.vlan.filter(|vlan| *vlan != 1).unwrap_or(0)).collect()
        };
        let known = |remote: &Remote| {
            let at = Underlay { ip: remote.ip, port: remote.port.unwrap_or(self.overlay.port) };
            (Mac(remote.mac), at, vlans(remote.mac))
        };
        Ok(remotes.iter().map(known).collect())
    }

    /// Does what is not portolan's. What the kernel refuses is said, and comes up again with the next frame.
    pub(super) async fn carry_out(&self, what: &Do) {
        let result = match what {
            Do::Ask(_) => Ok(()),
            Do::Learn { vnet, mac, vlan, at } => self.learn(*vnet, *mac, *vlan, *at).await,
            Do::Forget { vnet, mac, vlans } => self.forget(*vnet, *mac, vlans).await,
            Do::Say { vnet, frame } => {
                // A network that goes takes its guests' questions with it.
                if let Some(Err(error)) = self.all.get(vnet).map(|network| network.tap.write(frame)) {
                    tracing::debug!(%vnet, %error, "an answer was not sent");
                }
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::warn!(overlay = %self.overlay.name, error = %chain(&error), "what is known of an overlay network was not told to the kernel");
        }
    }

    fn entry(part: &FabricPart, mac: Mac, vlan: u16) -> FdbEntry {
        FdbEntry { mac: mac.0, vlan: part.vlans.then_some(if vlan == 0 { 1 } else { vlan }), sticky: true }
    }

    async fn learn(&self, vnet: Vnet, mac: Mac, vlan: u16, at: Underlay) -> Result<(), triton_link::LinkError> {
        let Some(Network { part, .. }) = self.all.get(&vnet) else { return Ok(()) };
        let remote = Remote { mac: mac.0, ip: at.ip, port: (at.port != self.overlay.port).then_some(at.port) };
        self.links.add_remote(&part.vxlan, remote).await?;
        if !self.links.offer_fdb(&part.vxlan, Self::entry(part, mac, vlan)).await? {
            // An instance that came here: portolan does not know yet, its bridge does.
            tracing::info!(overlay = %self.overlay.name, %vnet, %mac, "portolan has an address on another node that is on this one");
        }
        Ok(())
    }

    async fn forget(&self, vnet: Vnet, mac: Mac, vlans: &[u16]) -> Result<(), triton_link::LinkError> {
        let Some(Network { part, .. }) = self.all.get(&vnet) else { return Ok(()) };
        for vlan in vlans {
            let entry = Self::entry(part, mac, *vlan);
            if self.links.fdb(&part.vxlan).await?.contains(&entry) {
                self.links.remove_fdb(&part.vxlan, entry).await?;
            }
        }
        self.links.remove_remote(&part.vxlan, mac.0).await
    }
}

/// The number of the network with this tag.
fn number(tag: &NicTag) -> Option<Vnet> {
    Vnet::new(tag.as_str().split_once('/')?.1.parse().ok()?)
}

/// Passes a network's questions on, as many as it may ask. Ends when its tap is gone.
async fn listen(vnet: Vnet, tap: Arc<Tap>, heard: mpsc::Sender<Heard>) {
    let mut frame = vec![0; FRAME];
    let (mut room, mut since) = (RATE, Instant::now());
    loop {
        let length = match tap.read(&mut frame).await {
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%vnet, %error, "a tap is gone");
                return;
            }
        };
        let Some(question) = question(&frame[..length]) else { continue };
        let now = Instant::now();
        room = (room + now.duration_since(since).as_secs_f64() * RATE).min(RATE);
        since = now;
        if room >= 1.0 {
            room -= 1.0;
            // Full: guests ask again.
            let _ = heard.try_send((vnet, question));
        }
    }
}
