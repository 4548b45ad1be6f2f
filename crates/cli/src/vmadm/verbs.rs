//! What each verb does.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::Value;
use triton_files::Layout;
use triton_instance::{InstanceError, Instances, StopOptions, console_program, to_json, validate};
use triton_types::{InstanceUuid, JsonMap, VmState};
use triton_vmspec::{Context, Filter, ListOptions};

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
        Verb::Get(target) => {
            instances.adopt_if_orphaned(target.uuid);
            print_json(&Value::Object(to_json(&instances.load(target.uuid)?)))?;
        }
        Verb::Info(info) => {
            let types: Vec<&str> = info.types.as_deref().unwrap_or("all").split(',').collect();
            print_json(&instances.info(info.uuid, &types)?)?;
        }
        Verb::List(list) => {
            let options = ListOptions {
                columns: list.order,
                sort: list.sort,
                parsable: list.parseable,
                header: (list.header || list.no_header).then_some(list.header),
            };
            let filters = filters(&list.filters, Context::List)?;
            let vms = all(&instances)?;
            let table = triton_vmspec::list(&triton_vmspec::lookup(&vms, &filters), &options).map_err(failed)?;
            io::stdout().write_all(table.as_bytes())?;
        }
        Verb::Lookup(lookup) => self::lookup(&instances, &lookup)?,
        Verb::Validate(arguments) => self::validate_payload(&instances, &arguments)?,
        Verb::Console(target) => self::console(&instances, layout, target.uuid)?,
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

fn filters(texts: &[String], context: Context) -> Result<Vec<Filter>, Failure> {
    texts.iter().map(|text| Filter::parse(text, context)).collect::<Result<_, _>>().map_err(failed)
}

/// Every instance; guests whose monitor died get a new one on the way (ruling 37).
fn all(instances: &Instances) -> Result<Vec<JsonMap>, Failure> {
    let vms = instances.list(true)?;
    for vm in vms.iter().filter(|vm| vm.state == VmState::Running) {
        instances.adopt_if_orphaned(vm.zonename);
    }
    Ok(vms.iter().map(to_json).collect())
}

fn lookup(instances: &Instances, arguments: &super::args::Lookup) -> Result<(), Failure> {
    if arguments.order.is_some() && !arguments.json {
        return Err(Failure::Failed("Cannot specify -o without -j".to_owned()));
    }
    let filters = filters(&arguments.filters, Context::Lookup)?;
    let vms = all(instances)?;
    let found = triton_vmspec::lookup(&vms, &filters);
    if arguments.unique {
        triton_vmspec::unique(&found).map_err(failed)?;
    }
    if arguments.json {
        let objects = match arguments.order.as_deref() {
            Some(fields) => triton_vmspec::select_fields(&found, &fields.split(',').collect::<Vec<_>>()).map_err(failed)?,
            None => found.into_iter().cloned().collect(),
        };
        return print_json(&Value::Array(objects.into_iter().map(Value::Object).collect()));
    }
    let mut out = io::stdout().lock();
    for vm in found {
        writeln!(out, "{}", vm.get("uuid").and_then(Value::as_str).unwrap_or_default())?;
    }
    Ok(())
}

fn validate_payload(instances: &Instances, arguments: &super::args::Validate) -> Result<(), Failure> {
    let payload = input::payload(&arguments.input, "validate")?;
    let verdict = validate(instances, &arguments.action, arguments.brand.as_deref(), &payload);
    if verdict.is_valid() {
        let brand = arguments.brand.as_deref().or_else(|| payload.get("brand").and_then(Value::as_str)).unwrap_or("lx");
        say(&format!("VALID '{}' payload for {brand} brand VMs.", arguments.action));
        return Ok(());
    }
    Err(Failure::Failed(serde_json::to_string_pretty(&verdict).map_err(io::Error::from)?))
}

fn console(instances: &Instances, layout: &Layout, uuid: InstanceUuid) -> Result<(), Failure> {
    let vm = instances.load(uuid)?;
    if vm.pid.is_none() {
        return Err(Failure::Failed(format!("Cannot attach to the console of VM {uuid}: it is not running (state: {})", vm.state)));
    }
    let status = std::process::Command::new(console_program())
        .args(["console", "--root"])
        .arg(layout.root())
        .arg(uuid.to_string())
        .status()
        .map_err(|error| Failure::Failed(format!("could not run the instance's monitor program: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::Failed(format!("the console of VM {uuid} ended: {status}"))) }
}
