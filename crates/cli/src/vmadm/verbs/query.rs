//! The verbs that only look: list, lookup, validate, console.

use std::io::{self, Write};

use serde_json::Value;
use triton_files::Layout;
use triton_instance::{Instances, console_program, to_json, validate};
use triton_types::{InstanceUuid, JsonMap, VmState};
use triton_vmspec::{Context, Filter, ListOptions};

use super::{
    super::{Failure, args, input, say},
    failed, print_json,
};

pub(super) fn list(instances: &Instances, list: args::List) -> Result<(), Failure> {
    let options = ListOptions {
        columns: list.order,
        sort: list.sort,
        parsable: list.parseable,
        header: (list.header || list.no_header).then_some(list.header),
    };
    let filters = filters(&list.filters, Context::List)?;
    let vms = all(instances)?;
    let table = triton_vmspec::list(&triton_vmspec::lookup(&vms, &filters), &options).map_err(failed)?;
    Ok(io::stdout().write_all(table.as_bytes())?)
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

pub(super) fn lookup(instances: &Instances, arguments: &args::Lookup) -> Result<(), Failure> {
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

pub(super) fn validate_payload(instances: &Instances, arguments: &args::Validate) -> Result<(), Failure> {
    let payload = input::payload(&arguments.input, "validate")?;
    let verdict = validate(instances, &arguments.action, arguments.brand.as_deref(), &payload);
    if verdict.is_valid() {
        let brand = arguments.brand.as_deref().or_else(|| payload.get("brand").and_then(Value::as_str)).unwrap_or("lx");
        say(&format!("VALID '{}' payload for {brand} brand VMs.", arguments.action));
        return Ok(());
    }
    Err(Failure::Failed(serde_json::to_string_pretty(&verdict).map_err(io::Error::from)?))
}

pub(super) fn console(instances: &Instances, layout: &Layout, uuid: InstanceUuid) -> Result<(), Failure> {
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

/// Never possible for instances of this node (instances.md section 4.2); the text is the contract's, its two blanks too.
pub(super) fn sysrq(instances: &Instances, uuid: InstanceUuid) -> Result<(), Failure> {
    instances.load(uuid)?;
    Err(Failure::Failed("The sysrq command is only supported for VMs  with brand \"bhyve\" or \"kvm\".".to_owned()))
}
