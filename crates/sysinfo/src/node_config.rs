//! `node.config`: lines `key='value'` from the headnode (cn-agent.md section 6.1).

use std::collections::BTreeMap;

use triton_files::{FileError, Layout, read_optional};

/// The settings in `/usr/triton/config/node.config`. Shell syntax on the outside, but never run by a shell here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig(BTreeMap<String, String>);

impl NodeConfig {
    /// Reads the file; a missing one is an empty configuration.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(layout: &Layout) -> Result<Self, FileError> {
        let bytes = read_optional(&layout.config().join("node.config"))?.unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Takes the lines of the form `key='value'`; every other line is skipped.
    pub fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (key, rest) = line.trim().split_once('=')?;
            let value = rest.strip_prefix('\'')?.strip_suffix('\'')?;
            let legal = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            legal.then(|| (key.to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// A setting, unless it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 54
    #[test]
    fn only_quoted_pairs_are_read() {
        let config = NodeConfig::parse("# a comment='no'\ndatacenter_name='coal'\nroot_shadow=unquoted\n  dns_domain='a=b'  \nswap=''\n");
        assert_eq!(config.get("datacenter_name"), Some("coal"));
        assert_eq!(config.get("dns_domain"), Some("a=b"));
        assert_eq!((config.get("root_shadow"), config.get("swap")), (None, None));
        assert_eq!(config.0.len(), 3);
    }

    /// cn-agent case 54
    #[test]
    fn a_missing_file_is_an_empty_configuration() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(NodeConfig::load(&Layout::new(root.path())).unwrap(), NodeConfig::default());
    }
}
