//! The kernel's command line as `Boot Parameters`.

use serde_json::Value;
use triton_types::JsonMap;

use crate::Source;

/// Arguments of the form `key=value`, with the admin network's settings under Triton's names (cn-agent.md section 7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParameters(JsonMap);

impl BootParameters {
    /// Reads `/proc/cmdline`; `None` if that cannot be read.
    pub fn read(source: &Source) -> Option<Self> {
        source.read("/proc/cmdline").map(|line| Self::parse(&line))
    }

    /// Takes the `key=value` tokens. `ip=A:::M::` becomes `admin_ip` and `admin_netmask`, `BOOTIF=01-MAC` becomes `admin_mac`
    /// (with dashes); tokens without `=` are dropped. The last of two tokens of one name counts.
    pub fn parse(line: &str) -> Self {
        let mut map = JsonMap::new();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                map.insert(key.to_owned(), Value::from(value));
            }
        };
        for token in line.split_ascii_whitespace() {
            match token.split_once('=') {
                Some(("ip", value)) => {
                    let mut parts = value.split(':');
                    set("admin_ip", parts.next().unwrap_or_default());
                    set("admin_netmask", parts.nth(2).unwrap_or_default());
                }
                Some(("BOOTIF", value)) => set("admin_mac", value.split_once('-').map_or("", |(_, mac)| mac)),
                // Only a headnode is one: nothing here may claim it.
                Some(("headnode" | "", _)) | None => {}
                Some((key, value)) => set(key, value),
            }
        }
        Self(map)
    }

    /// The value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// All of them.
    pub fn as_map(&self) -> &JsonMap {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 53
    #[test]
    fn the_admin_network_is_taken_from_the_boot_loader_s_arguments() {
        let parameters = BootParameters::parse(
            "quiet boot=live BOOTIF=01-90-b8-d0-4e-11-7a ip=10.88.4.31:::255.255.0.0:: rabbitmq=guest:guest:10.88.4.9:5672 a=b=c:d",
        );
        assert_eq!(parameters.get("admin_ip"), Some("10.88.4.31"));
        assert_eq!(parameters.get("admin_netmask"), Some("255.255.0.0"));
        assert_eq!(parameters.get("admin_mac"), Some("90-b8-d0-4e-11-7a"));
        assert_eq!(parameters.get("rabbitmq"), Some("guest:guest:10.88.4.9:5672"));
        assert_eq!(parameters.get("a"), Some("b=c:d"));
        let keys: Vec<_> = parameters.as_map().keys().map(String::as_str).collect();
        assert_eq!(keys, ["boot", "admin_mac", "admin_ip", "admin_netmask", "rabbitmq", "a"]);
    }

    #[test]
    fn a_compute_node_never_says_that_it_is_the_headnode() {
        assert!(BootParameters::parse("headnode=true ip=dhcp").get("headnode").is_none());
    }
}
