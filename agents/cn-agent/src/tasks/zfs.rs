//! Datasets and pools, as `zfs` and `zpool` show and change them (cn-agent.md section 3.14).
//!
//! CNAPI marks these tasks deprecated and still serves them. Names go to the commands as single words that cannot be options.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::Model;
use crate::{TaskContext, TaskError};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Columns of `zfs_list_datasets` and `zfs_list_snapshots`.
const DATASET: [&str; 6] = ["name", "used", "avail", "refer", "type", "mountpoint"];
/// Columns of `zfs_list_pools`.
const POOL: [&str; 7] = ["name", "size", "allocated", "free", "cap", "health", "altroot"];

/// A command line and what is said when it fails.
struct Call {
    program: &'static str,
    words: Vec<String>,
    failure: String,
}

fn call(program: &'static str, words: &[&str], failure: impl Into<String>) -> Call {
    Call { program, words: words.iter().map(|word| (*word).to_owned()).collect(), failure: failure.into() }
}

impl Call {
    async fn run(self, model: &Model, context: &TaskContext) -> Result<String, TaskError> {
        let path: PathBuf = model.layout.at("/sbin").join(self.program);
        let line = format!("/sbin/{} {}", self.program, self.words.join(" "));
        let fail = |reason: String| TaskError::failed(format!("{}: Command failed: {line}\n{reason}", self.failure));
        let mut command = Command::new(&path);
        command.args(&self.words).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::select! {
            output = tokio::time::timeout(PATIENCE, command.output()) => output,
            () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
        };
        let output =
            output.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| fail(format!("{}: {error}", path.display())))?;
        if !output.status.success() {
            return Err(fail(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A parameter that names a dataset or snapshot.
fn name<'a>(context: &'a TaskContext, key: &str) -> Result<&'a str, TaskError> {
    let text = context.params.text(key).ok_or_else(|| TaskError::failed(format!("Required '{key}' param not found")))?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.: @%".contains(&byte);
    if text.starts_with('-') || text.len() > 255 || !text.bytes().all(legal) {
        return Err(TaskError::failed(format!("Invalid '{key}' param: {text:?} names no dataset")));
    }
    Ok(text)
}

async fn change(model: &Model, context: &TaskContext, call: Call) -> Result<Value, TaskError> {
    call.run(model, context).await.map(|_| json!({}))
}

pub(super) async fn zfs_create_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = name(&context, "dataset")?;
    change(&model, &context, call("zfs", &["create", dataset], format!("failed to create ZFS dataset \"{dataset}\""))).await
}

pub(super) async fn zfs_destroy_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = name(&context, "dataset")?;
    change(&model, &context, call("zfs", &["destroy", dataset], format!("failed to destroy ZFS dataset \"{dataset}\""))).await
}

pub(super) async fn zfs_rename_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let (dataset, new) = (name(&context, "dataset")?, name(&context, "newname")?);
    let failure = format!("failed to rename ZFS dataset \"{dataset}\" to \"{new}\"");
    change(&model, &context, call("zfs", &["rename", dataset, new], failure)).await
}

pub(super) async fn zfs_snapshot_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = name(&context, "dataset")?;
    change(&model, &context, call("zfs", &["snapshot", dataset], format!("failed to snapshot ZFS dataset \"{dataset}\""))).await
}

pub(super) async fn zfs_rollback_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = name(&context, "dataset")?;
    change(&model, &context, call("zfs", &["rollback", "-r", dataset], format!("failed to rollback ZFS dataset \"{dataset}\""))).await
}

pub(super) async fn zfs_clone_dataset(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let (snapshot, dataset) = (name(&context, "snapshot")?, name(&context, "dataset")?);
    let failure = format!("failed to clone ZFS snapshot \"{snapshot}\" into dataset \"{dataset}\"");
    change(&model, &context, call("zfs", &["clone", snapshot, dataset], failure)).await
}

/// Sets one property after the other, the last one first, as upstream does.
pub(super) async fn zfs_set_properties(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = name(&context, "dataset")?;
    let properties = context.params.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in properties.iter().rev() {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let failure = format!("failed to set ZFS properties for dataset \"{dataset}\"");
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
        if key.is_empty() || key.starts_with('-') || !key.bytes().all(legal) {
            return Err(TaskError::failed(format!("{failure}: {key:?} names no property")));
        }
        call("zfs", &["set", &format!("{key}={value}"), dataset], failure).run(&model, &context).await?;
    }
    Ok(json!({}))
}

/// `{"<dataset>":{"<property>":"<value>"}}`, of one dataset or of all.
pub(super) async fn zfs_get_properties(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = context.params.get("dataset").map(|_| name(&context, "dataset")).transpose()?;
    let asked: Vec<&str> =
        context.params.get("properties").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = if asked.is_empty() { "all".to_owned() } else { asked.join(",") };
    let failure = format!("failed to get ZFS properties for dataset \"{}\"", dataset.unwrap_or("undefined"));
    if properties.starts_with('-') {
        return Err(TaskError::failed(format!("{failure}: {properties:?} names no property")));
    }
    let mut words = vec!["get", "-Hp", "-o", "name,property,value", &properties];
    words.extend(dataset);
    let text = call("zfs", &words, failure).run(&model, &context).await?;
    let mut all: Map<String, Value> = Map::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(dataset), Some(property), Some(value)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let Value::Object(of_dataset) = all.entry(dataset).or_insert_with(|| json!({})) {
            of_dataset.insert(property.to_owned(), value.into());
        }
    }
    Ok(Value::Object(all))
}

fn table(text: &str, columns: &[&str]) -> Value {
    let row = |line: &str| {
        columns.iter().zip(line.split('\t')).map(|(column, field)| ((*column).to_owned(), Value::from(field))).collect::<Map<_, _>>()
    };
    text.lines().filter(|line| !line.is_empty()).map(row).collect()
}

pub(super) async fn zfs_list_datasets(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let columns = DATASET.join(",");
    let text = call("zfs", &["list", "-H", "-o", &columns, "-t", "all"], "failed to list ZFS datasets").run(&model, &context).await?;
    Ok(table(&text, &DATASET))
}

pub(super) async fn zfs_list_snapshots(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let dataset = context.params.get("dataset").map(|_| name(&context, "dataset")).transpose()?;
    let columns = DATASET.join(",");
    let mut words = vec!["list", "-H", "-o", &columns, "-t", "snapshot"];
    words.extend(dataset.into_iter().flat_map(|dataset| ["-r", dataset]));
    let text = call("zfs", &words, "failed to list ZFS datasets").run(&model, &context).await?;
    Ok(table(&text, &DATASET))
}

pub(super) async fn zfs_list_pools(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let columns = POOL.join(",");
    let text = call("zpool", &["list", "-H", "-o", &columns], "failed to list ZFS pools").run(&model, &context).await?;
    Ok(table(&text, &POOL))
}
