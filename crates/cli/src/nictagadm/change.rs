//! Adding, changing and removing tags.

use std::io::{self, Write};

use triton_agent::chain;
use triton_files::Layout;
use triton_nictag::{NicTags, Provider, Tag, TagUpdate};
use triton_types::NicTag;

use super::{
    Failure,
    args::{Change, Delete},
    failed,
    list::Users,
    say, tag,
};

/// What was asked for beside the name.
struct Wanted {
    provider: Option<Provider>,
    mtu: Option<u32>,
}

fn wanted(change: &Change) -> Result<Wanted, Failure> {
    let (mut mac, mut mtu) = (change.mac.as_deref(), None);
    for property in change.properties.iter().flat_map(|list| list.split(',')) {
        match property.split_once('=') {
            Some(("mac", value)) if !value.is_empty() => {
                if mac.replace(value).is_some() {
                    return failed("the MAC address was given twice");
                }
            }
            Some(("mtu", value)) => match value.parse() {
                Ok(value) => mtu = Some(value),
                Err(_) => return failed(format!("{value:?} is no MTU: 1500 to 9000")),
            },
            _ => return failed(format!("invalid property {property:?}: mac=... or mtu=...")),
        }
    }
    let provider = match mac {
        None => None,
        Some(mac) => match Provider::parse(mac) {
            Some(Provider::Nothing) | None => return failed(format!("{mac:?} is neither a MAC address nor an aggregation")),
            provider => provider,
        },
    };
    Ok(Wanted { provider, mtu })
}

pub(super) fn add(layout: &Layout, change: &Change, verbose: &dyn Fn(&str)) -> Result<(), Failure> {
    let name = tag(&change.name)?;
    let Wanted { provider, mtu } = wanted(change)?;
    let provider = match (provider, change.local) {
        (Some(_), true) => return failed("an etherstub has no MAC address"),
        (None, false) => return failed("a MAC address or an aggregation is needed; -l adds an etherstub"),
        (_, true) if mtu.is_some() => return failed("an etherstub has no MTU"),
        (None, true) => Provider::Nothing,
        (Some(provider), false) => provider,
    };
    let mut tags = NicTags::load(layout)?;
    verbose(&format!("adding nic tag {name}"));
    tags.add(&Tag { name: name.clone(), provider, etherstub: change.local, uuid: None, mtu })?;
    take_effect(&tags, &name, mtu.is_some(), verbose)
}

pub(super) fn update(layout: &Layout, change: &Change, verbose: &dyn Fn(&str)) -> Result<(), Failure> {
    if change.local {
        return failed("an etherstub cannot be updated");
    }
    let name = tag(&change.name)?;
    let Wanted { provider, mtu } = wanted(change)?;
    let mut tags = NicTags::load(layout)?;
    verbose(&format!("updating nic tag {name}"));
    tags.update(&name, &TagUpdate { provider, mtu })?;
    take_effect(&tags, &name, mtu.is_some(), verbose)
}

/// Makes the bridges now. The file was changed, so what is wrong with a link is a warning: the next boot tries again.
fn take_effect(tags: &NicTags, name: &NicTag, mtu: bool, verbose: &dyn Fn(&str)) -> Result<(), Failure> {
    match tags.ensure_bridges() {
        Ok(report) => {
            for report in report.iter().filter(|report| report.tag == *name) {
                match &report.result {
                    Ok(uplink) => {
                        verbose(&format!("bridge {} is there, its uplink is {}", report.bridge, uplink.as_deref().unwrap_or("-")));
                    }
                    Err(problem) => say(&format!("Warning: nic tag {name}: {}", chain(problem))),
                }
            }
        }
        Err(error) => say(&format!("Warning: the bridges could not be made: {}", chain(&error))),
    }
    if mtu {
        writeln!(io::stdout(), "A changed MTU takes effect everywhere at the next boot only.")?;
    }
    Ok(())
}

pub(super) fn delete(layout: &Layout, delete: &Delete, verbose: &dyn Fn(&str)) -> Result<(), Failure> {
    let name = tag(&delete.name)?;
    let mut tags = NicTags::load(layout)?;
    if !tags.contains(&name) {
        return failed(format!("nic tag \"{name}\" does not exist"));
    }
    if !delete.force {
        let users = Users::of(layout, &name)?;
        if !users.known.is_empty() {
            let list: Vec<String> = users.known.iter().take(5).map(ToString::to_string).collect();
            let more = if users.known.len() > list.len() { ", ..." } else { "" };
            return failed(format!("nic tag \"{name}\" is in use by {}: {}{more}", count(users.known.len()), list.join(", ")));
        }
        if !users.unreadable.is_empty() {
            let text = format!("nic tag \"{name}\" may be in use: {} cannot be read", count(users.unreadable.len()));
            return failed(text);
        }
    }
    verbose(&format!("deleting nic tag {name}"));
    Ok(tags.delete(&name)?)
}

fn count(instances: usize) -> String {
    if instances == 1 { "1 instance".to_owned() } else { format!("{instances} instances") }
}
