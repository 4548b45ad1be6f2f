//! What each verb does.

mod all;
mod change;
mod events;
mod query;
mod transfer;

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::Value;
use triton_files::Layout;
use triton_instance::{InstanceError, Instances, StopOptions, to_json};

use super::{Failure, args::Verb, input, say};

/// Runs `verb` on the node below `layout`.
pub(super) fn run(layout: &Layout, verb: Verb) -> Result<(), Failure> {
    let instances = Instances::open(layout)?;
    match verb {
        Verb::Create(source) => {
            let payload = input::payload(&source, "create")?;
            let uuid = instances.create(payload)?;
            say(&format!("Successfully created VM {uuid}"));
        }
        Verb::Delete(target) => {
            let uuid = target.uuid;
            instances
                .delete(uuid)
                .map_err(|error| Failure::Failed(format!("Failed to delete VM {uuid}: {}", triton_instance::chain(&error))))?;
            say(&format!("Successfully deleted VM {uuid}"));
        }
        Verb::Start(target) => {
            instances.start(target.uuid).map_err(told_if_done)?;
            say(&format!("Successfully started VM {}", target.uuid));
        }
        Verb::Stop(stop) => {
            let options = StopOptions { force: stop.force, timeout: stop.timeout.map(Duration::from_secs) };
            instances.stop(stop.uuid, options).map_err(told_if_done)?;
            say(&format!("Successfully completed stop for VM {}", stop.uuid));
        }
        Verb::Reboot(reboot) => {
            instances.reboot(reboot.uuid, reboot.force)?;
            say(&format!("Successfully completed reboot for VM {}", reboot.uuid));
        }
        Verb::Kill(kill) => {
            let name = instances.kill(kill.uuid, &kill.signal)?;
            say(&format!("Sent signal \"{name}\" to init process for VM {}", kill.uuid));
        }
        Verb::Update(arguments) => change::update(&instances, &arguments)?,
        Verb::Reprovision(arguments) => change::reprovision(&instances, &arguments)?,
        Verb::CreateSnapshot(target) => change::create_snapshot(&instances, &target)?,
        Verb::RollbackSnapshot(target) => change::rollback_snapshot(&instances, &target)?,
        Verb::DeleteSnapshot(target) => change::delete_snapshot(&instances, &target)?,
        Verb::Get(target) => {
            instances.adopt_if_orphaned(target.uuid);
            print_json(&Value::Object(to_json(&instances.load(target.uuid)?)))?;
        }
        Verb::Info(info) => {
            let types: Vec<&str> = info.types.as_deref().unwrap_or("all").split(',').collect();
            print_json(&instances.info(info.uuid, &types)?)?;
        }
        Verb::List(arguments) => query::list(&instances, arguments)?,
        Verb::Lookup(arguments) => query::lookup(&instances, &arguments)?,
        Verb::Events(arguments) => events::events(&instances, &arguments)?,
        Verb::Validate(arguments) => query::validate_payload(&instances, &arguments)?,
        Verb::Console(target) => query::console(&instances, layout, target.uuid)?,
        Verb::Send(target) => transfer::send(&instances, target.uuid)?,
        Verb::Receive(source) => transfer::receive(&instances, &source)?,
        Verb::Sysrq(target) => query::sysrq(&instances, target.uuid)?,
        Verb::MountAll(arguments) => all::mount_all(&instances, &arguments)?,
        Verb::BootAll(arguments) => all::boot_all(&instances, &arguments)?,
        Verb::HaltAll(arguments) => all::halt_all(&instances, &arguments)?,
        Verb::Completion { .. } => {}
    }
    Ok(())
}

/// That the instance is as asked for already is said, and is success (instances.md section 4.2).
fn told_if_done(error: InstanceError) -> Failure {
    match error {
        InstanceError::AlreadyRunning { .. } | InstanceError::AlreadyStopped { .. } => Failure::Told(error.to_string()),
        other => other.into(),
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

fn print_json(value: &Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}
