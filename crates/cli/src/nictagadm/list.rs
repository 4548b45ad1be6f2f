//! Tables of tags, and the instances on a tag.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use triton_agent::chain;
use triton_files::Layout;
use triton_instance::Machines;
use triton_nictag::{NicTags, Provider, TagStatus};
use triton_types::{InstanceUuid, NicTag};

use super::{Failure, args::List, failed, say};

/// One line: name, MAC address, link, type.
type Row = [String; 4];

pub(super) fn list(tags: &NicTags, list: &List) -> Result<(), Failure> {
    if list.local && list.not_local {
        return failed("-l and -L exclude each other");
    }
    if list.delimiter.is_some() && !list.parsable {
        return failed("-d needs -p");
    }
    let mut rows: Vec<Row> = tags.list()?.iter().filter(|status| wanted(status, list)).map(row).collect();
    if !list.local {
        let rule = |name: &str| [name.to_owned(), "-".to_owned(), "-".to_owned(), "overlay rule".to_owned()];
        rows.extend(tags.overlay_rules().filter(|name| name.parse::<NicTag>().is_ok()).map(rule));
    }
    let text = match list.parsable {
        true => parsable(&rows, list.delimiter.as_deref().unwrap_or(":")),
        false => table(&rows),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn wanted(status: &TagStatus, list: &List) -> bool {
    if status.tag.etherstub { !list.not_local } else { !list.local }
}

fn row(status: &TagStatus) -> Row {
    let none = || "-".to_owned();
    let (mac, kind) = match &status.tag.provider {
        Provider::Nic(mac) => (mac.to_string(), "normal"),
        Provider::Aggregation(_) => (none(), "aggr"),
        Provider::Nothing if status.tag.etherstub => (none(), "etherstub"),
        Provider::Nothing => (none(), "normal"),
    };
    let configured = match &status.tag.provider {
        Provider::Aggregation(name) => Some(name.clone()),
        Provider::Nic(_) | Provider::Nothing => None,
    };
    let link = status.uplink.clone().or(configured).unwrap_or_else(none);
    [status.tag.name.to_string(), mac, link, kind.to_owned()]
}

fn parsable(rows: &[Row], delimiter: &str) -> String {
    let mut text = String::new();
    for [name, mac, link, kind] in rows {
        let mac = if delimiter == ":" { mac.replace(':', "\\:") } else { mac.clone() };
        let _ = writeln!(text, "{name}{delimiter}{mac}{delimiter}{link}{delimiter}{kind}");
    }
    text
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let header = ["NAME", "MACADDRESS", "LINK", "TYPE"].map(str::to_owned);
    for [name, mac, link, kind] in std::iter::once(&header).chain(rows) {
        let _ = writeln!(text, "{name:<14} {mac:<18} {link:<14} {kind}");
    }
    text
}

pub(super) fn vms(layout: &Layout, tag: &NicTag) -> Result<(), Failure> {
    let users = Users::of(layout, tag)?;
    let mut output = io::stdout().lock();
    for uuid in &users.known {
        writeln!(output, "{uuid}")?;
    }
    for uuid in &users.unreadable {
        say(&format!("Error: instance {uuid} cannot be read: it may have a nic on {tag}"));
    }
    if users.unreadable.is_empty() { Ok(()) } else { Err(Failure::Silent) }
}

/// The instances that have a NIC on a tag.
pub(super) struct Users {
    /// Those that do, by uuid.
    pub known: Vec<InstanceUuid>,
    /// Those of which it cannot be told (ruling 1: they exist).
    pub unreadable: Vec<InstanceUuid>,
}

impl Users {
    /// # Errors
    /// When the store of instances is not there: that is not "none".
    pub(super) fn of(layout: &Layout, tag: &NicTag) -> Result<Self, Failure> {
        let machines = Machines::new(layout);
        let uuids = machines.uuids().or_else(|error| failed(chain(&error).to_string()))?;
        let mut users = Self { known: Vec::new(), unreadable: Vec::new() };
        for uuid in uuids {
            match machines.read_alone(uuid) {
                Ok(file) if file.config.nics.iter().any(|nic| nic.nic_tag == *tag) => users.known.push(uuid),
                Ok(_) | Err(triton_instance::InstanceError::NotFound { .. }) => {}
                Err(_) => users.unreadable.push(uuid),
            }
        }
        Ok(users)
    }
}
