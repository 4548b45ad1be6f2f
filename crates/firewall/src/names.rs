//! Names in the table. What never changes is named by a digest of what is in it.

use sha2::{Digest, Sha256};
use triton_fwrule::Direction;
use triton_types::InstanceUuid;

/// Sets and maps that are always there.
pub(crate) const EGRESS: &str = "egress";
pub(crate) const INGRESS: &str = "ingress";
pub(crate) const DHCP: &str = "dhcp";
pub(crate) const ADDRCONF: &str = "addrconf";
pub(crate) const ZONE_TAGGED: &str = "zone_tagged";
pub(crate) const ZONE_PORT: &str = "zone_port";

/// Beginnings of the names of sets that come and go.
const PEERS: [&str; 2] = ["peers4_", "peers6_"];
const LISTED: [&str; 2] = ["listed4_", "listed6_"];
const PORTS: &str = "ports_";
/// The same of chains of lines.
const CHAINS: [&str; 2] = ["in_", "out_"];
/// The same of the chains that lead to them.
const ENTRIES: [&str; 2] = ["to_", "from_"];

/// Sixteen hexadecimal digits for these parts.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The set of addresses of who is meant by a target in the rules of an owner.
pub(crate) fn peers(ipv6: bool, owner: &str, target: &str) -> String {
    format!("{}{}", PEERS[usize::from(ipv6)], digest(&[owner, target]))
}

/// The set of these addresses and subnets.
pub(crate) fn listed(ipv6: bool, content: &str) -> String {
    format!("{}{}", LISTED[usize::from(ipv6)], digest(&[content]))
}

/// The set of these ports.
pub(crate) fn ports(content: &str) -> String {
    format!("{PORTS}{}", digest(&[content]))
}

/// The chain of what an instance may receive or send, with these rules.
pub(crate) fn chain(direction: Direction, vm: InstanceUuid, content: &str) -> String {
    format!("{}{}", chains_of(direction, vm), digest(&[content]))
}

/// With what the names of an instance's chains of a direction begin, whatever their content.
pub(crate) fn chains_of(direction: Direction, vm: InstanceUuid) -> String {
    format!("{}{vm}_", CHAINS[usize::from(direction == Direction::Out)])
}

/// The chain that leads to the one of what an instance may receive or send, whatever its rules are.
pub(crate) fn entry(direction: Direction, vm: InstanceUuid) -> String {
    format!("{}{vm}", ENTRIES[usize::from(direction == Direction::Out)])
}

/// True for a chain that leads to the lines of an instance.
pub(crate) fn is_entry(name: &str) -> bool {
    ENTRIES.iter().any(|begin| name.starts_with(begin))
}

/// The entry of a chain of an instance.
pub(crate) fn entry_of(chain: &str) -> Option<String> {
    let direction = if is_of(chain, Direction::In) { Direction::In } else { Direction::Out };
    Some(entry(direction, vm_of(chain)?))
}

/// True for a chain of an instance.
pub(crate) fn is_chain(name: &str) -> bool {
    CHAINS.iter().any(|begin| name.starts_with(begin))
}

/// Whether a chain of an instance is the one of this direction.
pub(crate) fn is_of(chain: &str, direction: Direction) -> bool {
    chain.starts_with(CHAINS[usize::from(direction == Direction::Out)])
}

/// The instance whose chain this is.
pub(crate) fn vm_of(chain: &str) -> Option<InstanceUuid> {
    let rest = CHAINS.iter().find_map(|begin| chain.strip_prefix(begin))?;
    rest.get(..36)?.parse().ok()
}

/// True for a set of addresses that changes with the instances.
pub(crate) fn is_peers(name: &str) -> bool {
    PEERS.iter().any(|begin| name.starts_with(begin))
}

/// True for a set that comes and goes.
pub(crate) fn comes_and_goes(name: &str) -> bool {
    is_peers(name) || LISTED.iter().chain([&PORTS]).any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_its_instance_and_its_content() {
        let vm: InstanceUuid = "5baca016-6dda-11e3-a6f2-730593c54f04".parse().unwrap();
        let [one, other] = ["a", "b"].map(|content| chain(Direction::In, vm, content));
        assert_ne!(one, other);
        assert_eq!((vm_of(&one), is_chain(&one)), (Some(vm), true));
        assert_eq!(vm_of("in_short"), None);
        assert_eq!(entry_of(&one).as_deref(), Some("to_5baca016-6dda-11e3-a6f2-730593c54f04"));
        assert!(is_entry(&entry(Direction::Out, vm)) && !is_chain(&entry(Direction::In, vm)) && !is_entry(&one));
        assert!(!is_chain("flow_forward") && !comes_and_goes(EGRESS) && comes_and_goes(&ports("80")));
        assert_ne!(peers(false, "a", "bc"), peers(false, "ab", "c"), "parts do not run into each other");
    }
}
