//! Adding, changing and removing tags in the file (net-agent.md section 10.1).

use std::time::Duration;

use serde_json::{Value, json};
use triton_files::{FileError, Lock, steps, write_json};
use triton_netconf::Provider;
use triton_types::{JsonMap, NicTag};

use crate::{
    NicTagError, NicTags, Tag,
    file::{self, STUBS, TAGS, entry_name},
    kernel,
};

/// How long another change is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an update changes; absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagUpdate {
    /// The NIC or aggregation that provides the tag.
    pub provider: Option<Provider>,
    /// Bytes, 1500 to 9000. Takes effect when the bridges are made again.
    pub mtu: Option<u32>,
}

impl NicTags {
    /// Adds a tag to the file. A tag that nothing provides is a network within this node; its name ends in a digit.
    ///
    /// # Errors
    /// If it exists, its name or MTU is not legal, or this node has no such NIC or aggregation.
    pub fn add(&mut self, tag: &Tag) -> Result<(), NicTagError> {
        check_name(tag)?;
        check_mtu(tag.mtu)?;
        self.change("add", None, |current, entries| {
            if current.contains(&tag.name) {
                return Err(NicTagError::Exists(tag.name.clone()));
            }
            current.check_provider(&tag.provider)?;
            let mut entry = JsonMap::new();
            entry.insert("name".to_owned(), json!(tag.name));
            entry.insert("mac".to_owned(), json!(provider_text(&tag.provider)));
            if let Some(uuid) = &tag.uuid {
                entry.insert("uuid".to_owned(), json!(uuid));
            }
            if let Some(mtu) = tag.mtu {
                entry.insert("mtu".to_owned(), json!(mtu));
            }
            entries.push(Value::Object(entry));
            Ok(())
        })
    }

    /// Changes a tag in the file.
    ///
    /// # Errors
    /// If it does not exist or has no NIC, nothing is to change, the MTU is not legal, or no NIC of this node has the MAC
    /// address.
    pub fn update(&mut self, name: &NicTag, update: &TagUpdate) -> Result<(), NicTagError> {
        if *update == TagUpdate::default() {
            return Err(NicTagError::Nothing);
        }
        check_mtu(update.mtu)?;
        self.change("update", None, |current, entries| {
            let tag = current.get(name).ok_or_else(|| NicTagError::NotFound(name.clone()))?;
            if tag.etherstub {
                return Err(NicTagError::NoUplink(name.clone()));
            }
            if let Some(provider) = &update.provider {
                current.check_provider(provider)?;
            }
            // The first of that name is the one that counts.
            let entry = entries.iter_mut().filter_map(Value::as_object_mut).find(|entry| entry_name(entry) == Some(name.as_str()));
            if let Some(entry) = entry {
                if let Some(provider) = &update.provider {
                    entry.insert("mac".to_owned(), json!(provider_text(provider)));
                }
                if let Some(mtu) = update.mtu {
                    entry.insert("mtu".to_owned(), json!(mtu));
                }
            }
            Ok(())
        })
    }

    /// Removes a tag from the file. Whether an instance uses it is the caller's question. Its bridge stays until the next
    /// boot: it may carry others' traffic.
    ///
    /// # Errors
    /// If it does not exist or is the admin network's.
    pub fn delete(&mut self, name: &NicTag) -> Result<(), NicTagError> {
        self.change("delete", Some(name), |current, entries| {
            if !current.contains(name) {
                return Err(NicTagError::NotFound(name.clone()));
            }
            if name == current.admin() {
                return Err(NicTagError::Admin(name.clone()));
            }
            entries.retain(|entry| entry.as_object().and_then(entry_name) != Some(name.as_str()));
            Ok(())
        })
    }

    /// Applies `edit` to the list in the file as it is now, under a lock, takes `forget` out of the networks that are only
    /// names, and replaces the file; `self` is then what the file says.
    fn change(
        &mut self,
        action: &'static str,
        forget: Option<&NicTag>,
        edit: impl FnOnce(&Self, &mut Vec<Value>) -> Result<(), NicTagError>,
    ) -> Result<(), NicTagError> {
        let path = file::path(&self.layout);
        for directory in [self.layout.locks(), self.layout.config()] {
            std::fs::create_dir_all(&directory).map_err(|e| FileError::new("create directory", directory, e))?;
        }
        let lock = self.layout.locks().join("nictags.lock");
        let lock = Lock::take(&lock, &format!("nictag {action}"), PATIENCE)?;
        let current = file::load(&self.layout)?;
        let mut document = current.document.clone().unwrap_or_default();
        let list = document.entry(TAGS).or_insert_with(|| Value::Array(Vec::new()));
        if list.is_null() {
            *list = Value::Array(Vec::new());
        }
        if let Value::Array(entries) = list {
            edit(&current, entries)?;
        }
        if let (Some(name), Some(Value::Array(stubs))) = (forget, document.get_mut(STUBS)) {
            stubs.retain(|stub| stub.as_str() != Some(name.as_str()));
        }
        let changed = file::interpret(&self.layout, Some(document))?;
        steps::reached("nictag.edited");
        write_json(&path, &changed.document, 0o644)?;
        steps::reached("nictag.written");
        drop(lock);
        *self = changed;
        Ok(())
    }
}

fn provider_text(provider: &Provider) -> String {
    match provider {
        Provider::Nic(mac) => mac.to_string(),
        Provider::Aggregation(name) => name.clone(),
        Provider::Nothing => "-".to_owned(),
    }
}

/// Letters, digits and `_`: at most 30 for a tag, 31 with a digit at the end for a network within the node.
fn check_name(tag: &Tag) -> Result<(), NicTagError> {
    let name = tag.name.as_str();
    let legal = match tag.provider {
        Provider::Nothing => name.len() <= 31 && name.bytes().last().is_some_and(|b| b.is_ascii_digit()),
        Provider::Nic(_) | Provider::Aggregation(_) => name.len() <= 30,
    };
    if legal && !name.contains('/') { Ok(()) } else { Err(NicTagError::Name(tag.name.clone())) }
}

fn check_mtu(mtu: Option<u32>) -> Result<(), NicTagError> {
    match mtu.filter(|mtu| !(1500..=9000).contains(mtu)) {
        Some(mtu) => Err(NicTagError::Mtu(mtu)),
        None => Ok(()),
    }
}

impl NicTags {
    /// Whether this node has what should provide a tag.
    fn check_provider(&self, provider: &Provider) -> Result<(), NicTagError> {
        match provider {
            Provider::Nothing => Ok(()),
            Provider::Aggregation(name) if self.aggregations.iter().any(|known| known.name == *name) => Ok(()),
            Provider::Aggregation(name) => Err(NicTagError::NoSuchAggregation(name.clone())),
            Provider::Nic(mac) => {
                let links = kernel::ask(async |links| Ok(links.list().await?))?;
                kernel::uplink(&links, provider, None).map(drop).ok_or(NicTagError::NoSuchNic(*mac))
            }
        }
    }
}
