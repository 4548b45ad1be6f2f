//! The machine's links as this crate needs them, read once through `triton-link`.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use triton_link::Links;
use triton_types::Mac;

/// What a link is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Ethernet hardware, or what the hypervisor shows as such.
    Physical,
    /// Several NICs used as one.
    Bond,
    /// A switch of the host.
    Bridge,
    /// A VLAN on another link.
    Vlan,
    /// A further MAC on another link.
    Macvlan,
    /// Any other virtual link of Ethernet type.
    Virtual,
}

/// One link of Ethernet type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFact {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: LinkKind,
    /// Its address.
    pub mac: Mac,
    /// The address that the hardware came with: a NIC in a bond shows the bond's as its own.
    pub permanent_mac: Option<Mac>,
    /// Enabled, and a peer is there.
    pub up: bool,
    /// The bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// The link that a VLAN or macvlan sits on.
    pub parent: Option<u32>,
    /// The VLAN's number.
    pub vlan: Option<u16>,
    /// Addresses, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

impl LinkFact {
    /// Lists the links of the current network namespace with their addresses, on a runtime of its own.
    pub(crate) fn list() -> Result<Vec<Self>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(read()).map_err(|error| error_text(&error))
    }

    /// The first IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        })
    }
}

async fn read() -> Result<Vec<LinkFact>, triton_link::LinkError> {
    let links = Links::open()?;
    let addresses = links.addresses(None).await?;
    let fact = |link: triton_link::Link| {
        let kind = match &link.kind {
            triton_link::LinkKind::Physical => LinkKind::Physical,
            triton_link::LinkKind::Loopback => return None,
            triton_link::LinkKind::Bridge => LinkKind::Bridge,
            triton_link::LinkKind::Veth => LinkKind::Virtual,
            triton_link::LinkKind::Vlan => LinkKind::Vlan,
            triton_link::LinkKind::Other(word) => match word.as_str() {
                "bond" => LinkKind::Bond,
                "macvlan" => LinkKind::Macvlan,
                _ => LinkKind::Virtual,
            },
        };
        Some(LinkFact {
            index: link.index,
            kind,
            mac: Mac(link.mac?),
            permanent_mac: link.permanent_mac.map(Mac),
            up: link.up && link.carrier,
            master: link.master,
            // The other end of a veth is none of its parts, and may be in another namespace.
            parent: link.parent.filter(|_| matches!(kind, LinkKind::Vlan | LinkKind::Macvlan)),
            vlan: link.vlan_id,
            addresses: addresses.iter().filter(|address| address.link == link.index).map(|address| address.net).collect(),
            name: link.name,
        })
    };
    Ok(links.list().await?.into_iter().filter_map(fact).collect())
}

/// An error with its causes, for a log line or an operator.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
