//! What the plan needs to know beside `networking.json`.

use std::collections::BTreeMap;

use triton_types::Mac;

/// Settings of the node and facts of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `node.config`.
    pub settings: NodeSettings,
    /// The NIC that the machine booted from, by the kernel's arguments.
    pub boot_mac: Option<Mac>,
    /// The MAC addresses of the machine's physical NICs; absent if they are not known.
    pub nics: Option<Vec<Mac>>,
}

/// `node.config`: lines `key='value'` or `key=value` from the headnode (platform.md section 3.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings(BTreeMap<String, String>);

impl NodeSettings {
    /// Takes what a shell would take as plain assignments; comments and everything else are skipped, nothing is run.
    pub fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.trim().split_once('=')?;
            let start = key.bytes().next()?;
            let legal = start.is_ascii_alphabetic() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let quoted = ['\'', '"'].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            legal.then(|| (key.to_owned(), quoted.unwrap_or(value).to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// A setting, unless it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The parts of a setting that is a list, separated by commas or blanks.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.get(key).unwrap_or_default().split([',', ' ', '\t']).filter(|part| !part.is_empty())
    }
}

/// The NIC that the machine booted from: `BOOTIF=01-<mac>`, else `admin_nic=<mac>`.
pub fn boot_mac(command_line: &str) -> Option<Mac> {
    let value = |key: &str| {
        command_line.split_ascii_whitespace().filter_map(|word| word.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let dashed = |value: &str| value.strip_prefix("01-").unwrap_or(value).replace('-', ":").parse().ok();
    value("BOOTIF").and_then(dashed).or_else(|| value("admin_nic")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// platform case 33
    #[test]
    fn settings_may_be_quoted_or_not() {
        let settings = NodeSettings::parse("a='1'\nspares=2\n# c\n b='x=y'\nntp_hosts='a, b\tc'\n9=x\nempty=''\n");
        assert_eq!((settings.get("a"), settings.get("spares"), settings.get("b")), (Some("1"), Some("2"), Some("x=y")));
        assert_eq!((settings.get("9"), settings.get("empty"), settings.get("c")), (None, None, None));
        assert_eq!(settings.list("ntp_hosts").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(settings.list("none").count(), 0);
    }

    /// platform cases 1 and 2, the part that is needed here
    #[test]
    fn the_boot_nic_is_named_by_the_loader() {
        let mac: Mac = "10:dd:b1:a2:57:bf".parse().unwrap();
        assert_eq!(boot_mac("boot=live BOOTIF=01-10-dd-b1-a2-57-bf ip=10.99.99.124:::255.255.255.0::"), Some(mac));
        assert_eq!(boot_mac("quiet admin_nic=10:dd:b1:a2:57:bf"), Some(mac));
        assert_eq!(boot_mac("BOOTIF=junk nobootif=01-10-dd-b1-a2-57-bf"), None);
    }
}
