//! The rules of overlay networks (`nictag_rules`; net-agent.md sections 11 and 17).

use std::net::IpAddr;

use triton_types::NicTag;

use crate::problem::shown;

/// The port of portolan where a rule names none.
const PORTOLAN: u16 = 1296;
/// The UDP port of VXLAN where a rule names none.
const VXLAN: u16 = 4789;

/// How this node takes part in overlay networks: those whose tags are `<name>/<number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What their tags begin with.
    pub name: NicTag,
    /// The host that knows where addresses are: a name or an address.
    pub portolan: String,
    /// Its TCP port.
    pub portolan_port: u16,
    /// This node's address for encapsulated frames.
    pub underlay: IpAddr,
    /// The UDP port of them, here and at all nodes.
    pub port: u16,
    /// The MTU of the networks, 576 to 9000.
    pub mtu: u32,
}

impl Overlay {
    /// Reads a rule: `-e vxlan -s svp -p svp/host=.. -p svp/underlay_ip=.. -p vxlan/listen_ip=.. -p mtu=..`, as the headnode writes it.
    /// Properties that are not known are of no matter.
    ///
    /// # Errors
    /// What is missing or wrong; foreign text in it is escaped.
    pub fn parse(name: &str, rule: &str) -> Result<Self, String> {
        let legal = |tag: &NicTag| {
            let tag = tag.as_str();
            tag.len() < 20 && !tag.contains('/') && !tag.ends_with(|c: char| c.is_ascii_digit())
        };
        let name = name.parse().ok().filter(legal).ok_or("the name is none of an overlay: at most 19 characters, no digit at the end")?;
        let (mut encapsulation, mut search) = (None, None);
        let (mut host, mut host_port, mut underlay, mut listen, mut port, mut mtu) = (None, PORTOLAN, None, None, VXLAN, None);
        let mut words = rule.split_ascii_whitespace();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{} has no value", shown(word)))?;
            match word {
                "-e" => encapsulation = Some(value),
                "-s" => search = Some(value),
                "-p" => {
                    for property in value.split(',') {
                        let (key, value) = property.split_once('=').ok_or_else(|| format!("{} has no value", shown(property)))?;
                        match key {
                            "svp/host" => host = Some(value),
                            "svp/port" => host_port = number(key, value)?,
                            "svp/underlay_ip" => underlay = Some(address(key, value)?),
                            "vxlan/listen_ip" => listen = Some(address(key, value)?),
                            "vxlan/listen_port" => port = number(key, value)?,
                            "mtu" => mtu = Some(number(key, value)?).filter(|mtu: &u32| (576..=9000).contains(mtu)),
                            _ => {}
                        }
                    }
                }
                _ => return Err(format!("{} is no option of a rule", shown(word))),
            }
        }
        if encapsulation != Some("vxlan") || search != Some("svp") {
            return Err("only the encapsulation vxlan (-e) with the search svp (-s) is supported".to_owned());
        }
        let portolan = host.filter(|host| is_host(host)).ok_or("svp/host is missing or no host")?.to_owned();
        let underlay: IpAddr = underlay.ok_or("svp/underlay_ip is missing")?;
        if underlay.is_unspecified() || underlay.is_multicast() {
            return Err(format!("svp/underlay_ip: {underlay} cannot be this node's address"));
        }
        if listen.is_some_and(|listen| listen != underlay) {
            return Err(format!("vxlan/listen_ip must be svp/underlay_ip, which is {underlay}"));
        }
        let mtu = mtu.ok_or("mtu is missing or not from 576 to 9000")?;
        if host_port == 0 || port == 0 {
            return Err("a port is 0".to_owned());
        }
        Ok(Self { name, portolan, portolan_port: host_port, underlay, port, mtu })
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}: {} is no such number", shown(value)))
}

fn address(key: &str, value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| format!("{key}: {} is no IP address", shown(value)))
}

/// A name or an address, nothing that reads as something else.
fn is_host(host: &str) -> bool {
    (1..=253).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str =
        "-e vxlan -s svp -p svp/host=portolan.coal.example.com -p svp/underlay_ip=10.88.4.37 -p vxlan/listen_ip=10.88.4.37 -p mtu=1400";

    /// net-agent section 17
    #[test]
    fn a_rule_is_read_as_the_headnode_writes_it() {
        let overlay = Overlay::parse("sdc_overlay", RULE).unwrap();
        let wanted = Overlay {
            name: "sdc_overlay".parse().unwrap(),
            portolan: "portolan.coal.example.com".to_owned(),
            portolan_port: 1296,
            underlay: "10.88.4.37".parse().unwrap(),
            port: 4789,
            mtu: 1400,
        };
        assert_eq!(overlay, wanted);
        let other = format!("{RULE} -p svp/port=1297,vxlan/listen_port=4790 -p foo/bar=5");
        assert_eq!(Overlay::parse("sdc_overlay", &other).unwrap(), Overlay { portolan_port: 1297, port: 4790, ..wanted });
    }

    #[test]
    fn what_is_missing_or_wrong_in_a_rule_is_named() {
        let without = |part: &str| RULE.replace(part, "");
        let cases = [
            (String::new(), "vxlan"),
            (without("-e vxlan "), "vxlan"),
            (RULE.replace("svp -p", "direct -p"), "svp"),
            (without("-p svp/host=portolan.coal.example.com "), "svp/host"),
            (RULE.replace("portolan.coal.example.com", "$(reboot)"), "svp/host"),
            (without("-p svp/underlay_ip=10.88.4.37 "), "svp/underlay_ip"),
            (RULE.replace("underlay_ip=10.88.4.37", "underlay_ip=10.88.4.370"), "10.88.4.370"),
            (RULE.replace("underlay_ip=10.88.4.37", "underlay_ip=10.88.4.38"), "listen_ip"),
            (without(" -p mtu=1400"), "mtu"),
            (RULE.replace("1400", "9001"), "mtu"),
            (RULE.replace("1400", "x"), "mtu"),
            (format!("{RULE} -p"), "-p"),
            (format!("{RULE} -x y"), "-x"),
            (format!("{RULE} -p svp/port=65536"), "svp/port"),
            (format!("{RULE} -p vxlan/listen_port=0"), "port"),
        ];
        for (rule, wanted) in cases {
            let error = Overlay::parse("sdc_overlay", &rule).unwrap_err();
            assert!(error.contains(wanted), "{rule}: {error}");
        }
        for name in ["", "a/b", "overlay1", "an_overlay_of_twenty"] {
            assert!(Overlay::parse(name, RULE).unwrap_err().contains("name"), "{name}");
        }
    }
}
