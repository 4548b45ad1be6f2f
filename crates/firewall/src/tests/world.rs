//! The instances of a node and of others, as its filter takes them.

use serde_json::json;
use triton_fwrule::{RemoteVm, VmFacts};
pub use triton_wire::world::{Dice, OWNERS, VMS, addresses, rule};
use triton_wire::world::{owner, tags};

use crate::{LocalVm, Port};

/// The host's end of a local instance's link.
pub fn link(number: usize) -> String {
    format!("vt{number}")
}

/// The three instances of the node.
pub fn locals() -> Vec<LocalVm> {
    (0..3)
        .map(|number| {
            let ips = addresses(number).map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 16 } else { 64 }));
            let object = json!({"uuid": VMS[number], "owner_uuid": owner(number), "tags": tags(number), "firewall_enabled": true,
                "state": "running", "nics": [{"ips": ips}]});
            let port = Port { link: link(number), networks: vec![("br0".to_owned(), 1)], dhcp: number == 0, addrconf: number == 0 };
            LocalVm { facts: VmFacts::from_object(object.as_object().unwrap()).unwrap(), ports: vec![port] }
        })
        .collect()
}

/// The two instances elsewhere.
pub fn remotes() -> Vec<RemoteVm> {
    (3..5)
        .map(|number| {
            let object = json!({"uuid": VMS[number], "owner_uuid": owner(number), "tags": tags(number), "ips": addresses(number)});
            RemoteVm::with_ips(object.as_object().unwrap()).unwrap()
        })
        .collect()
}
