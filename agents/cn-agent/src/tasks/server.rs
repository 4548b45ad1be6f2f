//! The node itself: reboot, overprovisioning, NIC tags, the list of agents (cn-agent.md sections 3.9 to 3.11).

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;
use triton_files::{read_optional, write_atomic};
use triton_netconf::Provider;
use triton_nictag::{NicTagError, NicTags, Tag, TagUpdate};
use triton_types::{Mac, NicTag};

use super::Model;
use crate::{TaskContext, TaskError};

/// Seconds until the machine goes down: the reply comes first.
const REBOOT_AFTER: &str = "1s";
/// Until it is forced, if something does not end.
const FORCE_AFTER: &str = "5min";

/// Reboots the machine, after the answer. Timers of systemd's do it, which do not end with this agent.
pub(super) async fn server_reboot(model: Model, _context: TaskContext) -> Result<Value, TaskError> {
    for (after, words) in [(FORCE_AFTER, &["reboot", "--force"][..]), (REBOOT_AFTER, &["reboot"])] {
        let program = model.layout.at("/usr/bin/systemd-run");
        let mut command = Command::new(&program);
        command.args(["--quiet", "--collect", &format!("--on-active={after}"), "systemctl"]).args(words).stdin(Stdio::null());
        let output = command.output().await.map_err(|error| TaskError::failed(format!("could not run {}: {error}", program.display())))?;
        if !output.status.success() {
            return Err(TaskError::failed(format!("the reboot could not be set up: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
    }
    Ok(json!({}))
}

/// Writes `overprovision_ratio='<value>'` into node.config, in place of what it says.
pub(super) async fn server_overprovision_ratio(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let value = context.params.text("value").ok_or_else(|| TaskError::failed("no value given"))?.to_owned();
    if value.contains(['\'', '\n', '\r', '\0']) {
        return Err(TaskError::failed(format!("Invalid 'value' param: {value:?} cannot be written to node.config")));
    }
    let write = move |model: &Model| {
        let path = model.layout.config().join("node.config");
        let old = read_optional(&path)?.unwrap_or_default();
        let mode = std::fs::metadata(&path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
        write_atomic(&path, with_ratio(&String::from_utf8_lossy(&old), &value).as_bytes(), mode)
    };
    match model.change(&context, write).await? {
        Ok(()) => Ok(json!({})),
        Err(error) => Err(TaskError::failed(triton_agent::chain(&error).to_string())),
    }
}

fn with_ratio(text: &str, value: &str) -> String {
    let line = format!("overprovision_ratio='{value}'");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| line.trim_start().starts_with("overprovision_ratio=")) {
        Some(at) => lines[at] = &line,
        None => lines.push(&line),
    }
    lines.join("\n") + "\n"
}

/// Posts the list of agents again. That CNAPI does not take it is logged only.
pub(super) async fn refresh_agents(model: Model, _context: TaskContext) -> Result<Value, TaskError> {
    model.refresh_agents.notify_one();
    Ok(json!({}))
}

/// Gives NIC tags to NICs: those of the request, and no other NIC's, are as the request says afterwards (section 3.10).
pub(super) async fn server_update_nics(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let wanted = wanted(context.params.get("nics"))?;
    let change = move |model: &Model| -> Result<(), NicTagError> {
        apply(&model.layout, &wanted)?;
        NicTags::load(&model.layout)?.ensure_bridges().map(drop)
    };
    model.change(&context, change).await?.map(|()| json!({})).map_err(|error| TaskError::failed(triton_agent::chain(&error).to_string()))
}

/// What the request says: the NICs that it is about, and their tags. The first NIC that names a tag has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    macs: BTreeSet<Mac>,
    tags: Vec<(NicTag, Mac)>,
}

fn wanted(nics: Option<&Value>) -> Result<Wanted, TaskError> {
    let invalid = |what: &str| TaskError::failed(format!("Invalid 'nics' param: {what}"));
    let mut wanted = Wanted::default();
    for nic in nics.and_then(Value::as_array).ok_or_else(|| invalid("not a list"))? {
        let mac = nic.get("mac").and_then(Value::as_str).ok_or_else(|| invalid("a NIC without mac"))?;
        let mac: Mac = mac.parse().map_err(|_| invalid(&format!("{mac:?} is no MAC address")))?;
        let Some(tags) = nic.get("nic_tags_provided").and_then(Value::as_array) else { continue };
        wanted.macs.insert(mac);
        for tag in tags {
            let tag: NicTag = tag.as_str().and_then(|tag| tag.parse().ok()).ok_or_else(|| invalid(&format!("{tag} is no nic tag")))?;
            if !wanted.tags.iter().any(|(known, _)| *known == tag) {
                wanted.tags.push((tag, mac));
            }
        }
    }
    Ok(wanted)
}

fn apply(layout: &triton_files::Layout, wanted: &Wanted) -> Result<(), NicTagError> {
    let mut tags = NicTags::load(layout)?;
    for (name, mac) in &wanted.tags {
        let provider = Provider::Nic(*mac);
        let result = match tags.get(name) {
            Some(tag) if tag.provider == provider => Ok(()),
            Some(_) => tags.update(name, &TagUpdate { provider: Some(provider), mtu: None }),
            None => tags.add(&Tag { name: name.clone(), provider, etherstub: false, uuid: None, mtu: None }),
        };
        match result {
            // Of a NIC that this node has not got nothing can be said (net-agent case 57).
            Err(NicTagError::NoSuchNic(mac)) => tracing::warn!(%mac, tag = %name, "no NIC has that address: its tag is left alone"),
            other => other?,
        }
    }
    let left: Vec<NicTag> = tags
        .iter()
        .filter(|tag| tag.mac().is_some_and(|mac| wanted.macs.contains(&mac)) && !wanted.tags.iter().any(|(name, _)| *name == tag.name))
        .map(|tag| tag.name.clone())
        .collect();
    left.iter().try_for_each(|name| tags.delete(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_replaces_its_line_and_leaves_the_others() {
        assert_eq!(
            with_ratio("a='1'\noverprovision_ratio='cpu=1'\nb=2\n", "cpu=4&ram=1"),
            "a='1'\noverprovision_ratio='cpu=4&ram=1'\nb=2\n"
        );
        assert_eq!(with_ratio("", "ram=1"), "overprovision_ratio='ram=1'\n");
    }

    /// net-agent case 57
    #[test]
    fn the_first_nic_that_names_a_tag_has_it_and_one_without_tags_is_not_meant() {
        let nics = json!([
            {"mac": "2:8:20:0:0:1", "nic_tags_provided": ["external", "internal"]},
            {"mac": "2:8:20:0:0:2", "nic_tags_provided": ["external"]},
            {"mac": "2:8:20:0:0:3"},
        ]);
        let (one, two): (Mac, Mac) = ("02:08:20:00:00:01".parse().unwrap(), "02:08:20:00:00:02".parse().unwrap());
        let expected =
            Wanted { macs: [one, two].into(), tags: vec![("external".parse().unwrap(), one), ("internal".parse().unwrap(), one)] };
        assert_eq!(wanted(Some(&nics)).unwrap(), expected);
        for bad in [json!(null), json!("x"), json!([{"nic_tags_provided": []}]), json!([{"mac": "zz"}])] {
            assert!(wanted(Some(&bad)).is_err(), "{bad}");
        }
    }
}
