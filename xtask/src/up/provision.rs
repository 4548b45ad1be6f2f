//! Instances, made the way a headnode makes them: VMAPI's provision, CNAPI's task, cn-agent.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

use super::{
    headnode::{Urls, address},
    http, site,
    state::Instance,
    wait::{Look, until},
};
use crate::say::Progress;

/// The instance with this number, not made so far.
pub fn plan(number: usize) -> Instance {
    Instance { uuid: InstanceUuid::random(), alias: format!("up{number}"), address: site::instance_address(number).to_string() }
}

/// What a customer's request for a small package becomes.
fn request(number: usize, instance: &Instance, image: ImageUuid) -> Value {
    json!({
        "uuid": instance.uuid,
        "alias": instance.alias,
        "hostname": instance.alias,
        "dns_domain": site::DOMAIN,
        "owner_uuid": site::OWNER,
        "brand": "lx",
        "image_uuid": image,
        "autoboot": true,
        "package": {
            "uuid": site::PACKAGE,
            "max_physical_memory": 128,
            "max_swap": 256,
            "max_lwps": 500,
            "cpu_cap": 100,
            "quota": 1024,
            "zfs_io_priority": 100,
        },
        "cpu_shares": 100,
        "nics": [{
            "nic_tag": site::EXTERNAL.tag,
            "mac": site::instance_mac(number),
            "ips": [format!("{}/{}", instance.address, site::PREFIX)],
            "gateways": [site::GATEWAY],
            "resolvers": site::RESOLVERS,
            "network_uuid": site::NETWORK,
            "vlan_id": 0,
            "primary": true,
        }],
        "customer_metadata": {},
        "tags": {"made-by": "xtask"},
    })
}

/// What is to be done so that an instance runs.
enum Need {
    Nothing,
    Start,
    Create,
}

/// Makes missing instances and starts stopped ones; all at once, then waits. Returns how many were made and started.
pub fn ensure(
    states: &BTreeMap<InstanceUuid, String>,
    urls: &Urls,
    instances: &[Instance],
    image: ImageUuid,
    progress: &mut Progress,
) -> Result<(usize, usize)> {
    let vmapi = address(&urls.vmapi)?;
    let mut jobs = BTreeMap::new();
    let (mut created, mut started) = (0, 0);
    for (number, instance) in instances.iter().enumerate() {
        let need = match states.get(&instance.uuid).map(String::as_str) {
            None => Need::Create,
            Some("running") => Need::Nothing,
            Some("stopped") => Need::Start,
            Some(other) => {
                bail!("the instance {} ({}) is {other}: look at it with `vmadm get`, or `down` it all", instance.alias, instance.uuid)
            }
        };
        let answer = match need {
            Need::Nothing => continue,
            Need::Create => {
                created += 1;
                // The headnode may remember an instance that was destroyed behind its back.
                forget(vmapi, instance.uuid)?;
                http::call(vmapi, "POST", "/vms", Some(&request(number, instance, image)))?
            }
            Need::Start => {
                started += 1;
                http::call(vmapi, "POST", &format!("/vms/{}?action=start", instance.uuid), Some(&json!({})))?
            }
        };
        let job = answer["job_uuid"].as_str().context("VMAPI answered without a job")?.to_owned();
        jobs.insert(job, instance);
    }
    let all = jobs.len();
    for (done, (job, instance)) in jobs.into_iter().enumerate() {
        let limit = Duration::from_secs(600);
        until(limit, progress, |progress| {
            progress.bar(done, all);
            let record = http::call(vmapi, "GET", &format!("/jobs/{job}"), None)?;
            match record["execution"].as_str() {
                Some("succeeded") => Ok(Look::There(())),
                Some("failed") => bail!("{}", record["error"].as_str().unwrap_or("the job failed without a word")),
                _ => Ok(Look::Missing(format!("job {job} is under way"))),
            }
        })
        .with_context(|| format!("the instance {} ({}) was not provisioned", instance.alias, instance.uuid))?;
    }
    Ok((created, started))
}

fn forget(vmapi: std::net::SocketAddr, uuid: InstanceUuid) -> Result<()> {
    let known = http::request(vmapi, "GET", &format!("/vms/{uuid}"), None)?;
    if known.status == 200 && known.body["state"] != "destroyed" {
        let job = http::call(vmapi, "DELETE", &format!("/vms/{uuid}"), None)?;
        let job = job["job_uuid"].as_str().unwrap_or_default().to_owned();
        until(Duration::from_secs(120), &mut Progress::new(1), |_| {
            let record = http::call(vmapi, "GET", &format!("/jobs/{job}"), None)?;
            Ok(if record["execution"] == "running" { Look::Missing("destroying".to_owned()) } else { Look::There(()) })
        })?;
    }
    Ok(())
}
