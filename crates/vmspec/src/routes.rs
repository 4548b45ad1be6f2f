//! Static routes of an instance (instances.md section 2.6).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;
use triton_types::{JsonMap, Mac, Nic};

use crate::{PayloadError, error::excerpt, value};

/// Checks routes that a payload sets against the NICs as they will be.
pub(crate) fn check(routes: &JsonMap, nics: &[Nic]) -> Result<(), PayloadError> {
    for (destination, gateway) in routes {
        if destination.parse::<Ipv4Addr>().is_err() && destination.parse::<Ipv4Net>().is_err() {
            return Err(PayloadError::RouteDestination { destination: excerpt(destination) });
        }
        check_gateway(gateway, nics)?;
    }
    Ok(())
}

/// An IPv4 address, or a NIC with a static address: `nics[<index>]`, `macs[<mac>]`.
fn check_gateway(gateway: &Value, nics: &[Nic]) -> Result<(), PayloadError> {
    let invalid = || PayloadError::RouteGateway { gateway: excerpt(&value::display(gateway)) };
    let text = gateway.as_str().ok_or_else(invalid)?;
    if text.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    let nic = if let Some(index) = inner("nics[") {
        if index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        index.parse::<usize>().ok().and_then(|index| nics.get(index))
    } else if let Some(mac) = inner("macs[") {
        let mac: Mac = mac.parse().map_err(|_| invalid())?;
        nics.iter().find(|nic| nic.mac == mac)
    } else {
        return Err(invalid());
    };
    match nic {
        Some(nic) if nic.ips.iter().any(|ip| ip.net().is_some()) => Ok(()),
        _ => Err(PayloadError::RouteNic { gateway: excerpt(text) }),
    }
}
