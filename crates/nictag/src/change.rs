//! Adding, changing and removing tags in the file (net-agent.md section 10.1).

use std::time::Duration;

use serde_json::{Value, json};
use triton_files::{FileError, Lock, steps, write_json};
use triton_types::{JsonMap, Mac, NicTag};

use crate::{
    NicTagError, NicTags, Tag,
    file::{self, TAGS, entry_name},
    kernel,
};

/// How long another change is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an update changes; absent is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagUpdate {
    /// The NIC that provides the tag.
    pub mac: Option<Mac>,
    /// Bytes, 1500 to 9000. Takes effect when the bridges are made again.
    pub mtu: Option<u32>,
}

impl NicTags {
    /// Adds a tag to the file. A tag without a MAC address is a network within this node.
    ///
    /// # Errors
    /// If it exists, its name or MTU is not legal, or no NIC of this node has the MAC address.
    pub fn add(&mut self, tag: &Tag) -> Result<(), NicTagError> {
        if tag.name.as_str().contains('/') || tag.name.as_str().len() > 30 {
            return Err(NicTagError::Name(tag.name.clone()));
        }
        check(tag.mac, tag.mtu)?;
        self.change("add", |current, entries| {
            if current.contains(&tag.name) {
                return Err(NicTagError::Exists(tag.name.clone()));
            }
            let mut entry = JsonMap::new();
            entry.insert("name".to_owned(), json!(tag.name));
            entry.insert("mac".to_owned(), tag.mac.map_or_else(|| json!("-"), |mac| json!(mac)));
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
    pub fn update(&mut self, name: &NicTag, update: TagUpdate) -> Result<(), NicTagError> {
        if update == TagUpdate::default() {
            return Err(NicTagError::Nothing);
        }
        check(update.mac, update.mtu)?;
        self.change("update", |current, entries| {
            let tag = current.get(name).ok_or_else(|| NicTagError::NotFound(name.clone()))?;
            if tag.mac.is_none() {
                return Err(NicTagError::NoUplink(name.clone()));
            }
            // The first of that name is the one that counts.
            let entry = entries.iter_mut().filter_map(Value::as_object_mut).find(|entry| entry_name(entry) == Some(name.as_str()));
            if let Some(entry) = entry {
                if let Some(mac) = update.mac {
                    entry.insert("mac".to_owned(), json!(mac));
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
        self.change("delete", |current, entries| {
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

    /// Applies `edit` to the list in the file as it is now, under a lock, and replaces the file; `self` is then what the
    /// file says.
    fn change(
        &mut self,
        action: &'static str,
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
        if let Value::Array(entries) = list {
            edit(&current, entries)?;
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

fn check(mac: Option<Mac>, mtu: Option<u32>) -> Result<(), NicTagError> {
    if let Some(mtu) = mtu.filter(|mtu| !(1500..=9000).contains(mtu)) {
        return Err(NicTagError::Mtu(mtu));
    }
    if let Some(mac) = mac {
        let links = kernel::ask(async |links| Ok(links.list().await?))?;
        kernel::uplink(&links, mac, None).ok_or(NicTagError::NoSuchNic(mac))?;
    }
    Ok(())
}
