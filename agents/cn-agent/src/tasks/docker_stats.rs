//! `docker_stats`: what an instance uses, in docker's words, once or every second (cn-agent.md section 3.13).
//!
//! From the control group of the instance's processes, of either generation, and from the counters of its interfaces.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use triton_cgroup::Cgroups;
use triton_types::{ProcessRef, Timestamp};

use super::{
    Model,
    docker::{Guest, offer},
};
use crate::{TaskContext, TaskError};

const EVERY: Duration = Duration::from_secs(1);
/// Nanoseconds in a tick of `/proc/stat`.
const TICK: u64 = 10_000_000;

/// Where the figures are.
#[derive(Clone, Debug)]
struct Source {
    payload: String,
    init: ProcessRef,
    /// A map of interfaces, as callers of docker 1.9 and newer expect, in place of their sum.
    by_interface: bool,
    limit: u64,
}

/// Sends figures until the caller has enough of them.
pub(super) async fn docker_stats(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let payload = context.params.get("payload").and_then(Value::as_object).ok_or(TaskError::Crashed(context.name))?;
    let stream = payload.get("doStream").and_then(Value::as_bool).unwrap_or(false);
    let version = payload.get("clientApiVersion").and_then(Value::as_f64).unwrap_or(1.21);
    let guest = Guest::of(&model, &context).await?;
    guest.must_run(&context)?;
    let Some(init) = guest.place.init else { return Err(TaskError::Crashed(context.name)) };
    let limit = guest.vm["max_physical_memory"].as_u64().unwrap_or(0).saturating_mul(1 << 20);
    let source = Source { payload: guest.place.payload, init, by_interface: version >= 1.21, limit };
    offer(&model, move |socket| async move {
        if let Err(error) = serve(socket, source, stream).await {
            tracing::debug!(%error, "figures of an instance are no longer wanted");
        }
    })
    .await
}

async fn serve(socket: TcpStream, source: Source, stream: bool) -> std::io::Result<()> {
    let (mut from, mut to) = socket.into_split();
    let mut before: Option<Value> = None;
    let mut rest = [0; 64];
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            read = from.read(&mut rest) => match read? {
                0 => return Ok(()),
                _ => continue,
            },
        }
        let (look, earlier) = (source.clone(), before.take());
        let figures = tokio::task::spawn_blocking(move || figures(&look, earlier.as_ref())).await.map_err(std::io::Error::other)?;
        let Some(figures) = figures else { return to.shutdown().await };
        to.write_all(format!("{figures}\r\n").as_bytes()).await?;
        if !stream {
            return to.shutdown().await;
        }
        before = Some(figures["cpu_stats"].clone());
    }
}

/// Words and numbers of a file of a group.
fn table(text: &str) -> BTreeMap<&str, u64> {
    text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(key, value)| Some((key, value.trim().parse().ok()?))).collect()
}

/// All figures; `None` when the instance has ended.
fn figures(source: &Source, cpu_before: Option<&Value>) -> Option<Value> {
    let cgroups = Cgroups::probe().ok()?;
    if !triton_process::is_alive(source.init) || !cgroups.exists(&source.payload) {
        return None;
    }
    let read = |file: &str| cgroups.get(&source.payload, file).unwrap_or_default();
    let none = json!({"cpu_usage": {"total_usage": 0, "percpu_usage": [], "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "system_cpu_usage": 0, "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}});
    let mut figures = json!({
        "read": Timestamp::now(),
        "cpu_stats": processors(&read),
        "precpu_stats": cpu_before.cloned().unwrap_or(none),
        "memory_stats": memory(&read, source.limit),
        "blkio_stats": disks(&read),
        "pids_stats": {"current": cgroups.pids(&source.payload).map_or(0, |pids| pids.len())},
    });
    let text = fs::read_to_string(format!("/proc/{}/net/dev", source.init.pid)).unwrap_or_default();
    let interfaces = interfaces(&text);
    if source.by_interface {
        figures["networks"] = Value::Object(interfaces);
    } else {
        figures["network"] = sum(&interfaces);
    }
    Some(figures)
}

fn processors(read: &impl Fn(&str) -> String) -> Value {
    let unified = read("cpu.stat");
    let unified = table(&unified);
    let legacy = read("cpuacct.stat");
    let legacy = table(&legacy);
    let pick = |new: &str, old: Option<u64>| unified.get(new).map(|micros| micros * 1000).or(old).unwrap_or(0);
    let total = pick("usage_usec", read("cpuacct.usage").parse().ok());
    let each: Vec<u64> = read("cpuacct.usage_percpu").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let all = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 =
        all.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).filter_map(|word| word.parse::<u64>().ok()).sum();
    json!({
        "cpu_usage": {
            "total_usage": total,
            "percpu_usage": if each.is_empty() { vec![total] } else { each },
            "usage_in_kernelmode": pick("system_usec", legacy.get("system").map(|ticks| ticks * TICK)),
            "usage_in_usermode": pick("user_usec", legacy.get("user").map(|ticks| ticks * TICK)),
        },
        "system_cpu_usage": ticks * TICK,
        "online_cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "throttling_data": {
            "periods": unified.get("nr_periods").copied().unwrap_or(0),
            "throttled_periods": unified.get("nr_throttled").copied().unwrap_or(0),
            "throttled_time": unified.get("throttled_usec").map(|micros| micros * 1000).or_else(|| unified.get("throttled_time").copied()).unwrap_or(0),
        },
    })
}

fn memory(read: &impl Fn(&str) -> String, declared: u64) -> Value {
    let text = read("memory.stat");
    let stat = table(&text);
    let number = |files: [&str; 2]| files.iter().find_map(|file| read(file).parse::<u64>().ok());
    let of = |names: [&str; 2]| names.iter().find_map(|name| stat.get(name).copied()).unwrap_or(0);
    let enforced = number(["memory.max", "memory.limit_in_bytes"]).filter(|limit| *limit < 1 << 60);
    let events = read("memory.events");
    let failures = table(&events).get("max").copied().or_else(|| read("memory.failcnt").parse().ok()).unwrap_or(0);
    let (resident, cache) = (of(["anon", "total_rss"]), of(["file", "total_cache"]));
    json!({
        "usage": number(["memory.current", "memory.usage_in_bytes"]).unwrap_or(0),
        "max_usage": number(["memory.peak", "memory.max_usage_in_bytes"]).unwrap_or(0),
        "failcnt": failures,
        "limit": enforced.unwrap_or(declared),
        "stats": {
            "rss": resident, "total_rss": resident, "cache": cache, "total_cache": cache,
            "active_anon": of(["active_anon", "total_active_anon"]), "inactive_anon": of(["inactive_anon", "total_inactive_anon"]),
            "active_file": of(["active_file", "total_active_file"]), "inactive_file": of(["inactive_file", "total_inactive_file"]),
            "mapped_file": of(["file_mapped", "total_mapped_file"]), "unevictable": of(["unevictable", "total_unevictable"]),
            "pgfault": of(["pgfault", "total_pgfault"]), "pgmajfault": of(["pgmajfault", "total_pgmajfault"]),
            "swap": number(["memory.swap.current", "memory.memsw.usage_in_bytes"]).unwrap_or(0),
            "hierarchical_memory_limit": enforced.unwrap_or(declared),
        },
    })
}

/// Bytes and operations by disk, from `io.stat`; without the controller there are none.
fn disks(read: &impl Fn(&str) -> String) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in read("io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|disk| disk.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            let number = |text: &str| text.parse::<u64>().unwrap_or(0);
            list.push(json!({"major": number(major), "minor": number(minor), "op": operation, "value": number(value)}));
        }
    }
    json!({"io_service_bytes_recursive": bytes, "io_serviced_recursive": operations, "io_queue_recursive": [],
        "io_service_time_recursive": [], "io_wait_time_recursive": [], "io_merged_recursive": [], "io_time_recursive": [], "sectors_recursive": []})
}

const COUNTERS: [(&str, usize); 8] = [
    ("rx_bytes", 0),
    ("rx_packets", 1),
    ("rx_errors", 2),
    ("rx_dropped", 3),
    ("tx_bytes", 8),
    ("tx_packets", 9),
    ("tx_errors", 10),
    ("tx_dropped", 11),
];

/// `/proc/<pid>/net/dev` without the loopback interface.
fn interfaces(text: &str) -> Map<String, Value> {
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let figures = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        let pairs = COUNTERS.iter().map(|(name, at)| ((*name).to_owned(), Value::from(numbers.get(*at).copied().unwrap_or(0))));
        Value::Object(pairs.collect())
    };
    lines.map(|(name, line)| (name.trim().to_owned(), figures(line))).collect()
}

fn sum(interfaces: &Map<String, Value>) -> Value {
    let total = |name: &str| interfaces.values().filter_map(|interface| interface[name].as_u64()).sum::<u64>();
    Value::Object(COUNTERS.iter().map(|(name, _)| ((*name).to_owned(), Value::from(total(name)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'a>(all: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> String + 'a {
        move |name| all.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned()).unwrap_or_default()
    }

    #[test]
    fn both_generations_of_control_groups_give_the_same_figures() {
        let new = files(&[
            ("cpu.stat", "usage_usec 2500\nuser_usec 2000\nsystem_usec 500\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9"),
            ("memory.stat", "anon 100\nfile 200\npgfault 3"),
            ("memory.current", "350"),
            ("memory.max", "1048576"),
            ("memory.events", "low 0\nmax 4\noom 0"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0"),
        ]);
        let old = files(&[
            ("cpuacct.usage", "2500000"),
            ("cpuacct.stat", "user 3\nsystem 1"),
            ("memory.stat", "total_rss 100\ntotal_cache 200\ntotal_pgfault 3"),
            ("memory.usage_in_bytes", "350"),
            ("memory.limit_in_bytes", "9223372036854771712"),
            ("memory.failcnt", "4"),
        ]);
        assert_eq!(processors(&new)["cpu_usage"]["total_usage"], 2_500_000);
        assert_eq!(processors(&old)["cpu_usage"]["total_usage"], 2_500_000);
        assert_eq!(processors(&old)["cpu_usage"]["usage_in_usermode"], 30_000_000);
        assert_eq!(processors(&new)["throttling_data"], json!({"periods": 7, "throttled_periods": 2, "throttled_time": 9000}));
        let (new_memory, old_memory) = (memory(&new, 77), memory(&old, 77));
        assert_eq!((&new_memory["usage"], &new_memory["limit"], &new_memory["failcnt"]), (&json!(350), &json!(1_048_576), &json!(4)));
        assert_eq!((&old_memory["usage"], &old_memory["limit"], &old_memory["failcnt"]), (&json!(350), &json!(77), &json!(4)));
        assert_eq!(new_memory["stats"]["rss"], old_memory["stats"]["rss"]);
        assert_eq!(disks(&new)["io_service_bytes_recursive"][1], json!({"major": 8, "minor": 0, "op": "Write", "value": 20}));
        assert_eq!(disks(&old)["io_service_bytes_recursive"], json!([]));
    }

    #[test]
    fn interfaces_are_counted_each_or_together_without_the_loopback() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n  eth1: 10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n";
        let all = interfaces(text);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!((&all["eth0"]["rx_dropped"], &all["eth1"]["tx_packets"]), (&json!(4), &json!(40)));
        assert_eq!((&sum(&all)["rx_bytes"], &sum(&all)["tx_bytes"]), (&json!(11), &json!(35)));
    }
}
