//! The types of properties (instances.md section 2.1): what counts as a boolean, an integer, a list.
//!
//! Each function reads one JSON value. Blank texts and null mean "unset" where the type allows that.

use serde_json::{Number, Value};
use triton_types::JsonMap;

use crate::limits;

/// A value that is not of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad;

/// A value that means "unset" for text, integers and lists.
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// `true`, `"true"`, `1`, `"1"` and their opposites.
pub(crate) fn boolean(value: &Value) -> Result<bool, Bad> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Bad),
        },
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Ok(true),
            Some(0.0) => Ok(false),
            _ => Err(Bad),
        },
        _ => Err(Bad),
    }
}

/// Text; `None` when blank.
pub(crate) fn text(value: &Value) -> Result<Option<&str>, Bad> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok((!text.trim().is_empty()).then_some(text.as_str())),
        _ => Err(Bad),
    }
}

/// A number or a text of digits, from `min` to `max`; `None` when blank.
pub(crate) fn integer(value: &Value, min: u64, max: u64) -> Result<Option<u64>, Bad> {
    if is_blank(value) {
        return Ok(None);
    }
    let number = match value {
        Value::Number(number) => match number.as_u64() {
            Some(number) => number,
            // A JSON number such as 300.0 is the integer 300.
            None => match number.as_f64() {
                Some(float) if float.fract() == 0.0 && (0.0..=limits::INTEGER as f64).contains(&float) => float as u64,
                _ => return Err(Bad),
            },
        },
        Value::String(text) => {
            let digits = text.trim();
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Bad);
            }
            digits.parse().map_err(|_| Bad)?
        }
        _ => return Err(Bad),
    };
    if number > limits::INTEGER || number < min || number > max { Err(Bad) } else { Ok(Some(number)) }
}

/// A quota: an integer, or a decimal that is not negative, kept as it was given (section 2.10); `None` when blank.
pub(crate) fn quota(value: &Value) -> Result<Option<Number>, Bad> {
    if let Ok(whole) = integer(value, 0, limits::INTEGER) {
        return Ok(whole.map(Number::from));
    }
    let decimal = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b' ') => text.trim().parse().ok(),
        _ => None,
    };
    match decimal {
        Some(gib) if (0.0..=limits::INTEGER as f64).contains(&gib) => Number::from_f64(gib).map(Some).ok_or(Bad),
        _ => Err(Bad),
    }
}

/// An array of texts and numbers, or one comma-separated text. Blank items are dropped. Null is the empty list.
pub(crate) fn list(value: &Value) -> Result<Vec<String>, Bad> {
    let keep = |item: &str| (!item.trim().is_empty()).then(|| item.trim().to_owned());
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(text.split(',').filter_map(keep).collect()),
        Value::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Value::String(text) if text.contains(',') => return Err(Bad),
                    Value::String(text) => list.extend(keep(text)),
                    Value::Number(number) => list.push(number.to_string()),
                    _ => return Err(Bad),
                }
            }
            Ok(list)
        }
        _ => Err(Bad),
    }
}

/// An object of texts, numbers and booleans.
pub(crate) fn flat_object(value: &Value) -> Result<&JsonMap, Bad> {
    match value {
        Value::Object(map) if map.values().all(|v| matches!(v, Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(map),
        _ => Err(Bad),
    }
}

/// The text form that filters and tables use: as JavaScript would print a scalar.
pub(crate) fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// instances case 5
    #[test]
    fn booleans_have_a_few_spellings_and_no_others() {
        for (value, flag) in [(json!(true), true), (json!("true"), true), (json!(1), true), (json!("1"), true), (json!("0"), false)] {
            assert_eq!(boolean(&value), Ok(flag), "{value}");
        }
        for value in [json!("aardvark"), json!(2), json!(null), json!(""), json!([]), json!("TRUE")] {
            assert_eq!(boolean(&value), Err(Bad), "{value}");
        }
    }

    /// instances case 23
    #[test]
    fn integers_have_no_fraction_no_unit_and_fit_a_javascript_number() {
        let any = |value: &Value| integer(value, 0, limits::INTEGER);
        assert_eq!(any(&json!("300")), Ok(Some(300)));
        assert_eq!(any(&json!(300.0)), Ok(Some(300)));
        assert_eq!(any(&json!("")), Ok(None));
        assert_eq!(any(&json!(null)), Ok(None));
        let too_big = json!(9_007_199_254_740_992_u64);
        for value in [json!(3.25), json!("1x"), too_big, json!(-1), json!("-1"), json!(true), json!([1]), json!({}), json!("3.5")] {
            assert_eq!(any(&value), Err(Bad), "{value}");
        }
        assert_eq!(integer(&json!(255), 256, 1000), Err(Bad));
    }

    #[test]
    fn only_a_quota_may_have_a_fraction() {
        assert_eq!(quota(&json!(0.5)), Ok(Number::from_f64(0.5)));
        assert_eq!(quota(&json!("12.2")), Ok(Number::from_f64(12.2)));
        assert_eq!(quota(&json!("13")), Ok(Some(13.into())));
        assert_eq!(quota(&json!("")), Ok(None));
        for value in [json!(-0.5), json!("nan"), json!("1.2.3"), json!(1e300), json!(true)] {
            assert_eq!(quota(&value), Err(Bad), "{value}");
        }
    }

    /// instances case 10
    #[test]
    fn a_list_is_an_array_or_a_comma_separated_text() {
        let two = Ok(vec!["ufs".to_owned(), "tmpfs".to_owned()]);
        assert_eq!(list(&json!("ufs,tmpfs")), two);
        assert_eq!(list(&json!(["ufs", "tmpfs"])), two);
        assert_eq!(list(&json!(",ufs,,tmpfs,")), two);
        assert_eq!(list(&json!(["ufs,tmpfs"])), Err(Bad));
        assert_eq!(list(&json!({})), Err(Bad));
        assert_eq!(list(&json!([["ufs"]])), Err(Bad));
    }
}
