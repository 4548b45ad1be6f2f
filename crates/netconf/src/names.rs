//! Names of links: at most 15 bytes, the same for the same document, recognisable as ours.

use sha2::{Digest, Sha256};
use triton_types::{Mac, NicTag};

use crate::Provider;

/// Bridges of uplinks and of tags without one begin with this.
pub const BRIDGE_PREFIX: &str = "tb";
/// The bridge ports of the host's own NICs begin with this.
pub const HOST_PORT_PREFIX: &str = "tv";
/// The two ends of what joins a further bridge to a tag's first (ruling 68) begin with these: the first's, the further's.
pub const TRUNK_PREFIXES: [&str; 2] = ["tt", "tu"];
/// What names of links may not begin with: others of ours, and instances' (`vt`).
const OURS: [&str; 5] = [BRIDGE_PREFIX, HOST_PORT_PREFIX, TRUNK_PREFIXES[0], TRUNK_PREFIXES[1], "vt"];
/// What the kernel and its drivers call theirs, a number behind it.
const THEIRS: [&str; 12] = ["eth", "bond", "dummy", "lo", "usb", "ib", "wlan", "wwan", "team", "veth", "sit", "tunl"];
/// `IFNAMSIZ` without its NUL.
const LONGEST: usize = 15;

fn digest(key: &str, digits: usize) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let mut text: String = digest.iter().take(digits.div_ceil(2)).map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// The bridge of what provides `tag`: one for each NIC and aggregation, one for each tag without either.
pub fn bridge_of(provider: &Provider, tag: &NicTag) -> String {
    let key = match provider {
        Provider::Nic(mac) => format!("uplink {mac}"),
        Provider::Aggregation(name) => format!("aggregation {name}"),
        Provider::Nothing => format!("tag {tag}"),
    };
    format!("{BRIDGE_PREFIX}{}", digest(&key, 10))
}

/// The two ports that make `bridge` the part of an overlay network on this node: the device that carries its frames to other nodes,
/// and the program's that answers for them. They begin as what joins further bridges does, since frames leave the bridge through them.
pub fn fabric_ports(bridge: &str) -> [String; 2] {
    let rest = bridge.strip_prefix(BRIDGE_PREFIX).unwrap_or(bridge);
    ["x", "q"].map(|end| format!("{}{rest}-{end}", TRUNK_PREFIXES[1]))
}

/// The bridge port of the host's own NIC with address `mac`.
pub fn host_port(mac: Mac) -> String {
    format!("{HOST_PORT_PREFIX}{}", digest(&format!("host nic {mac}"), 10))
}

/// The link of the aggregation called `name`: that name, or one derived from it where it cannot be a link's.
pub fn aggregation_link(name: &str) -> String {
    // A bond may be called what the kernel calls bonds; the image keeps it from making any by itself.
    let bond = name.trim_end_matches(|c: char| c.is_ascii_digit()) == "bond" && name.len() <= LONGEST;
    if bond || is_free(name) { name.to_owned() } else { format!("ag-{}", digest(&format!("aggregation {name}"), 10)) }
}

/// The `number`th host NIC of `tag`: `<tag><number>`, or one derived from both where that cannot be a link's name. Only
/// derived names have a `-`, so that the two kinds never meet.
pub fn host_nic(tag: &NicTag, number: u32) -> String {
    let name = format!("{}{number}", tag.as_str());
    if is_free(&name) { name } else { derived_host_nic(tag, number) }
}

/// As [`host_nic`], when the plain name is somebody else's.
pub(crate) fn derived_host_nic(tag: &NicTag, number: u32) -> String {
    let ours = OURS.iter().any(|prefix| tag.as_str().starts_with(prefix));
    let start: String = if ours { "tag".to_owned() } else { tag.as_str().chars().filter(char::is_ascii_alphanumeric).take(6).collect() };
    format!("{start}-{}", digest(&format!("host nic {tag} {number}"), 8))
}

/// Whether a link may be called so: the kernel takes it, and it is nobody else's kind of name.
fn is_free(name: &str) -> bool {
    let start = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let predictable = name.starts_with("en") && name.as_bytes().get(2).is_some_and(|b| b"opsx".contains(b));
    let taken = predictable && name.as_bytes().get(3).is_some_and(u8::is_ascii_digit)
        || THEIRS.contains(&start)
        || OURS.iter().any(|prefix| name.starts_with(prefix));
    name.len() <= LONGEST && !start.is_empty() && !name.contains('/') && !taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> NicTag {
        name.parse().unwrap()
    }

    #[test]
    fn a_tag_s_nics_are_called_after_it_and_numbered() {
        assert_eq!(host_nic(&tag("external"), 0), "external0");
        assert_eq!(host_nic(&tag("admin_rack_e05"), 1), "admin_rack_e051");
    }

    #[test]
    fn what_cannot_be_a_link_s_name_becomes_one_that_fits() {
        for name in ["a_tag_of_thirty_one_characters0", "eth", "vtx", "tb", "tt9", "1234", "enp0s", "lo", "tv", "tuna"] {
            let found = host_nic(&tag(name), 3);
            assert!(found.len() <= 15 && found.contains('-') && found != host_nic(&tag(name), 4), "{name}: {found}");
            assert!(!OURS.iter().any(|prefix| found.starts_with(prefix)), "{name}: {found}");
            assert_eq!(found, host_nic(&tag(name), 3));
        }
        assert_eq!((aggregation_link("aggr0"), aggregation_link("bond0")), ("aggr0".to_owned(), "bond0".to_owned()));
        assert!(aggregation_link("an_aggregation_with_a_long_name0").len() <= 15 && aggregation_link("eth0").starts_with("ag-"));
    }

    #[test]
    fn a_bridge_belongs_to_its_uplink_and_keeps_its_name() {
        let mac: Mac = "02:00:00:00:00:10".parse().unwrap();
        assert_eq!(bridge_of(&Provider::Nic(mac), &tag("a")), "tb5c287a3053", "running instances count on it");
        assert_eq!(bridge_of(&Provider::Nic(mac), &tag("a")), bridge_of(&Provider::Nic(mac), &tag("b")));
        assert_ne!(bridge_of(&Provider::Nothing, &tag("a")), bridge_of(&Provider::Nothing, &tag("b")));
        assert_ne!(bridge_of(&Provider::Aggregation("a0".into()), &tag("a")), bridge_of(&Provider::Aggregation("a1".into()), &tag("a")));
    }
}
