//! The manifest of an image that is made from an instance (instances.md section 8.9).

use serde_json::{Value, json};
use triton_types::{ImageUuid, JsonMap, Timestamp};

use crate::ImageError;

/// What an image has of the one that its instance was made from.
const INHERITED: [&str; 11] = [
    "os",
    "requirements",
    "users",
    "billing_tags",
    "traits",
    "generate_passwords",
    "inherited_directories",
    "nic_driver",
    "disk_driver",
    "cpu_type",
    "image_size",
];
/// The owner of an image whose maker names none.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// The identity that was given, or a new one.
pub(super) fn uuid(given: &JsonMap) -> Result<ImageUuid, ImageError> {
    match given.get("uuid") {
        None => Ok(ImageUuid::random()),
        Some(uuid) => uuid.as_str().unwrap_or_default().parse().map_err(|_| ImageError::manifest("uuid", format!("{uuid} is not a uuid"))),
    }
}

/// Everything but `files` and `origin`. Whatever the origin's type, the file is one of type `lx-dataset`: `root/` of a dataset.
pub(super) fn compose(uuid: ImageUuid, origin: Option<&JsonMap>, given: &JsonMap, brand: &str) -> JsonMap {
    let mut made = JsonMap::new();
    made.insert("v".to_owned(), json!(2));
    made.insert("uuid".to_owned(), json!(uuid));
    made.insert("owner".to_owned(), json!(NOBODY));
    for key in ["name", "version", "description"] {
        if let Some(value) = given.get(key) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    made.insert("state".to_owned(), json!("active"));
    made.insert("disabled".to_owned(), json!(false));
    made.insert("public".to_owned(), json!(false));
    made.insert("published_at".to_owned(), json!(Timestamp::now()));
    made.insert("type".to_owned(), json!("lx-dataset"));
    made.insert("os".to_owned(), json!("linux"));
    for key in INHERITED {
        if let Some(value) = origin.and_then(|origin| origin.get(key)) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    if brand == "lx" {
        let requirements = made.entry("requirements").or_insert_with(|| json!({}));
        if let Value::Object(requirements) = requirements {
            requirements.entry("brand").or_insert_with(|| json!("lx"));
        }
    }
    for (key, value) in given.iter().filter(|(key, _)| *key != "uuid" && *key != "files" && *key != "v") {
        made.insert(key.clone(), value.clone());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("an object") };
        map
    }

    /// instances section 8.9
    #[test]
    fn an_image_inherits_what_its_users_need_and_nothing_that_was_its_origins_own() {
        let origin = object(json!({
            "v": 2, "uuid": "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10", "name": "base", "version": "1", "type": "lxd", "os": "linux",
            "owner": "930896af-bf8c-48d4-885c-6573a94b1853", "public": true, "description": "of the origin", "origin": "x", "icon": true,
            "requirements": {"min_ram": 512}, "users": [{"name": "root"}], "files": [{"size": 1}], "tags": {"a": 1}
        }));
        let uuid = ImageUuid::random();
        let made = compose(uuid, Some(&origin), &object(json!({"name": "mine", "version": "2", "tags": {"mine": true}})), "lx");
        assert_eq!(made["uuid"], json!(uuid));
        assert_eq!((&made["name"], &made["type"], &made["os"]), (&json!("mine"), &json!("lx-dataset"), &json!("linux")));
        assert_eq!(made["requirements"], json!({"min_ram": 512, "brand": "lx"}));
        assert_eq!((&made["users"], &made["tags"]), (&json!([{"name": "root"}]), &json!({"mine": true})));
        assert_eq!((&made["owner"], &made["public"]), (&json!(NOBODY), &json!(false)));
        for key in ["files", "origin", "icon", "description"] {
            assert_eq!(made.get(key), None, "{key}");
        }
    }

    #[test]
    fn what_is_given_wins_and_a_brand_that_is_given_stays() {
        let given = object(json!({"requirements": {"brand": "joyent"}, "os": "smartos", "files": [1], "v": 7}));
        let made = compose(ImageUuid::random(), None, &given, "lx");
        assert_eq!((&made["requirements"], &made["os"], &made["v"]), (&json!({"brand": "joyent"}), &json!("smartos"), &json!(2)));
        assert_eq!(made.get("files"), None);
        assert!(uuid(&object(json!({"uuid": "x"}))).is_err());
    }
}
