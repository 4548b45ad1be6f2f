//! `machine_proc`: the processes of an instance, in the words of SmartOS (cn-agent.md section 3.1).

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::{Map, Value, json};
use triton_types::InstanceUuid;

use super::{Model, prefixed};
use crate::{TaskContext, TaskError};

/// Longest command line that is shown, in bytes.
const LONGEST: usize = 80;

/// All processes in the pid namespace of its init, by their number inside.
pub(super) async fn machine_proc(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    if context.params.text("uuid").is_none() {
        return Err(TaskError::failed("missing uuid for machine_proc"));
    }
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let dni = context.params.flag("include_dni");
    let vm =
        model.read(&context, move |model| model.machines.load(uuid, dni)).await?.map_err(|error| prefixed("vmadm.load error", &error))?;
    let init = vm["pid"].as_i64().filter(|_| vm["state"] == "running");
    let Some(init) = init else {
        return Err(TaskError::Failed { message: "VM is not running".to_owned(), rest_code: Some("VmNotRunning".to_owned()) });
    };
    let found = model.read(&context, move |_| processes(Path::new("/proc"), init)).await?;
    found.map_err(|error| TaskError::failed(format!("failed to get processes: {error}")))
}

/// The fields of `/proc/<pid>/status`.
struct Status(BTreeMap<String, String>);

impl Status {
    fn read(directory: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(directory.join("status"))?;
        Ok(Self(
            text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect(),
        ))
    }

    fn numbers(&self, key: &str) -> Vec<i64> {
        self.0.get(key).into_iter().flat_map(|value| value.split_whitespace()).filter_map(|word| word.parse().ok()).collect()
    }

    fn number(&self, key: &str) -> i64 {
        self.numbers(key).first().copied().unwrap_or(0)
    }
}

/// Ids of the host as a user namespace has them: `(inside, outside, count)`.
fn inside(map: &[[i64; 3]], id: i64) -> i64 {
    map.iter()
        .find(|[_, outside, count]| id >= *outside && id - outside < *count)
        .map_or(65534, |[inside, outside, _]| inside + id - outside)
}

fn id_map(path: &Path) -> Vec<[i64; 3]> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i64>>().try_into().ok())
        .collect()
}

fn processes(proc: &Path, init: i64) -> io::Result<Value> {
    let own = |pid: &str| fs::read_link(proc.join(pid).join("ns/pid"));
    let namespace = own(&init.to_string())?;
    let (uids, gids) = (id_map(&proc.join(init.to_string()).join("uid_map")), id_map(&proc.join(init.to_string()).join("gid_map")));
    let booted = boot_time(proc);
    let mut all = Map::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that ends meanwhile is not there.
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && own(&name).is_ok_and(|found| found == namespace)
            && let Ok((pid, info)) = describe(proc, &entry.path(), &uids, &gids, booted)
        {
            all.insert(pid.to_string(), json!({"psinfo": info}));
        }
    }
    Ok(Value::Object(all))
}

fn boot_time(proc: &Path) -> i64 {
    let text = fs::read_to_string(proc.join("stat")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

fn describe(proc: &Path, directory: &Path, uids: &[[i64; 3]], gids: &[[i64; 3]], booted: i64) -> io::Result<(i64, Value)> {
    /// Clock ticks in a second, as every Linux shows them (`USER_HZ`).
    const TICKS: i64 = 100;
    let status = Status::read(directory)?;
    let stat = fs::read_to_string(directory.join("stat"))?;
    // The name is in parentheses and may hold anything; what follows are numbers.
    let rest: Vec<i64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0)).collect();
    let field = |number: usize| rest.get(number - 4).copied().unwrap_or(0);
    let pid = status.numbers("NSpid").last().copied().unwrap_or_else(|| status.number("Pid"));
    // Init's parent is outside.
    let parent = if pid == 1 { 0 } else { parent_inside(proc, status.number("PPid")) };
    let command = fs::read(directory.join("cmdline"))?;
    let words: Vec<String> =
        command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let name = status.0.get("Name").cloned().unwrap_or_default();
    let arguments = if words.is_empty() { name.clone() } else { words.join(" ") };
    let end = (0..=LONGEST.min(arguments.len())).rev().find(|at| arguments.is_char_boundary(*at)).unwrap_or(0);
    let (uid, gid) = (status.numbers("Uid"), status.numbers("Gid"));
    let id = |ids: &[i64], map: &[[i64; 3]], at: usize| inside(map, ids.get(at).copied().unwrap_or(0));
    let info = json!({
        "pr_pid": pid,
        "pr_ppid": parent,
        "pr_pgid": field(5),
        "pr_sid": field(6),
        "pr_uid": id(&uid, uids, 0),
        "pr_euid": id(&uid, uids, 1),
        "pr_gid": id(&gid, gids, 0),
        "pr_egid": id(&gid, gids, 1),
        "pr_fname": name,
        "pr_psargs": arguments[..end],
        "pr_nlwp": status.number("Threads"),
        "pr_size": status.number("VmSize"),
        "pr_rssize": status.number("VmRSS"),
        "pr_start": booted + field(22) / TICKS,
        "pr_time": (field(14) + field(15)) / TICKS,
        "pr_ctime": (field(16) + field(17)) / TICKS,
        "pr_nice": field(19),
    });
    Ok((pid, info))
}

/// The parent's number inside the guest; 0 when it is outside, or gone.
fn parent_inside(proc: &Path, pid: i64) -> i64 {
    let status = Status::read(&proc.join(pid.to_string()));
    status.ok().and_then(|status| status.numbers("NSpid").get(1..)?.last().copied()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_inside() {
        let map = [[0, 1_000_000, 65_536]];
        assert_eq!([1_000_000, 1_000_033, 0].map(|id| inside(&map, id)), [0, 33, 65_534]);
    }

    #[test]
    fn a_process_of_this_machine_is_described() {
        let own = i64::from(std::process::id());
        let all = processes(Path::new("/proc"), own).unwrap();
        let info = all
            .as_object()
            .unwrap()
            .values()
            .map(|process| &process["psinfo"])
            .find(|info| info["pr_fname"].as_str().is_some_and(|name| name.starts_with("cn_agent")))
            .unwrap();
        assert!(info["pr_rssize"].as_i64().unwrap() > 0 && info["pr_start"].as_i64().unwrap() > 1_500_000_000);
        assert!(info["pr_nlwp"].as_i64().unwrap() >= 1 && info["pr_psargs"].as_str().unwrap().contains("cn_agent"));
        assert!(processes(Path::new("/proc"), 0).is_err());
    }
}
