//! Docker conventions (instances.md section 2.7, ruling 60): instances of images of type `docker` run a process instead of an init.
//!
//! What is run stands in `internal_metadata`, under the keys that Docker instances of Triton have: `docker:entrypoint`, `docker:cmd`,
//! `docker:env` (each a JSON array as text), `docker:user`, `docker:workdir`, `docker:stopsignal`, `docker:id`. Keys that a payload
//! gives win over the image's.

use serde_json::{Value, json};
use triton_types::{ImageType, ImageUuid, JsonMap, VmConfig};

use crate::{ImageStatus, PayloadError, World, value};

/// Namespace of metadata that a guest may read and not write.
const NAMESPACE: &str = "docker";

/// Which key says what a field of the image's configuration says.
const KEYS: [(&str, &str); 6] = [
    ("Entrypoint", "docker:entrypoint"),
    ("Cmd", "docker:cmd"),
    ("Env", "docker:env"),
    ("User", "docker:user"),
    ("WorkingDir", "docker:workdir"),
    ("StopSignal", "docker:stopsignal"),
];

/// Refuses `docker: true` for images that have no process, and images of which nothing can be run. Returns the process of an image that has
/// one.
pub(crate) fn process_of(payload: &JsonMap, world: &dyn World) -> Result<Option<JsonMap>, PayloadError> {
    let image = payload.get("image_uuid").and_then(Value::as_str).and_then(|text| text.parse::<ImageUuid>().ok());
    let is_docker = |image: &ImageUuid| world.image(image) == ImageStatus::Installed(ImageType::Docker);
    match image.filter(is_docker) {
        Some(image) => world.image_process(&image).map(Some).ok_or(PayloadError::ImageLayer(image)),
        None if is_true(payload) => Err(PayloadError::Docker),
        None => Ok(None),
    }
}

/// Whether an instance runs a process is its image's matter: an update cannot change it.
pub(crate) fn check_update(payload: &JsonMap, existing: &VmConfig) -> Result<(), PayloadError> {
    match payload.get("docker").map(value::boolean) {
        Some(Ok(docker)) if docker != existing.docker => Err(PayloadError::Docker),
        _ => Ok(()),
    }
}

fn is_true(payload: &JsonMap) -> bool {
    matches!(payload.get("docker").map(value::boolean), Some(Ok(true)))
}

/// The metadata that an image's process is.
fn metadata(process: &JsonMap) -> impl Iterator<Item = (&'static str, Value)> {
    KEYS.iter().filter_map(|(field, key)| match process.get(*field) {
        Some(Value::String(text)) => Some((*key, json!(text))),
        Some(list @ Value::Array(_)) => Some((*key, json!(list.to_string()))),
        _ => None,
    })
}

/// Completes a new instance's configuration with its image's process.
pub(crate) fn complete(config: &mut VmConfig, process: &JsonMap) {
    config.docker = true;
    config.restart_init = false;
    if !config.internal_metadata_namespaces.iter().any(|namespace| namespace == NAMESPACE) {
        config.internal_metadata_namespaces.push(NAMESPACE.to_owned());
    }
    let given = &mut config.internal_metadata;
    // Another entrypoint has other arguments.
    let own_entrypoint = given.contains_key("docker:entrypoint");
    for (key, value) in metadata(process) {
        let value = match (key, given.get(key)) {
            ("docker:env", Some(own)) => merged(&value, own),
            ("docker:cmd", None) if own_entrypoint => continue,
            (_, Some(_)) => continue,
            (_, None) => value,
        };
        given.insert(key.to_owned(), value);
    }
    if !given.contains_key("docker:id") {
        let plain = |uuid: String| uuid.replace('-', "");
        let id = format!("{}{}", plain(config.uuid.to_string()), plain(triton_types::InstanceUuid::random().to_string()));
        given.insert("docker:id".to_owned(), json!(id));
    }
}

/// Gives an instance the process of another image: what it had from the old one is replaced, what it was given itself stays.
pub fn renew(config: &mut VmConfig, old: &JsonMap, new: &JsonMap) {
    for (key, value) in metadata(old) {
        if config.internal_metadata.get(key) == Some(&value) {
            config.internal_metadata.remove(key);
        }
    }
    complete(config, new);
}

/// The image's variables, and over them the payload's.
fn merged(image: &Value, own: &Value) -> Value {
    let list = |value: &Value| -> Vec<String> { value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default() };
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let own = list(own);
    let mut all: Vec<String> = list(image).into_iter().filter(|variable| !own.iter().any(|other| name(other) == name(variable))).collect();
    all.extend(own);
    json!(json!(all).to_string())
}

#[cfg(test)]
mod tests {
    use triton_types::InstanceUuid;

    use super::*;
    use crate::testing::object;

    fn process() -> JsonMap {
        object(json!({"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=1", "B=2"], "User": "web", "Labels": {"x": "y"}}))
    }

    fn completed(given: Value) -> JsonMap {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.internal_metadata = object(given);
        complete(&mut config, &process());
        assert!(config.docker && !config.restart_init);
        assert_eq!(config.internal_metadata_namespaces, ["docker"]);
        config.internal_metadata
    }

    #[test]
    fn an_instance_has_its_images_process_under_dockers_keys() {
        let made = completed(json!({}));
        assert_eq!((&made["docker:entrypoint"], &made["docker:cmd"]), (&json!("[\"/e\"]"), &json!("[\"c\"]")));
        assert_eq!((&made["docker:user"], made.get("docker:workdir")), (&json!("web"), None));
        assert_eq!(made["docker:id"].as_str().unwrap().len(), 64);
        assert!(made["docker:id"].as_str().unwrap().starts_with(&"0".repeat(32)));
    }

    #[test]
    fn what_a_payload_gives_wins() {
        let made = completed(json!({"docker:entrypoint": "[\"/own\"]", "docker:env": "[\"B=3\",\"C=4\"]", "docker:id": "i"}));
        assert_eq!((&made["docker:entrypoint"], made.get("docker:cmd")), (&json!("[\"/own\"]"), None));
        assert_eq!((&made["docker:env"], &made["docker:id"]), (&json!("[\"A=1\",\"B=3\",\"C=4\"]"), &json!("i")));
    }

    #[test]
    fn another_image_replaces_only_what_came_from_the_old_one() {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.internal_metadata = object(json!({"docker:user": "me"}));
        complete(&mut config, &process());
        let id = config.internal_metadata["docker:id"].clone();
        renew(&mut config, &process(), &object(json!({"Cmd": ["new"], "User": "other"})));
        let made = &config.internal_metadata;
        assert_eq!((&made["docker:cmd"], made.get("docker:entrypoint"), &made["docker:user"]), (&json!("[\"new\"]"), None, &json!("me")));
        assert_eq!(made["docker:id"], id);
    }
}
