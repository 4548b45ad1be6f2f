//! JSON objects that are kept in large numbers.

use std::fmt;

use serde::{Serialize, ser::Error};
use serde_json::value::{RawValue, to_raw_value};

use crate::JsonMap;

/// A JSON object, kept as its text: a fifth of the memory that [`JsonMap`] needs for it, and a few microseconds for each look at it.
/// For what is kept of each of thousands of instances (design section 11).
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Packed(Box<RawValue>);

impl Packed {
    /// What is written as an object.
    ///
    /// # Errors
    /// When it has no text (a map with keys that are no strings), or is no object.
    pub fn of(object: &impl Serialize) -> Result<Self, serde_json::Error> {
        let text = to_raw_value(object)?;
        if text.get().starts_with('{') { Ok(Self(text)) } else { Err(serde_json::Error::custom("it is no JSON object")) }
    }

    /// The object.
    pub fn unpack(&self) -> JsonMap {
        // It is the text of a map.
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }
}

impl From<&JsonMap> for Packed {
    fn from(map: &JsonMap) -> Self {
        // Keys are texts and values are JSON already: there is nothing that has no text.
        Self(to_raw_value(map).unwrap_or_default())
    }
}

impl PartialEq for Packed {
    /// As maps are: in whatever order.
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get() || self.0.get().len() == other.0.get().len() && self.unpack() == other.unpack()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_object_is_the_same_afterwards_and_its_order_means_nothing() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let all = map(
            json!({"a": [1, -2, 1.5, u64::MAX, {"b": null}], "text": "\u{0}\"\\\u{e9}\u{1f600}", "empty": {}, "": true, "1e400": "1e400"}),
        );
        assert_eq!(Packed::from(&all).unpack(), all);
        assert_eq!(Packed::from(&JsonMap::new()).unpack(), JsonMap::new());
        let (ab, ba) = (map(json!({"a": 1, "b": 2})), map(json!({"b": 2, "a": 1})));
        assert_eq!(Packed::from(&ab), Packed::from(&ba));
        assert_ne!(Packed::from(&ab), Packed::from(&map(json!({"a": 2, "b": 1}))));
        assert_eq!(serde_json::to_string(&[Packed::from(&ab)]).unwrap(), r#"[{"a":1,"b":2}]"#, "written as it is");
        for (wrong, why) in [(Packed::of(&[1]), "no JSON object"), (Packed::of(&std::collections::BTreeMap::from([(Some([1]), 1)])), "key")]
        {
            assert!(wrong.unwrap_err().to_string().contains(why));
        }
        assert_eq!(Packed::from(&ba).unpack().keys().collect::<Vec<_>>(), ["b", "a"], "kept as it came");
    }
}
