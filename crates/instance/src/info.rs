//! What the kernel knows of a running instance, for `vmadm info` and machine_info (ruling 60).

use serde_json::{Value, json};
use triton_guard::Guard;
use triton_types::InstanceUuid;

use crate::{InstanceError, Instances, network};

impl Instances {
    /// JSON by kind: `processes`, `memory`, `network`, `nics`; `all` for all of them. `nics` is what the guard dropped of each NIC, by
    /// reason (ruling 34), and the addresses that it was given; null where the guard cannot be asked.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`]; [`InstanceError::NoInit`] when it does not run.
    pub fn info(&self, uuid: InstanceUuid, types: &[&str]) -> Result<Value, InstanceError> {
        self.machines.read(uuid)?;
        let (run, presence) = self.run_of(uuid);
        let init = run.init.filter(|_| presence.has_init()).ok_or(InstanceError::NoInit { uuid })?;
        let payload = format!("{}/payload", self.cgroup(uuid));
        let wants = |kind: &str| types.iter().any(|wanted| *wanted == kind || *wanted == "all");
        let mut info = json!({"uuid": uuid});
        if wants("processes") {
            let pids = self.cgroups.pids(&payload).unwrap_or_default();
            info["processes"] = json!({
                "init": init.pid,
                "monitor": run.supervisor.map(|supervisor| supervisor.pid),
                "adopted": run.adopted,
                "boot_timestamp": run.boot_timestamp,
                "count": pids.len(),
                "cgroup": payload,
            });
        }
        if wants("memory") {
            info["memory"] = json!({"rss_bytes": self.resident_bytes(&payload)});
        }
        if wants("network") {
            let plan = network::read_plan(&self.layout, uuid)?;
            let links: Vec<Value> = plan
                .links
                .iter()
                .map(|link| json!({"interface": link.guest, "host_link": link.host, "bridge": link.bridge, "mac": link.mac, "vlan_id": link.vlan_id}))
                .collect();
            info["network"] = Value::Array(links);
        }
        if wants("nics") {
            info["nics"] = self.guarded_nics(uuid)?;
        }
        Ok(info)
    }

    fn guarded_nics(&self, uuid: InstanceUuid) -> Result<Value, InstanceError> {
        let plan = network::read_plan(&self.layout, uuid)?;
        let asked = Guard::open(&self.layout).and_then(|mut guard| Ok((guard.drops()?, guard)));
        let (drops, guard) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "what the guard dropped is not known");
                return Ok(Value::Null);
            }
        };
        let nic = |link: &network::LinkPlan| {
            let counters = drops.get(&link.host).map(|drops| {
                let counters =
                    drops.named().map(|(name, counter)| (name.to_owned(), json!({"packets": counter.packets, "bytes": counter.bytes})));
                Value::Object(counters.into_iter().collect())
            });
            let learned: Vec<Value> = guard
                .learned(&link.host)
                .into_iter()
                .map(|learned| json!({"address": learned.address, "seconds_left": learned.left.as_secs()}))
                .collect();
            json!({"interface": link.guest, "host_link": link.host, "mac": link.mac, "dropped": counters, "learned": learned})
        };
        Ok(plan.links.iter().map(nic).collect())
    }

    /// Resident memory of all processes of the guest, from their own accounts: the same on every cgroup layout.
    fn resident_bytes(&self, payload: &str) -> u64 {
        let resident = |pid: i32| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
            Some(kib * 1024)
        };
        self.cgroups.pids(payload).unwrap_or_default().into_iter().filter_map(resident).sum()
    }
}
