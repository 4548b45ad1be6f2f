//! The sysinfo document (cn-agent.md sections 7.1 and 7.2).

use serde_json::Value;

use super::natural;
use crate::{call::uuid, violations::Problem};

/// Why CNAPI answers 500 to the document: a uuid that is not the URL's, or a NIC name that NAPI cannot make a tag of.
pub(crate) fn refuse_sysinfo(expected: &str, sysinfo: &Value) -> Option<String> {
    match sysinfo["UUID"].as_str() {
        None => return Some("sysinfo has no UUID".to_owned()),
        Some(given) if uuid(given).is_none() => return Some(format!("sysinfo UUID {given:?} is not a lower-case uuid")),
        Some(given) if given != expected => return Some(format!("sysinfo UUID {given} does not match server UUID {expected}")),
        Some(_) => {}
    }
    let Some(interfaces) = sysinfo["Network Interfaces"].as_object() else {
        return Some("sysinfo \"Network Interfaces\" is not an object".to_owned());
    };
    for (name, nic) in interfaces {
        let Some(tags) = nic["NIC Names"].as_array() else {
            return Some(format!("\"NIC Names\" of interface {name:?} is not an array"));
        };
        for tag in tags {
            let legal = |text: &str| (1..=31).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !tag.as_str().is_some_and(legal) {
                return Some(format!("NAPI: could not create NIC tag {tag} of interface {name:?}: invalid name"));
            }
        }
    }
    None
}

/// What else is wrong: the server is not placeable while there is any.
pub(crate) fn sysinfo(document: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |field: &str, good: bool, wanted: &str| {
        if !good {
            let given = document.get(field).map_or_else(|| "nothing".to_owned(), |value| value.to_string().chars().take(100).collect());
            problems.push(Problem::new(field, format!("{wanted} is needed, not {given}")));
        }
    };
    let text = |field: &str| document[field].as_str().is_some_and(|text| !text.is_empty());
    check("Live Image", document["Live Image"].as_str().is_some_and(is_stamp), "a platform stamp 20YYMMDDTHHMMSSZ");
    check("System Type", document["System Type"] == "Linux", "\"Linux\"");
    check("Setup", document["Setup"].is_boolean(), "a boolean");
    check("Boot Time", natural(&document["Boot Time"]).is_some_and(|time| time > 1_000_000_000), "a number of seconds since 1970");
    check("SDC Version", document["SDC Version"] == "7.0", "\"7.0\"");
    check("Hostname", text("Hostname"), "a non-empty string");
    check("CPU Type", text("CPU Type"), "a non-empty string");
    for field in ["CPU Total Cores", "CPU Physical Cores", "CPU Online Count", "CPU Core Count", "CPU Socket Count", "CPU Count"] {
        check(field, natural(&document[field]).is_some_and(|count| count > 0), "an integer above 0");
    }
    check("MiB of Memory", natural(&document["MiB of Memory"]).is_some_and(|mib| mib > 0), "an integer above 0");
    for field in ["VM Capable", "Bhyve Capable", "HVM API"] {
        check(field, document[field] == false, "false");
    }
    check(
        "Boot Parameters",
        document["Boot Parameters"].as_object().is_some_and(|map| map.values().all(Value::is_string)),
        "an object of strings",
    );
    check("Boot Parameters", document["Boot Parameters"].get("headnode").is_none(), "no key \"headnode\"");
    check("Admin NIC Tag", text("Admin NIC Tag"), "a non-empty string");
    check("Admin IP", document["Admin IP"].as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()), "an IP address");
    check("CN Agent Port", natural(&document["CN Agent Port"]).is_some_and(|port| (1..=65535).contains(&port)), "an integer port");
    for field in ["Virtual Network Interfaces", "Link Aggregations", "Disks"] {
        check(field, document.get(field).is_none_or(Value::is_object), "an object");
    }
    let entry = |agent: &Value| agent["name"].is_string() && agent["version"].is_string();
    check("SDC Agents", document["SDC Agents"].as_array().is_some_and(|agents| agents.iter().all(entry)), "an array of {name, version}");
    for field in ["Zpool", "Zpool Profile", "Zpool Disks"] {
        check(field, document.get(field).is_none_or(Value::is_string), "a string");
    }
    for field in ["Zpool Creation", "Zpool Size in GiB"] {
        check(field, document.get(field).is_none_or(|value| natural(value).is_some()), "an integer");
    }
    check("Zpool Encrypted", document.get("Zpool Encrypted").is_none_or(Value::is_boolean), "a boolean");
    for misnamed in ["Serial_Number", "SKU_Number", "HW_Version", "HW_Family", "Profile"] {
        check(misnamed, document.get(misnamed).is_none(), "the key's SmartOS name");
    }
    for (name, nic) in document["Network Interfaces"].as_object().into_iter().flatten() {
        problems.extend(interface(name, nic));
    }
    problems
}

fn interface(name: &str, nic: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |field: &str, good: bool, wanted: &str| {
        if !good {
            problems.push(Problem::new(format!("Network Interfaces.{name}.{field}"), format!("{wanted} is needed, not {}", nic[field])));
        }
    };
    check("Link Status", ["up", "down", "unknown"].iter().any(|word| nic["Link Status"] == *word), "up, down or unknown");
    let ip = nic["ip4addr"].as_str();
    check("ip4addr", ip.is_some_and(|ip| ip.is_empty() || ip.parse::<std::net::Ipv4Addr>().is_ok()), "an IPv4 address or an empty string");
    let octet = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mac = |text: &str| text.split(':').count() == 6 && text.split(':').all(octet);
    check("MAC Address", nic["MAC Address"].as_str().is_some_and(mac), "a lower-case, zero-padded MAC address");
    problems
}

fn is_stamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 16
        && text.starts_with("20")
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}
