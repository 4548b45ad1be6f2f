//! `xtask status`: what is up, without changing anything.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{args::StatusArgs, guest, namespaces, state::State};
use crate::say;

/// Nothing is there.
const ABSENT: u8 = 3;

/// Shows it.
pub fn status(args: &StatusArgs) -> Result<ExitCode> {
    let layout = crate::layout(&args.root)?;
    let Some(state) = State::load(&layout)? else {
        if args.json {
            say::line(json!({"root": layout.root(), "up": false}));
        } else {
            say::line(format_args!("nothing is up below {}", layout.root().display()));
        }
        return Ok(ExitCode::from(ABSENT));
    };
    let states = guest::states(&layout).unwrap_or_default();
    let programs: Vec<_> = ["headnode", "cn-agent", "vm-agent", "net-agent", "firewaller", "metadata-agent"]
        .into_iter()
        .map(|name| (name, state.running(name).map(|program| program.process.pid)))
        .collect();
    let instances: Vec<_> =
        state.instances.iter().map(|instance| (instance, states.get(&instance.uuid).map_or("absent", String::as_str))).collect();
    let pinned = namespaces::mounts_below(&layout.namespaces())?.contains(&namespaces::node(&layout));
    let up = pinned && programs.iter().all(|(_, pid)| pid.is_some()) && instances.iter().all(|(_, state)| *state == "running");
    if args.json {
        let programs: Vec<_> = programs.iter().map(|(name, pid)| json!({"name": name, "pid": pid})).collect();
        let instances: Vec<_> =
            instances.iter().map(|(one, state)| json!({"uuid": one.uuid, "alias": one.alias, "ip": one.address, "state": state})).collect();
        let all = json!({
            "root": layout.root(), "up": up, "namespaces": pinned, "programs": programs, "instances": instances, "headnode": state.headnode,
        });
        say::line(serde_json::to_string_pretty(&all)?);
    } else {
        say::line(format_args!("root        {}", layout.root().display()));
        say::line(format_args!("namespaces  {}", if pinned { "pinned" } else { "absent" }));
        for (name, pid) in programs {
            say::line(format_args!("{name:<15} {}", pid.map_or("down".to_owned(), |pid| format!("running, pid {pid}"))));
        }
        if let Some(urls) = &state.headnode {
            say::line(format_args!(
                "CNAPI       {}\nVMAPI       {}\nNAPI        {}\nFWAPI       {}\nIMGAPI      {}",
                urls.cnapi, urls.vmapi, urls.napi, urls.fwapi, urls.imgapi
            ));
        }
        for (instance, state) in instances {
            say::line(format_args!("{:<12}{state:<10}{:<16}{}", instance.alias, instance.address, instance.uuid));
        }
    }
    Ok(if up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
