//! `machine_migrate`: the steps by which VMAPI moves a stopped instance to another node (cn-agent.md section 3.12, ruling 61).
//!
//! Both ends answer with a port at which VMAPI, or the other end, gives commands as lines of JSON (`migrate_wire`). What is
//! moved is the stream of `vmadm send` or, where both nodes have ZFS, the datasets with their snapshots, and at each later synchronisation
//! only what has changed. The copy is hidden (`do_not_inventory`) and does not start by itself until VMAPI has switched.
//! A live state is not moved: that is refused by name before anything is done.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use triton_types::{InstanceUuid, JsonMap};

use super::{Model, docker::offer, migrate_wire, prefixed};
use crate::{MachineError, TaskContext, TaskError};

/// Ends of migrations that are open, by instance: one each.
#[derive(Clone, Debug, Default)]
pub(super) struct Migrations(Arc<Mutex<HashMap<InstanceUuid, CancellationToken>>>);

impl Migrations {
    /// Begins one; an earlier one of the same instance ends.
    fn begin(&self, uuid: InstanceUuid) -> CancellationToken {
        let token = CancellationToken::new();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, token| !token.is_cancelled());
        if let Some(earlier) = open.insert(uuid, token.clone()) {
            earlier.cancel();
        }
        token
    }

    /// Ends that of an instance; that there is none is success.
    fn end(&self, uuid: InstanceUuid) {
        if let Some(token) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&uuid) {
            token.cancel();
        }
    }
}

/// The instance that is moved, wherever the caller has written it.
fn instance(context: &TaskContext) -> Result<InstanceUuid, TaskError> {
    let params = context.params.as_map();
    let record = params.get("migrationTask").and_then(|task| task.get("record"));
    let within = |value: Option<&Value>, key: &str| value.and_then(|value| value.get(key)?.as_str().map(str::to_owned));
    let own = |key: &str| context.params.text(key).map(str::to_owned);
    let text = own("vm_uuid").or_else(|| within(params.get("vm"), "uuid")).or_else(|| within(record, "vm_uuid")).or_else(|| own("uuid"));
    let text = text.ok_or_else(|| TaskError::failed("machine_migrate: the parameter vm_uuid is missing"))?;
    if let Some(target) = within(record, "target_vm_uuid").filter(|target| *target != text) {
        return Err(TaskError::failed(format!(
            "machine_migrate: a copy with another uuid ({target}) is not available on Linux compute nodes"
        )));
    }
    text.parse().map_err(|error| TaskError::failed(format!("machine_migrate: vm_uuid {text:?}: {error}")))
}

fn failed(action: &str, error: &MachineError) -> TaskError {
    prefixed(&format!("machine_migrate {action} error"), error)
}

/// Does one step.
pub(super) async fn machine_migrate(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let action = context.params.text("action").unwrap_or_default().to_owned();
    match action.as_str() {
        "receive" => receive(model, context).await,
        "sync" => sync(model, context).await,
        "kill_migration_process" => {
            model.migrations.end(instance(&context)?);
            Ok(json!({}))
        }
        "estimate" => {
            let uuid = instance(&context)?;
            let used = model.read(&context, move |model| model.machines.used(uuid)).await?;
            Ok(json!({"size": used.map_err(|error| failed("estimate", &error))?}))
        }
        "get-filesystem-details" => {
            let vm = load(&model, &context).await?;
            let quota = vm["quota"].as_f64().filter(|gib| *gib > 0.0).map_or_else(|| "none".to_owned(), |gib| format!("{gib}G"));
            Ok(json!({"quotaStr": quota, "reservationStr": "none"}))
        }
        "setup-filesystem" => {
            let uuid = instance(&context)?;
            let mounted = model.change(&context, move |model| model.machines.place(uuid).map(drop)).await?;
            mounted.map(|()| json!({})).map_err(|error| failed("setup-filesystem", &error))
        }
        "set-do-not-inventory" => set(&model, &context, "do_not_inventory").await,
        "set-autoboot" => set(&model, &context, "autoboot").await,
        "set-indestructible-zoneroot" => set(&model, &context, "indestructible_zoneroot").await,
        // The stream carries the time of creation, and its taker puts quotas out of its way.
        "set-create-timestamp" | "remove-zfs-quota" | "restore-zfs-quota" => load(&model, &context).await.map(|_| json!({})),
        "remove-sync-snapshots" => {
            let uuid = instance(&context)?;
            let removed = model.change(&context, move |model| model.machines.forget_marks(uuid, 0)).await?;
            removed.map(|()| json!({})).map_err(|error| failed("remove-sync-snapshots", &error))
        }
        "set-indestructible-delegated" => set(&model, &context, "indestructible_delegated").await,
        other => Err(TaskError::failed(format!("Unexpected payload.action: {other}"))),
    }
}

async fn load(model: &Model, context: &TaskContext) -> Result<Value, TaskError> {
    let uuid = instance(context)?;
    let loaded = model.read(context, move |model| model.machines.load(uuid, true)).await?;
    loaded.map_err(|error| prefixed("vmadm.load error", &error))
}

/// Sets one property to `true` or `false`, which come as text.
async fn set(model: &Model, context: &TaskContext, property: &'static str) -> Result<Value, TaskError> {
    let uuid = instance(context)?;
    let value = match context.params.text("value") {
        Some("true") => true,
        Some("false") => false,
        other => return Err(TaskError::failed(format!("machine_migrate: value {other:?} is neither \"true\" nor \"false\""))),
    };
    let update: JsonMap = [(property.to_owned(), Value::Bool(value))].into_iter().collect();
    let changed = model.change(context, move |model| model.machines.update(uuid, update)).await?;
    changed.map(|()| json!({})).map_err(|error| prefixed("vmadm.update error", &error))
}

/// Refuses an instance that is not stopped: its memory and open connections would not come along.
pub(super) fn check_stopped(vm: &Value) -> Result<(), String> {
    match vm["state"].as_str() {
        Some("stopped") => Ok(()),
        state => Err(format!(
            "live migration is not available on Linux compute nodes: instance {} is {}; stop it first",
            vm["uuid"].as_str().unwrap_or_default(),
            state.unwrap_or("in an unknown state"),
        )),
    }
}

fn set_up(mut reply: Value) -> Value {
    reply["event"] = "setup completed".into();
    reply["pid"] = std::process::id().into();
    reply
}

/// Opens the source's end.
async fn sync(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid = instance(&context)?;
    let vm = load(&model, &context).await?;
    check_stopped(&vm).map_err(|error| TaskError::failed(format!("machine_migrate: {error}")))?;
    let (token, own) = (model.migrations.begin(uuid), model.clone());
    let opened = offer(&model, move |stream| async move {
        migrate_wire::until(token, migrate_wire::source(own, uuid, stream)).await;
    });
    opened.await.map(set_up)
}

/// Opens the target's end.
pub(super) async fn receive(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid = instance(&context)?;
    let (token, own) = (model.migrations.begin(uuid), model.clone());
    let opened = offer(&model, move |stream| async move {
        migrate_wire::until(token, migrate_wire::target(own, uuid, stream)).await;
    });
    opened.await.map(set_up)
}
