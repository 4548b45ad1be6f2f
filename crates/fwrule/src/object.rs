//! The rule object (firewaller.md section 4.6): reading with upstream's checks in upstream's order, and writing.

use serde_json::{Value, json};
use triton_types::{JsonMap, OwnerUuid, RuleUuid};

use crate::{Limits, Rule, RuleError, RuleErrors, Spec};

/// The longest `created_by` and `description`, in UTF-16 units.
const LONGEST_TEXT: usize = 255;

/// What reading a rule object enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Of its text.
    pub limits: Limits,
    /// Whether exactly one of `owner_uuid` and `global` must be given, as FWAPI and every call that adds or changes a rule
    /// demand. Without it a rule that has no owner is global.
    pub enforce_global: bool,
}

impl Rule {
    /// Reads a rule object. A rule without `uuid` gets a new one; fields that are not known are dropped.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in upstream's order.
    pub fn parse(object: &JsonMap, options: &Options) -> Result<Self, RuleErrors> {
        let mut reader = Reader { object, errors: Vec::new() };
        let spec = reader.spec(&options.limits);
        let uuid = reader.read("uuid", "Invalid rule UUID", |value| value.as_str()?.parse::<RuleUuid>().ok());
        let owner = reader.read("owner_uuid", "Invalid owner UUID", |value| value.as_str()?.parse::<OwnerUuid>().ok());
        let enabled = reader.read("enabled", "enabled must be true or false", flag);
        let log = reader.read("log", "log must be true or false", flag);
        let created_by = reader.short_text("created_by");
        let description = reader.short_text("description");
        if options.enforce_global {
            reader.check_global();
        }
        let version = object.get("version").and_then(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        match spec {
            Some(spec) if reader.errors.is_empty() => Ok(Self {
                uuid: uuid.unwrap_or_else(RuleUuid::random),
                version,
                owner,
                enabled: enabled.unwrap_or(false),
                log: log.unwrap_or(false),
                description,
                created_by,
                spec,
            }),
            _ => Err(RuleErrors(reader.errors)),
        }
    }

    /// Reads a rule object from any JSON value.
    ///
    /// # Errors
    ///
    /// As [`Rule::parse`]; a value that is no object has no rule.
    pub fn from_json(value: &Value, options: &Options) -> Result<Self, RuleErrors> {
        match value.as_object() {
            Some(object) => Self::parse(object, options),
            None => Err(RuleError::text("No rule specified").into()),
        }
    }

    /// The rule as an object, keys in upstream's order.
    pub fn to_json(&self) -> Value {
        let mut object = JsonMap::new();
        if let Some(created_by) = &self.created_by {
            object.insert("created_by".into(), json!(created_by));
        }
        if let Some(description) = &self.description {
            object.insert("description".into(), json!(description));
        }
        object.insert("enabled".into(), json!(self.enabled));
        if self.owner.is_none() {
            object.insert("global".into(), json!(true));
        }
        object.insert("log".into(), json!(self.log));
        if let Some(owner) = &self.owner {
            object.insert("owner_uuid".into(), json!(owner));
        }
        object.insert("rule".into(), json!(self.spec.to_string()));
        object.insert("uuid".into(), json!(self.uuid));
        if let Some(version) = &self.version {
            object.insert("version".into(), json!(version));
        }
        Value::Object(object)
    }
}

/// A truth value, also as text (FWAPI passes on what its callers sent).
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text == "true" => Some(true),
        Value::String(text) if text == "false" => Some(false),
        _ => None,
    }
}

/// What upstream's language takes for true, for the one check that asks so.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "false",
        Value::Array(_) | Value::Object(_) => true,
    }
}

struct Reader<'a> {
    object: &'a JsonMap,
    errors: Vec<RuleError>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: &'static str, message: impl Into<String>) {
        self.errors.push(RuleError::new(field, message));
    }

    fn read<T>(&mut self, field: &'static str, message: &str, parse: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let parsed = parse(self.object.get(field)?);
        if parsed.is_none() {
            self.refuse(field, message);
        }
        parsed
    }

    fn spec(&mut self, limits: &Limits) -> Option<Spec> {
        let parsed = match self.object.get("rule") {
            Some(Value::String(text)) => Spec::parse(text, limits),
            None | Some(Value::Null) => Err(RuleError::text("No rule specified")),
            Some(_) => Err(RuleError::text("rule must be a string")),
        };
        parsed.map_err(|error| self.errors.push(error)).ok()
    }

    fn short_text(&mut self, field: &'static str) -> Option<String> {
        let text = self.read(field, &format!("{field} must be a string"), |value| value.as_str().map(str::to_owned))?;
        if text.encode_utf16().count() <= LONGEST_TEXT {
            return Some(text);
        }
        self.refuse(field, format!("{field} must be shorter than {LONGEST_TEXT} characters"));
        None
    }

    fn check_global(&mut self) {
        let global = self.object.get("global");
        let owned = self.object.contains_key("owner_uuid");
        if global.is_some_and(|value| flag(value).is_none()) {
            self.refuse("global", "global must be true or false");
        }
        let wanted = global.is_some_and(is_truthy);
        if wanted && owned {
            self.refuse("global", "cannot specify both global and owner_uuid");
        }
        // `global: false` alone names nobody: upstream would make it a rule of everybody.
        if !owned && !wanted && self.errors.iter().all(|error| error.field != "global") {
            self.refuse("owner_uuid", "owner_uuid required");
        }
    }
}
