//! Which properties of a payload are wrong, unknown or missing (instances.md section 2.1).

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;
use triton_types::{ImageType, ImageUuid, JsonMap};

use crate::{
    ImageStatus, PayloadError, World, limits,
    nic_keys::{FILESYSTEM_KEYS, NIC_KEYS, SILENT_NIC_KEYS, SubKey},
    normalise::normalise,
    table::{Kind, PROPERTIES, Property, property},
};

/// What is wrong with a payload.
///
/// Serialised as `vmadm validate` prints it: the three arrays, always all of them, in the order of the payload; or only
/// `bad_brand`. An element's key is written `nics.*.mtu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The brand, when it is unknown (`undefined` when absent). Nothing else was checked then.
    pub bad_brand: Option<String>,
    /// Properties with a value of the wrong type or out of bounds.
    pub bad_values: Vec<String>,
    /// Properties that are unknown, or not allowed for the action.
    pub bad_properties: Vec<String>,
    /// Required properties that are absent.
    pub missing_properties: Vec<String>,
}

impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        if let Some(brand) = &self.bad_brand {
            map.serialize_entry("bad_brand", brand)?;
        } else {
            map.serialize_entry("bad_values", &self.bad_values)?;
            map.serialize_entry("bad_properties", &self.bad_properties)?;
            map.serialize_entry("missing_properties", &self.missing_properties)?;
        }
        map.end()
    }
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_valid(&self) -> bool {
        *self == Self::default()
    }

    fn unknown_brand(brand: Option<&Value>) -> Self {
        let brand = match brand {
            Some(Value::String(text)) => crate::error::excerpt(text),
            Some(other) => crate::error::excerpt(&other.to_string()),
            None => "undefined".to_owned(),
        };
        Self { bad_brand: Some(brand), ..Self::default() }
    }

    /// The error that create and update make of it: unknown properties are none.
    pub(crate) fn into_result(self) -> Result<(), PayloadError> {
        if let Some(brand) = self.bad_brand {
            return Err(PayloadError::BadBrand(brand));
        }
        if !self.bad_values.is_empty() {
            return Err(PayloadError::InvalidValues(self.bad_values));
        }
        if self.missing_properties.is_empty() { Ok(()) } else { Err(PayloadError::MissingProperties(self.missing_properties)) }
    }
}

/// What a payload is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
}

impl Action {
    fn allows(self, property: &Property) -> bool {
        match self {
            Self::Create => property.create,
            Self::Update => property.update,
        }
    }
}

/// `vmadm validate ACTION`: `create`, or `update` with a brand. For any other action every key of the payload is bad (case 3).
pub fn validate(action: &str, brand: Option<&str>, payload: &JsonMap, world: &dyn World) -> Verdict {
    match action {
        "create" => validate_create(payload, world),
        "update" => validate_update(brand.unwrap_or("undefined"), payload, world),
        _ => Verdict { bad_properties: payload.keys().cloned().collect(), ..Verdict::default() },
    }
}

/// Checks a create payload. Docs of [`Verdict`] say what the result means.
pub fn validate_create(payload: &JsonMap, world: &dyn World) -> Verdict {
    match payload.get("brand") {
        Some(Value::String(brand)) if brand == "lx" => check(Action::Create, payload, world),
        brand => Verdict::unknown_brand(brand),
    }
}

/// Checks an update payload for an instance of this brand.
pub fn validate_update(brand: &str, payload: &JsonMap, world: &dyn World) -> Verdict {
    if brand == "lx" { check(Action::Update, payload, world) } else { Verdict::unknown_brand(Some(&brand.into())) }
}

/// Names in the order of their first appearance, each once.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn push(&mut self, name: String) {
        if self.seen.insert(name.clone()) {
            self.list.push(name);
        }
    }
}

fn check(action: Action, payload: &JsonMap, world: &dyn World) -> Verdict {
    let (mut values, mut properties, mut missing) = (Names::default(), Names::default(), Names::default());
    for (name, value) in payload {
        let Some(property) = property(name).filter(|p| action.allows(p)) else {
            properties.push(name.clone());
            continue;
        };
        if normalise(property, value).is_err() || !exists(property, value, world) {
            values.push(name.clone());
        }
        if let Some((keys, add)) = element_keys(property) {
            let Value::Array(elements) = value else {
                values.push(name.clone());
                continue;
            };
            for element in elements {
                let Value::Object(element) = element else {
                    values.push(name.clone());
                    continue;
                };
                check_element(name, element, keys, add, [&mut values, &mut properties, &mut missing]);
            }
        }
    }
    if action == Action::Create {
        for property in PROPERTIES.iter().filter(|p| p.required && !payload.contains_key(p.name)) {
            missing.push(property.name.to_owned());
        }
    }
    Verdict { bad_brand: None, bad_values: values.list, bad_properties: properties.list, missing_properties: missing.list }
}

fn check_element(name: &str, element: &JsonMap, keys: &[SubKey], add: bool, [values, properties, missing]: [&mut Names; 3]) {
    for (key, value) in element {
        match keys.iter().find(|k| k.name == key) {
            Some(found) if !(found.good)(value, add) => values.push(format!("{name}.*.{key}")),
            Some(_) => {}
            None => properties.push(format!("{name}.*.{key}")),
        }
    }
    for required in keys.iter().filter(|k| add && k.required && !element.contains_key(k.name)) {
        missing.push(format!("{name}.*.{}", required.name));
    }
}

/// The keys of a property's elements, and whether its elements are added.
fn element_keys(property: &Property) -> Option<(&'static [SubKey], bool)> {
    match property.kind {
        Kind::Nics(add) => Some((NIC_KEYS, add)),
        Kind::Filesystems(add) => Some((FILESYSTEM_KEYS, add)),
        _ => None,
    }
}

fn exists(property: &Property, value: &Value, world: &dyn World) -> bool {
    let text = value.as_str().unwrap_or_default();
    match property.kind {
        Kind::Pool => world.pool_exists(text),
        Kind::Image => text.parse::<ImageUuid>().is_ok_and(|image| {
            matches!(world.image(&image), ImageStatus::Installed(ImageType::LxDataset | ImageType::Lxd | ImageType::Docker))
        }),
        _ => true,
    }
}

/// Removes from a payload what [`check`] calls bad properties, with a warning for each (section 2.1).
pub(crate) fn strip(action: Action, payload: &mut JsonMap, warnings: &mut Warnings) {
    payload.retain(|name, value| {
        let Some(property) = property(name).filter(|p| action.allows(p)) else {
            let silent = action == Action::Update && property(name).is_some_and(|p| p.immutable);
            if !silent {
                warnings.ignored(name);
            }
            return false;
        };
        if let (Some((keys, _)), Value::Array(elements)) = (element_keys(property), value) {
            for element in elements.iter_mut().filter_map(Value::as_object_mut) {
                element.retain(|key, _| {
                    let known = keys.iter().any(|k| k.name == key);
                    if !known && !SILENT_NIC_KEYS.contains(&key.as_str()) {
                        warnings.ignored(&format!("{name}.*.{key}"));
                    }
                    known
                });
            }
        }
        true
    });
}

/// Warnings of one operation: each once, and not more than [`limits::WARNINGS`].
#[derive(Default)]
pub(crate) struct Warnings {
    names: Names,
    more: usize,
}

impl Warnings {
    fn ignored(&mut self, name: &str) {
        self.push(format!("ignoring property that cannot be set: {}", crate::error::excerpt(name)));
    }

    pub(crate) fn push(&mut self, text: String) {
        if self.names.list.len() < limits::WARNINGS {
            self.names.push(text);
        } else if !self.names.seen.contains(&text) {
            self.more += 1;
        }
    }

    pub(crate) fn into_list(self) -> Vec<String> {
        let mut list = self.names.list;
        if self.more > 0 {
            list.push(format!("and {} more warnings", self.more));
        }
        list
    }
}
