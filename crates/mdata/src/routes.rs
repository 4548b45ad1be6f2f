//! `sdc:routes` (metadata.md section 3.4).

use serde_json::{Value, json};
use triton_types::JsonMap;

/// The routes of a VM as its guest is told them.
pub(crate) fn routes(vm: &JsonMap) -> Value {
    let none = Vec::new();
    let nics = vm.get("nics").and_then(Value::as_array).unwrap_or(&none);
    let all = vm.get("routes").and_then(Value::as_object);
    let told = all.into_iter().flatten().filter_map(|(destination, gateway)| {
        let (linklocal, gateway) = gateway_of(gateway.as_str()?, nics)?;
        Some(json!({"linklocal": linklocal, "dst": destination, "gateway": gateway}))
    });
    told.collect()
}

/// Whether it is the address of a NIC of this VM, and the address.
fn gateway_of(gateway: &str, nics: &[Value]) -> Option<(bool, String)> {
    let inside = |prefix: &str| gateway.strip_prefix(prefix)?.strip_suffix(']');
    let nic = if let Some(index) = inside("nics[") {
        nics.get(index.parse::<usize>().ok()?)?
    } else if let Some(mac) = inside("macs[") {
        let wanted = number(mac)?;
        nics.iter().find(|nic| nic.get("mac").and_then(Value::as_str).and_then(number) == Some(wanted))?
    } else {
        return Some((false, gateway.to_owned()));
    };
    let ip = nic.get("ip").and_then(Value::as_str).filter(|ip| *ip != "dhcp")?;
    Some((true, ip.to_owned()))
}

/// A MAC address as a number; leading zeros of its parts may be missing.
fn number(mac: &str) -> Option<u64> {
    let mut parts = mac.split(':');
    let mut number = 0;
    for _ in 0..6 {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        number = number << 8 | u64::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(number)
}
