//! The VM object: configuration, run-state and facts of the node put together (instances.md section 3). Pure.

use std::path::Path;

use triton_types::{
    ExitRecord, InstanceUuid, Lifecycle, NicObject, RunState, ServerUuid, Snapshot, Timestamp, VmConfig, VmObject, VmState, ZoneState,
};

use crate::{
    machines::Machine,
    observe::{Presence, states},
};

/// What every VM object of a node says about the node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// `UUID` of sysinfo.
    pub server_uuid: Option<ServerUuid>,
    /// `Datacenter Name` of sysinfo.
    pub datacenter_name: Option<String>,
    /// `Live Image` of sysinfo.
    pub platform_buildstamp: Option<String>,
    /// `Headnode ID` of sysinfo.
    pub headnode_id: Option<String>,
}

/// Everything that one VM object is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The instance as it should be.
    pub machine: Machine,
    /// Its run-state.
    pub run: RunState,
    /// The run-state held against the processes.
    pub presence: Presence,
    /// Its root is there.
    pub dataset: bool,
    /// A live process is creating it.
    pub creating: bool,
    /// Newest first.
    pub snapshots: Vec<Snapshot>,
    /// The last end known from `lastexited`, for when the run-state was lost with `/run` (ruling 43).
    pub last_exit: Option<ExitRecord>,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// How long a creation may take before it is given up, in milliseconds (instances.md section 5.3).
const PROVISION_LIMIT_MS: i64 = 300_000;

/// Builds the object.
pub fn build(parts: Parts<'_>) -> VmObject {
    let Parts { machine, run, presence, dataset, creating, snapshots, last_exit, facts } = parts;
    let lifecycle = machine.file.lifecycle;
    let (state, zone_state) = states(lifecycle, dataset, presence, creating);
    let mut config = machine.file.config;
    let running = presence.has_init();
    let exit = last_exit.filter(|_| !running);
    let uuid = config.uuid;
    let pool = config.zpool.get_or_insert_with(|| "zones".to_owned()).clone();
    let provisioning = state == VmState::Provisioning;
    let created = config.create_timestamp.map_or(0, Timestamp::as_millis);
    VmObject {
        zonename: uuid,
        hvm: false,
        v: 1,
        pid: run.init.filter(|_| running).map(|init| init.pid),
        boot_timestamp: run.boot_timestamp.filter(|_| running),
        exit_status: exit.map(|exit| exit.status),
        exit_timestamp: exit.map(|exit| exit.at),
        last_modified: machine.modified,
        snapshots,
        datasets: if config.delegate_dataset { vec![format!("{pool}/{uuid}/data")] } else { Vec::new() },
        zfs_filesystem: format!("{pool}/{uuid}"),
        zonepath: format!("/{pool}/{uuid}"),
        server_uuid: facts.server_uuid,
        datacenter_name: facts.datacenter_name.clone(),
        platform_buildstamp: facts.platform_buildstamp.clone(),
        headnode_id: facts.headnode_id.clone(),
        transition_to: (provisioning && config.autoboot).then(|| "running".to_owned()),
        transition_expire: (provisioning && config.autoboot).then_some(created + PROVISION_LIMIT_MS),
        customer_metadata: std::mem::take(&mut config.customer_metadata),
        internal_metadata: std::mem::take(&mut config.internal_metadata),
        tags: std::mem::take(&mut config.tags),
        routes: std::mem::take(&mut config.routes),
        nics: std::mem::take(&mut config.nics).iter().map(NicObject::from).collect(),
        state,
        zone_state,
        config,
    }
}

/// The object of an instance whose machine file cannot be used: it exists, and that is all (ruling 1).
pub fn unreadable(uuid: InstanceUuid, facts: &NodeFacts) -> VmObject {
    let machine = Machine {
        file: triton_types::MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config: VmConfig::bare(uuid) },
        modified: Timestamp::from_millis(0),
    };
    let run = RunState::stopped(uuid);
    let parts =
        Parts { machine, run, presence: Presence::Stopped, dataset: true, creating: false, snapshots: Vec::new(), last_exit: None, facts };
    VmObject { state: VmState::Unreadable, zone_state: ZoneState::Other("unreadable".into()), ..build(parts) }
}

/// Reads `<zonepath>/lastexited`: `<epoch seconds> <status>`, decoded as instances.md section 5.5 says.
pub fn last_exited(zonepath: &Path) -> Option<ExitRecord> {
    parse_last_exited(&std::fs::read_to_string(zonepath.join("lastexited")).ok()?)
}

fn parse_last_exited(text: &str) -> Option<ExitRecord> {
    let mut fields = text.split_whitespace();
    let seconds: f64 = fields.next()?.parse().ok()?;
    let status: i64 = fields.next()?.parse().ok()?;
    let status = match status {
        -1 => 0,
        status if status & 0xff == 0 => status >> 8,
        status => -(status & 0xff),
    };
    Some(ExitRecord { at: Timestamp::from_millis((seconds * 1000.0) as i64), status: i32::try_from(status).ok()?, oom: false })
}

#[cfg(test)]
mod tests {
    use triton_types::{MachineFile, RunPhase};

    use super::*;

    /// instances case 62
    #[test]
    fn the_exit_status_is_decoded_from_lastexited() {
        for (text, status) in [("1700000000 0", 0), ("1700000000 3328\n", 13), ("1700000000 9", -9), ("1700000000 -1", 0)] {
            let exit = parse_last_exited(text).unwrap();
            assert_eq!((exit.status, exit.at.as_secs()), (status, 1_700_000_000), "{text}");
        }
        for bad in ["", "x 1", "1700000000"] {
            assert_eq!(parse_last_exited(bad), None);
        }
    }

    fn parts(facts: &NodeFacts) -> Parts<'_> {
        let uuid: InstanceUuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11".parse().unwrap();
        let mut config = VmConfig::bare(uuid);
        config.restart_init = true;
        Parts {
            machine: Machine {
                file: MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config },
                modified: Timestamp::from_millis(1),
            },
            run: RunState::stopped(uuid),
            presence: Presence::Stopped,
            dataset: true,
            creating: false,
            snapshots: Vec::new(),
            last_exit: Some(ExitRecord { at: Timestamp::from_millis(0), status: 7, oom: false }),
            facts,
        }
    }

    #[test]
    fn what_is_always_there_is_there_and_internals_are_not() {
        let facts = NodeFacts::default();
        let object = serde_json::to_value(build(parts(&facts))).unwrap();
        for key in ["customer_metadata", "internal_metadata", "tags", "routes", "nics", "snapshots", "resolvers", "firewall_enabled"] {
            assert!(object.get(key).is_some(), "{key}");
        }
        for key in ["storage", "format", "lifecycle", "extra", "pid"] {
            assert!(object.get(key).is_none(), "{key}");
        }
        assert_eq!(object["zonepath"], "/zones/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11");
        assert_eq!(object["exit_status"], 7);
        assert_eq!(object["state"], "stopped");
        assert_eq!(object["brand"], "lx");
    }

    #[test]
    fn exit_keys_are_absent_while_running() {
        let facts = NodeFacts::default();
        let mut parts = parts(&facts);
        parts.presence = Presence::Running;
        parts.run.phase = RunPhase::Running;
        parts.run.init = Some(triton_types::ProcessRef { pid: 42, start_ticks: 1 });
        let object = serde_json::to_value(build(parts)).unwrap();
        assert!(object.get("exit_status").is_none() && object.get("exit_timestamp").is_none());
        assert_eq!(object["pid"], 42);
    }

    #[test]
    fn the_object_survives_a_round_trip() {
        let facts = NodeFacts::default();
        let object = build(parts(&facts));
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(serde_json::from_str::<VmObject>(&text).unwrap(), object);
    }
}
