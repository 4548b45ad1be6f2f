//! The VM of metadata.md section 12.

use triton_types::JsonMap;

pub(crate) fn vm() -> JsonMap {
    serde_json::from_str(include_str!("fixture.json")).unwrap()
}
