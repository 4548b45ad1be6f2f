//! Instances on the node, as scenarios ask for them and look at them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::super::{bed::Bed, node::BED, ssh::quoted};

/// Saved once in a run: the image of the guests is installed.
const WITH_IMAGE: &str = "image";

/// A fresh node that has the image.
pub fn with_image(bed: &mut Bed) -> Result<()> {
    if bed.saved(WITH_IMAGE) {
        return bed.reset(WITH_IMAGE);
    }
    install(bed)?;
    bed.save(WITH_IMAGE)
}

/// Installs the image, whose files are there.
pub fn install(bed: &mut Bed) -> Result<()> {
    bed.run(&format!("imgadm install -m {BED}/image/manifest.json -f {BED}/image/*.tar.gz")).map(drop)
}

/// The image's uuid.
pub fn image(bed: &mut Bed) -> Result<String> {
    Ok(bed.run(&format!("jq -r .uuid {BED}/image/manifest.json"))?.trim().to_owned())
}

/// What an instance is made of, with the address that ends in `host`.
pub fn payload(image: &str, host: u8, autoboot: bool) -> Value {
    json!({
        "brand": "lx", "image_uuid": image, "alias": format!("vm{host}"), "hostname": format!("vm{host}"), "autoboot": autoboot,
        "max_physical_memory": 64, "max_swap": 256, "cpu_cap": 100, "quota": 1,
        "nics": [{"nic_tag": "external", "mac": format!("02:08:20:00:01:{host:02x}"), "ips": [format!("10.64.0.{host}/24")],
            "gateways": ["10.64.0.1"], "primary": true}],
    })
}

/// A script that creates an instance.
pub fn create_script(payload: &Value) -> String {
    format!("vmadm create <<'PAYLOAD'\n{payload}\nPAYLOAD")
}

/// Creates an instance; its uuid.
pub fn create(bed: &mut Bed, payload: &Value) -> Result<String> {
    let said = bed.run(&create_script(payload))?;
    let line = said.lines().last().unwrap_or_default();
    line.strip_prefix("Successfully created VM ").map(str::to_owned).with_context(|| format!("vmadm create said: {said}"))
}

/// The state of every instance.
pub fn states(bed: &mut Bed) -> Result<BTreeMap<String, String>> {
    let said = bed.run("vmadm lookup -j -o uuid,state 2>/dev/null")?;
    let list: Vec<Value> = serde_json::from_str(&said).with_context(|| format!("vmadm lookup said: {said}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(list.iter().map(|vm| (text(&vm["uuid"]), text(&vm["state"]))).collect())
}

/// One property of an instance, as jq writes it.
pub fn property(bed: &mut Bed, uuid: &str, filter: &str) -> Result<String> {
    Ok(bed.run(&format!("vmadm get {uuid} | jq -r {}", quoted(&[filter.to_owned()])))?.trim().to_owned())
}

/// A script that runs `script` inside a guest, as its root.
pub fn guest_script(uuid: &str, script: &str) -> String {
    let script = quoted(&[script.to_owned()]);
    format!("nsenter -t $(vmadm get {uuid} | jq .pid) -m -u -n -p -i -U -S 0 -G 0 -- /bin/sh -c {script}")
}

/// Runs a script inside a guest.
pub fn guest(bed: &mut Bed, uuid: &str, script: &str) -> Result<String> {
    bed.run(&guest_script(uuid, script))
}

/// Waits for a state.
pub fn await_state(bed: &mut Bed, uuid: &str, state: &str) -> Result<()> {
    let script = format!("s=$(vmadm get {uuid} | jq -r .state); echo $s; [ $s = {state} ]");
    bed.until(&format!("{uuid} is {state}"), &script, Duration::from_secs(120)).map(drop)
}

/// What has to be so after every boot: the pool is sound, no unit failed, nothing is under way for good.
pub fn sound(bed: &mut Bed) -> Result<()> {
    let health = bed.run("zpool status -x")?;
    ensure!(health.trim().ends_with("healthy"), "the pool is not sound: {health}");
    let failed = bed.run("systemctl list-units --failed --plain --no-legend --no-pager")?;
    if !failed.trim().is_empty() {
        bail!("units failed: {}", failed.trim());
    }
    Ok(())
}

/// Datasets of the pool that are named like an instance or image.
pub fn datasets(bed: &mut Bed) -> Result<Vec<String>> {
    let said = bed.run("zfs list -H -o name -d 1 zones")?;
    let leaf = |line: &str| line.strip_prefix("zones/").map(str::to_owned);
    Ok(said.lines().filter_map(leaf).filter(|name| name.len() >= 36 && name.as_bytes()[8] == b'-').collect())
}
