//! What is answered, and what both shapes take from a VM object. Pure.

use std::fmt;

use serde_json::Value;
use triton_types::JsonMap;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Status code.
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) kind: &'static str,
    /// Its bytes.
    pub(crate) body: String,
    /// Seconds that a token is good for, where the answer is one.
    pub(crate) seconds: Option<u32>,
}

impl Page {
    /// Plain text.
    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self { status: 200, kind: "text/plain; charset=utf-8", body: body.into(), seconds: None }
    }

    /// JSON.
    pub(crate) fn json(value: &Value) -> Self {
        Self { kind: "application/json", ..Self::text(value.to_string()) }
    }

    /// A refusal, in one line.
    pub(crate) fn refused(status: u16, reason: &str) -> Self {
        Self { status, ..Self::text(format!("{reason}\n")) }
    }

    /// Lines, as both shapes list what there is.
    pub(crate) fn list<T: fmt::Display>(lines: impl IntoIterator<Item = T>) -> Self {
        Self::text(lines.into_iter().map(|line| line.to_string()).collect::<Vec<_>>().join("\n"))
    }
}

/// A property that is a text.
pub(crate) fn text<'a>(vm: &'a JsonMap, key: &str) -> Option<&'a str> {
    vm.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// A text of the customer's metadata. Internal metadata is never served here.
pub(crate) fn customer<'a>(vm: &'a JsonMap, key: &str) -> Option<&'a str> {
    vm.get("customer_metadata")?.get(key)?.as_str()
}

/// The instance's host name, else its alias, else its uuid.
pub(crate) fn name(vm: &JsonMap) -> &str {
    ["hostname", "alias", "uuid"].iter().find_map(|key| text(vm, key)).unwrap_or_default()
}

/// What cloud-init is to do, as the customer wrote it.
pub(crate) fn user_data(vm: &JsonMap) -> Option<&str> {
    customer(vm, "cloud-init:user-data")
}

/// The keys that may log in as root.
pub(crate) fn keys(vm: &JsonMap) -> Vec<&str> {
    let keys = customer(vm, "root_authorized_keys").unwrap_or_default();
    keys.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The NICs, as objects.
pub(crate) fn nics(vm: &JsonMap) -> impl Iterator<Item = &JsonMap> {
    vm.get("nics").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// The primary NIC, else the first.
pub(crate) fn primary(vm: &JsonMap) -> Option<&JsonMap> {
    nics(vm).find(|nic| nic.get("primary") == Some(&Value::Bool(true))).or_else(|| nics(vm).next())
}
