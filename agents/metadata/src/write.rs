//! PUT and DELETE: refused, found to be so already, or carried out (metadata.md sections 4.1 and 4.2).

use serde_json::Value;
use triton_mdata::{Answer, Map, target};
use triton_types::{InstanceUuid, JsonMap};

use crate::{Limits, Store};

/// A change of one key.
#[derive(Debug)]
pub(crate) struct Write {
    key: String,
    value: Option<String>,
}

impl Write {
    /// An empty value removes the key.
    pub(crate) fn put(key: String, value: String) -> Self {
        Self { key, value: Some(value).filter(|value| !value.is_empty()) }
    }

    pub(crate) fn delete(key: String) -> Self {
        Self { key, value: None }
    }

    /// Carries it out. The error is for the host's log.
    pub(crate) fn run(self, uuid: InstanceUuid, store: &dyn Store, limits: &Limits) -> Result<Answer, String> {
        let vm = store.view(uuid)?;
        let map = match target(&vm, &self.key, limits.compatibility()) {
            Ok(map) => map,
            Err(refused) => return Ok(refused),
        };
        let Some(stored) = vm.get(map.name()).and_then(Value::as_object) else {
            return Ok(Answer::failure(format!("Zone did not contain {}", map.name())));
        };
        let now = stored.get(&self.key);
        if now.and_then(Value::as_str) == self.value.as_deref() && (self.value.is_some() || now.is_none()) {
            return Ok(Answer::Done);
        }
        if let Some(refused) = self.too_much(stored, map, limits) {
            return Ok(refused);
        }
        store.change(uuid, map, &self.key, self.value.as_deref())?;
        Ok(Answer::Done)
    }

    fn too_much(&self, stored: &JsonMap, map: Map, limits: &Limits) -> Option<Answer> {
        let value = self.value.as_deref()?;
        if self.key.len() > limits.key || self.key.chars().any(char::is_control) {
            return Some(Answer::failure("Invalid PUT Request"));
        }
        if value.len() > limits.value {
            return Some(Answer::failure(format!("The value is longer than {} bytes", limits.value)));
        }
        let others = stored.iter().filter(|(key, _)| **key != self.key);
        let (keys, bytes) = others.fold((1, self.key.len() + value.len()), |(keys, bytes), (key, value)| {
            let length = value.as_str().map_or(8, str::len);
            (keys + 1, bytes.saturating_add(key.len() + length))
        });
        if keys > limits.keys || bytes > limits.total {
            let (most, total) = (limits.keys, limits.total);
            return Some(Answer::failure(format!("{} may have {most} keys and {total} bytes", map.name())));
        }
        None
    }
}
