//! The tasks that CNAPI may ask for (cn-agent.md section 3).
//!
//! Each is a function from parameters to a result; what they share is the [`Model`] of the node. They know nothing of HTTP.

mod agent_image;
mod agents;
mod command_execute;
pub mod control_group;
mod docker;
mod docker_copy;
mod docker_exec;
mod docker_stats;
pub(crate) mod execution;
mod firewall;
mod images;
mod machine_change;
mod machine_create;
mod machine_create_image;
mod machine_destroy;
mod machine_networks;
mod machine_power;
mod machine_proc;
mod machine_query;
mod migrate;
mod migrate_wire;
mod plain;
mod server;
mod terminal;
mod zfs;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use triton_files::Layout;
use triton_headnode::BaseUrl;
use triton_types::{ImageUuid, InstanceUuid, JsonMap};

use crate::{Images, MachineError, Machines, Params, Registry, TaskContext, TaskError, TaskName};

pub use agents::{AgentHost, Patience, Pending, Services};
pub use execution::OUTPUT_LIMIT;

/// Collects sysinfo, blocking; the error is for an operator.
pub type SysinfoSource = Arc<dyn Fn() -> Result<JsonMap, String> + Send + Sync>;

/// Calls that change something and run at once; more wait. Fewer than the threads of the runtime (`triton_agent::runtime::MAX_BLOCKING`),
/// so that questions always find one (section 2.6: they never queue behind changes).
const MOST_CHANGES: usize = 20;

/// What tasks work on. Clones share it.
#[derive(Clone)]
pub struct Model {
    /// Where files are.
    pub layout: Layout,
    /// Instances.
    pub machines: Arc<dyn Machines>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// The sysinfo document.
    pub sysinfo: SysinfoSource,
    /// The admin address, where streams of docker tasks are.
    pub admin_ip: IpAddr,
    /// Base URL of firewaller: `http://<admin ip>:2021`.
    pub firewaller: BaseUrl,
    /// Directories for scripts of `command_execute`, tried in order.
    pub script_directories: Vec<PathBuf>,
    /// How often a destruction looks at a guard file.
    pub guard_poll: Duration,
    /// Rung when CNAPI is to be sent the list of agents again.
    pub refresh_agents: Arc<Notify>,
    /// What installations of agents need; without it there are none.
    pub agents: Option<AgentHost>,
    changes: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    migrations: migrate::Migrations,
    imports: Arc<std::sync::Mutex<BTreeMap<ImageUuid, Arc<tokio::sync::Mutex<()>>>>>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Model {
    /// The node below `layout`.
    pub fn new(layout: Layout, machines: Arc<dyn Machines>, images: Arc<dyn Images>, sysinfo: SysinfoSource, firewaller: BaseUrl) -> Self {
        Self {
            script_directories: vec![layout.at("/tmp"), layout.at("/run/triton/scripts")],
            layout,
            machines,
            images,
            sysinfo,
            firewaller,
            admin_ip: Ipv4Addr::LOCALHOST.into(),
            guard_poll: Duration::from_secs(1),
            refresh_agents: Arc::default(),
            agents: None,
            changes: Arc::new(Semaphore::new(MOST_CHANGES)),
            migrations: migrate::Migrations::default(),
            sessions: Arc::new(Semaphore::new(docker::MOST_SESSIONS)),
            imports: Arc::default(),
        }
    }

    /// Makes a call that changes something, on a thread where it may block.
    async fn change<T: Send + 'static, E: Send + 'static>(
        &self,
        context: &TaskContext,
        call: impl FnOnce(&Model) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, TaskError> {
        let permit = self.changes.clone().acquire_owned().await.map_err(|_| TaskError::Cancelled)?;
        let (model, span) = (self.clone(), tracing::Span::current());
        let call = move || {
            // Kept until the call ends, even if nobody waits for it any more.
            let _permit = permit;
            span.in_scope(|| call(&model))
        };
        tokio::task::spawn_blocking(call).await.map_err(|_| TaskError::Crashed(context.name))
    }

    /// Makes a call that only reads.
    async fn read<T: Send + 'static, E: Send + 'static>(
        &self,
        context: &TaskContext,
        call: impl FnOnce(&Model) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, TaskError> {
        let (model, span) = (self.clone(), tracing::Span::current());
        tokio::task::spawn_blocking(move || span.in_scope(|| call(&model))).await.map_err(|_| TaskError::Crashed(context.name))
    }

    /// The reply of most machine tasks: `{"vm": <VM object>}`.
    async fn vm_result(&self, context: &TaskContext, uuid: InstanceUuid) -> Result<Value, TaskError> {
        let dni = context.params.flag("include_dni");
        match self.read(context, move |model| model.machines.load(uuid, dni)).await? {
            Ok(vm) => Ok(json!({"vm": vm})),
            Err(error) => Err(prefixed("vmadm.load error", &error)),
        }
    }
}

/// A failure of vmadm: `<prefix>: <message>`, with its restCode if it has one.
fn prefixed(prefix: &str, error: &MachineError) -> TaskError {
    TaskError::Failed { message: format!("{prefix}: {}", error.message), rest_code: error.rest_code() }
}

/// A failure passed on verbatim.
fn verbatim(error: &MachineError) -> TaskError {
    TaskError::Failed { message: error.message.clone(), rest_code: error.rest_code() }
}

/// The image that a creation or reprovisioning wants: `image_uuid`, else that of the first disk.
fn wanted_image(params: &Params) -> Option<&Value> {
    params.get("image_uuid").or_else(|| params.get("disks")?.get(0)?.get("image_uuid"))
}

/// The pool that the caller wants; both names are accepted everywhere (section 3.2).
fn wanted_pool(params: &Params) -> Option<&str> {
    params.text("zfs_storage_pool_name").or_else(|| params.text("zpool"))
}

/// The handlers of all tasks that this version has.
pub fn registry(model: &Model) -> Registry {
    let mut registry = Registry::default();
    macro_rules! handlers {
        ($($name:ident => $handler:path,)*) => {
            $({
                let model = model.clone();
                registry.set(TaskName::$name, move |context| $handler(model.clone(), context));
            })*
        };
    }
    handlers! {
        MachineCreate => machine_create::machine_create,
        MachineCreateImage => machine_create_image::machine_create_image,
        MachineBoot => machine_power::machine_boot,
        MachineShutdown => machine_power::machine_shutdown,
        MachineReboot => machine_power::machine_reboot,
        MachineKill => machine_power::machine_kill,
        MachineDestroy => machine_destroy::machine_destroy,
        MachineLoad => machine_query::machine_load,
        MachineInfo => machine_query::machine_info,
        ImageEnsurePresent => images::image_ensure_present,
        ImageGet => images::image_get,
        CommandExecute => command_execute::command_execute,
        ServerSysinfo => plain::server_sysinfo,
        ServerReboot => server::server_reboot,
        ServerOverprovisionRatio => server::server_overprovision_ratio,
        ServerUpdateNics => server::server_update_nics,
        RefreshAgents => server::refresh_agents,
        AgentInstall => agents::agent_install,
        AgentsUninstall => agents::agents_uninstall,
        ShutdownCnAgentUpdate => agents::shutdown_cn_agent_update,
        MachineUpdate => machine_change::machine_update,
        MachineCreateSnapshot => machine_change::machine_create_snapshot,
        MachineRollbackSnapshot => machine_change::machine_rollback_snapshot,
        MachineDeleteSnapshot => machine_change::machine_delete_snapshot,
        MachineReprovision => machine_change::machine_reprovision,
        MachineUpdateNics => machine_networks::machine_update_nics,
        MachineProc => machine_proc::machine_proc,
        MachineMigrate => migrate::machine_migrate,
        MachineMigrateReceive => migrate::receive,
        DockerExec => docker_exec::docker_exec,
        DockerCopy => docker_copy::docker_copy,
        DockerStats => docker_stats::docker_stats,
        DockerBuild => docker::docker_build,
        ZfsCreateDataset => zfs::zfs_create_dataset,
        ZfsDestroyDataset => zfs::zfs_destroy_dataset,
        ZfsRenameDataset => zfs::zfs_rename_dataset,
        ZfsSnapshotDataset => zfs::zfs_snapshot_dataset,
        ZfsRollbackDataset => zfs::zfs_rollback_dataset,
        ZfsCloneDataset => zfs::zfs_clone_dataset,
        ZfsSetProperties => zfs::zfs_set_properties,
        ZfsGetProperties => zfs::zfs_get_properties,
        ZfsListDatasets => zfs::zfs_list_datasets,
        ZfsListSnapshots => zfs::zfs_list_snapshots,
        ZfsListPools => zfs::zfs_list_pools,
    }
    registry.set(TaskName::Nop, plain::nop);
    registry.set(TaskName::Sleep, plain::sleep);
    registry
}
