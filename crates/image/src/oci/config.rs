//! The configuration of an OCI image: what it is for, which layers it has, and how its process is to be run.

use serde::Deserialize;
use serde_json::{Value, json};
use triton_types::JsonMap;

use super::blob::Digest;

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub created: Option<String>,
    #[serde(default)]
    pub config: Option<ProcessConfig>,
    pub rootfs: RootFs,
}

/// The layers, uncompressed, base first.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// How the image's process is run. Lists may be `null` in what some tools write.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ProcessConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<JsonMap>,
    volumes: Option<JsonMap>,
    labels: Option<JsonMap>,
}

impl ProcessConfig {
    /// As manifests of Docker images have it.
    pub(super) fn to_json(&self) -> Value {
        let mut map = JsonMap::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        put("Entrypoint", self.entrypoint.as_ref().map(|words| json!(words)));
        put("Cmd", self.cmd.as_ref().map(|words| json!(words)));
        put("Env", self.env.as_ref().map(|words| json!(words)));
        put("User", self.user.as_ref().filter(|text| !text.is_empty()).map(|text| json!(text)));
        put("WorkingDir", self.working_dir.as_ref().filter(|text| !text.is_empty()).map(|text| json!(text)));
        put("StopSignal", self.stop_signal.as_ref().filter(|text| !text.is_empty()).map(|text| json!(text)));
        put("ExposedPorts", self.exposed_ports.clone().map(Value::Object));
        put("Volumes", self.volumes.clone().map(Value::Object));
        put("Labels", self.labels.clone().map(Value::Object));
        Value::Object(map)
    }
}
