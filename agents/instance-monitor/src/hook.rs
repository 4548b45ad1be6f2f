//! `hook`: what liblxc calls on the host, in the boot child's group and with its environment.

use std::{path::Path, process::ExitCode};

use triton_cgroup::Cgroups;
use triton_files::Layout;
use triton_instance::{RunStates, network};
use triton_process::reference;
use triton_storage::Storage;
use triton_types::InstanceUuid;

use crate::{
    channel,
    note::{self, chain},
    records::{EndRecord, InitNotice, Records},
};

/// Where a hook that ended a start leaves its reason for the supervisor, in the instance's runtime directory.
pub const REASON: &str = "start-hook-error";

/// Points of a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Namespaces exist, init does not run yet.
    StartHost,
    /// Init has ended, its groups still exist.
    Stop,
    /// The end.
    PostStop,
}

/// Runs one hook. Failure of `start-host` ends the start; of `post-stop` at a reboot, it ends this boot (ruling 70).
pub fn run(kind: Kind, root: &Path, uuid: InstanceUuid) -> ExitCode {
    let layout = Layout::new(root);
    let result = match kind {
        Kind::StartHost => start_host(&layout, uuid),
        Kind::Stop => stop(&layout, uuid),
        Kind::PostStop if is_reboot() => return ExitCode::FAILURE,
        Kind::PostStop => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            note::error(uuid, &reason);
            // liblxc keeps what hooks print to itself, but for logs of a level that nobody has.
            if kind == Kind::StartHost
                && let Err(error) = triton_files::write_volatile(&layout.runtime(uuid).join(REASON), reason.as_bytes(), 0o600)
            {
                note::error(uuid, &chain(&error));
            }
            ExitCode::FAILURE
        }
    }
}

fn is_reboot() -> bool {
    std::env::var("LXC_TARGET").is_ok_and(|target| target == "reboot")
}

/// Gives the guest its network, and says who init is: first in the run-state, so that a guest whose supervisor dies now can
/// still be found and adopted.
fn start_host(layout: &Layout, uuid: InstanceUuid) -> Result<(), String> {
    let pid: i32 = std::env::var("LXC_PID").ok().and_then(|text| text.parse().ok()).ok_or("LXC_PID is not set")?;
    let plan = network::read_plan(layout, uuid).map_err(|e| chain(&e))?;
    network::attach(layout, &plan, pid).map_err(|e| chain(&e))?;
    if plan.delegate_dataset {
        dataset(layout, uuid, pid)?;
    }
    let init = reference(pid).ok_or("init ended before it began")?;
    RunStates::new(layout).update(uuid, |run| run.init = Some(init)).map_err(|e| chain(&e))?;
    let directory = layout.runtime(uuid);
    channel::send(&directory, &InitNotice { init }).map_err(|e| format!("the supervisor of the instance cannot be told: {e}"))
}

/// Gives the guest the dataset that it manages (instances.md section 7.6): to this boot's user namespace.
fn dataset(layout: &Layout, uuid: InstanceUuid, pid: i32) -> Result<(), String> {
    let given = Storage::open(layout).and_then(|storage| storage.delegate(uuid, Path::new(&format!("/proc/{pid}/ns/user"))));
    given.map_err(|e| format!("the guest cannot be given its dataset: {}", chain(&e)))
}

fn stop(layout: &Layout, uuid: InstanceUuid) -> Result<(), String> {
    let records = Records::new(layout, uuid);
    let cgroup = records.boot().map_err(|e| chain(&e))?.map(|boot| boot.cgroup);
    let events = cgroup.and_then(|cgroup| Cgroups::probe().ok()?.memory_events(&format!("{cgroup}/payload")));
    let end = EndRecord { reboot: is_reboot(), oom_kills: events.map_or(0, |events| events.oom_kill) };
    records.set_end(&end).map_err(|e| chain(&e))
}
