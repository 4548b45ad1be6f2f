//! What differs between two VM objects, as `vmadm events` tells it (instances.md section 4.5).

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use triton_types::JsonMap;

/// What happened to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another.
    Changed,
}

impl DifferenceKind {
    /// The word of the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One difference; an item of an event's `changes`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Keys from the object inwards; `None` (`null`) is some element of an array.
    pub path: Vec<Option<String>>,
    /// The same as text: `nics.*.ips`, `tags[a.b]`.
    pub pretty_path: String,
    /// Which element, for arrays whose elements have an identity: the NIC's MAC address, the disk's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ident: Option<String>,
    /// What happened.
    pub action: DifferenceKind,
    /// The value before, unless it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_value: Option<Value>,
    /// The value now, unless it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_value: Option<Value>,
}

/// Arrays at the top of the object whose elements are told apart by a key of theirs; elements of others are just values.
const IDENTITIES: [(&str, &str); 2] = [("nics", "mac"), ("disks", "path")];

/// The differences between two objects, in the order of section 4.5: those of the old object's keys, then added keys.
/// The order of an array's elements is no difference.
pub fn differences(old: &JsonMap, new: &JsonMap) -> Vec<Difference> {
    let mut found = Found { path: Vec::new(), ident: None, all: Vec::new() };
    found.objects(old, new);
    found.all
}

/// Where the comparison is, and what it found. Nesting is bounded by the parser that made the values.
struct Found {
    path: Vec<Option<String>>,
    ident: Option<String>,
    all: Vec<Difference>,
}

impl Found {
    fn push(&mut self, old_value: Option<&Value>, new_value: Option<&Value>) {
        let action = match (old_value, new_value) {
            (None, _) => DifferenceKind::Added,
            (_, None) => DifferenceKind::Removed,
            _ => DifferenceKind::Changed,
        };
        self.all.push(Difference {
            pretty_path: pretty(&self.path),
            path: self.path.clone(),
            ident: self.ident.clone(),
            action,
            old_value: old_value.cloned(),
            new_value: new_value.cloned(),
        });
    }

    fn objects(&mut self, old: &JsonMap, new: &JsonMap) {
        for (key, before) in old {
            self.path.push(Some(key.clone()));
            match (before, new.get(key)) {
                (before, None) => self.push(Some(before), None),
                (Value::Object(before), Some(Value::Object(now))) => self.objects(before, now),
                (Value::Array(before), Some(Value::Array(now))) => self.arrays(before, now),
                (before, Some(now)) if before == now => {}
                (before, Some(now)) => self.push(Some(before), Some(now)),
            }
            self.path.pop();
        }
        for (key, now) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
            self.path.push(Some(key.clone()));
            self.push(None, Some(now));
            self.path.pop();
        }
    }

    fn arrays(&mut self, old: &[Value], new: &[Value]) {
        let identity = match self.path.as_slice() {
            [Some(key)] => IDENTITIES.iter().find(|(array, _)| array == key).map(|(_, identity)| *identity),
            _ => None,
        };
        // How an element is recognised in the other array: by its identity, or by all of it.
        let ident = |value: &Value| identity.and_then(|key| value.get(key)?.as_str()).map(str::to_owned);
        let name = |value: &Value| ident(value).unwrap_or_else(|| value.to_string());
        let outer = self.ident.take();
        self.path.push(None);
        let mut unmatched: HashMap<String, Vec<&Value>> = HashMap::new();
        for value in new {
            unmatched.entry(name(value)).or_default().push(value);
        }
        for list in unmatched.values_mut() {
            list.reverse();
        }
        let partners: Vec<Option<&Value>> = old.iter().map(|value| unmatched.get_mut(&name(value)).and_then(Vec::pop)).collect();
        for (before, _) in old.iter().zip(&partners).filter(|(_, partner)| partner.is_none()) {
            self.ident = ident(before);
            self.push(Some(before), None);
        }
        for (before, partner) in old.iter().zip(&partners) {
            if let (Some(before), Some(now)) = (before.as_object(), partner.and_then(Value::as_object)) {
                self.ident = ident(&Value::Object(before.clone()));
                self.objects(before, now);
            }
        }
        for now in new {
            let left = unmatched.get_mut(&name(now)).is_some_and(|list| {
                let before = list.len();
                list.retain(|value| !std::ptr::eq(*value, now));
                list.len() < before
            });
            if left {
                self.ident = ident(now);
                self.push(None, Some(now));
            }
        }
        self.path.pop();
        self.ident = outer;
    }
}

/// A path as text: dots between keys, `*` for an element, `[key]` around keys that have a dot or a bracket.
fn pretty(path: &[Option<String>]) -> String {
    let mut text = String::new();
    for part in path {
        match part.as_deref() {
            Some(key) if key.contains(['.', '[', ']']) => {
                text.push('[');
                text.push_str(&key.replace('[', "\\[").replace(']', "\\]"));
                text.push(']');
            }
            part => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(part.unwrap_or("*"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn between(old: Value, new: Value) -> Value {
        let (Value::Object(old), Value::Object(new)) = (old, new) else { panic!("objects") };
        serde_json::to_value(differences(&old, &new)).unwrap()
    }

    /// instances case 64a
    #[test]
    fn the_order_of_a_list_is_no_difference() {
        assert_eq!(between(json!({"resolvers": ["a", "b"]}), json!({"resolvers": ["b", "a"]})), json!([]));
        let twice = between(json!({"resolvers": ["a", "a"]}), json!({"resolvers": ["a"]}));
        assert_eq!(twice[0]["action"], "removed");
        assert_eq!(twice.as_array().unwrap().len(), 1);
    }

    /// instances case 64a
    #[test]
    fn what_a_nic_gains_is_told_of_that_nic() {
        let old = json!({"nics": [{"mac": "02:08:20:00:00:00"}, {"mac": "02:08:20:00:00:01", "ip": "1"}]});
        let new = json!({"nics": [{"mac": "02:08:20:00:00:01", "ip": "1", "mtu": 1400}, {"mac": "02:08:20:00:00:00"}]});
        let expected = json!([{
            "path": ["nics", null, "mtu"], "prettyPath": "nics.*.mtu", "ident": "02:08:20:00:00:01", "action": "added", "newValue": 1400
        }]);
        assert_eq!(between(old, new), expected);
    }

    /// instances case 64a
    #[test]
    fn keys_with_dots_and_brackets_stand_in_brackets() {
        let differences = between(json!({"tags": {"a.b": 1, "c[d]": 1}}), json!({"tags": {"a.b": 2, "c[d]": 2}}));
        assert_eq!(differences[0]["prettyPath"], "tags[a.b]");
        assert_eq!(differences[0]["path"], json!(["tags", "a.b"]));
        assert_eq!(differences[1]["prettyPath"], "tags[c\\[d\\]]");
    }

    /// instances case 64a
    #[test]
    fn an_element_without_identity_that_changes_is_removed_and_added() {
        let differences = between(json!({"snapshots": [{"name": "a", "size": 1}]}), json!({"snapshots": [{"name": "a", "size": 2}]}));
        let expected = json!([
            {"path": ["snapshots", null], "prettyPath": "snapshots.*", "action": "removed", "oldValue": {"name": "a", "size": 1}},
            {"path": ["snapshots", null], "prettyPath": "snapshots.*", "action": "added", "newValue": {"name": "a", "size": 2}},
        ]);
        assert_eq!(differences, expected);
    }

    #[test]
    fn differences_come_in_the_order_of_the_old_keys_and_added_ones_are_last() {
        let old = json!({"z": 1, "tags": {"x": 1}, "gone": [1], "kind": {"a": 1}, "nics": [{"mac": "a", "ip": 1}, {"mac": "b"}]});
        let new = json!({"new": null, "kind": "text", "nics": [{"mac": "c"}, {"mac": "a", "ip": 2}], "tags": {"y": 1}, "z": 2});
        let told = between(old, new);
        let told: Vec<String> =
            told.as_array().unwrap().iter().map(|d| format!("{} {}", d["prettyPath"], d["action"]).replace('"', "")).collect();
        assert_eq!(
            told,
            [
                "z changed",
                "tags.x removed",
                "tags.y added",
                "gone removed",
                "kind changed",
                "nics.* removed",
                "nics.*.ip changed",
                "nics.* added",
                "new added"
            ]
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(Value::from), "[ab]{0,2}".prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let object = prop::collection::btree_map("mac|path|nics|[a-c]", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Equal up to the order of arrays' elements.
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(list) => {
                let mut list: Vec<Value> = list.iter().map(sorted).collect();
                list.sort_by_key(ToString::to_string);
                Value::Array(list)
            }
            Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect()),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn equal_objects_and_only_those_have_no_difference(old in value(), new in value()) {
            if let (Value::Object(a), Value::Object(b)) = (&old, &new) {
                prop_assert_eq!(differences(a, a), vec![]);
                if sorted(&old) != sorted(&new) {
                    prop_assert!(!differences(a, b).is_empty());
                }
            }
        }
    }
}
