//! Order under load (section 2.6): changes of one instance one after the other, agents' tasks one at a time, questions at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cn_agent::{Registry, TaskContext, TaskError, TaskName};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::support::{Bed, Builder, eventually};

/// What runs at once, and at most did; by what it must not run together with.
#[derive(Default)]
struct Seen {
    now: HashMap<String, usize>,
    most: HashMap<String, usize>,
    done: usize,
}

static SEEN: LazyLock<Mutex<Seen>> = LazyLock::new(Mutex::default);
static GATE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(0));
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// Stands for a change: waits until the test lets one pass.
async fn change(context: TaskContext) -> Result<Value, TaskError> {
    let key = context.params.text("uuid").unwrap_or("agents").to_owned();
    {
        let mut seen = SEEN.lock().unwrap();
        let now = *seen.now.entry(key.clone()).and_modify(|count| *count += 1).or_insert(1);
        let most = seen.most.entry(key.clone()).or_default();
        *most = now.max(*most);
    }
    INSIDE.fetch_add(1, Ordering::SeqCst);
    GATE.acquire().await.unwrap().forget();
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    let mut seen = SEEN.lock().unwrap();
    *seen.now.get_mut(&key).unwrap() -= 1;
    seen.done += 1;
    Ok(json!({}))
}

const CHANGES: [TaskName; 8] = [
    TaskName::MachineBoot,
    TaskName::MachineShutdown,
    TaskName::MachineReboot,
    TaskName::MachineUpdate,
    TaskName::MachineReprovision,
    TaskName::MachineCreateSnapshot,
    TaskName::MachineDeleteSnapshot,
    TaskName::MachineCreateImage,
];
const AGENTS: [TaskName; 3] = [TaskName::AgentInstall, TaskName::AgentsUninstall, TaskName::RefreshAgents];

fn register(registry: &mut Registry) {
    for name in CHANGES.into_iter().chain(AGENTS) {
        registry.set(name, change);
    }
}

/// cn-agent case 18
#[tokio::test]
async fn two_hundred_changes_keep_their_order_and_questions_are_answered_meanwhile() {
    const INSTANCES: usize = 20;
    let bed = Arc::new(Builder { tasks: register, ..Builder::default() }.start().await);
    let uuids: Vec<_> = (0..INSTANCES).map(|_| bed.node.add(true, false)).collect();
    let mut callers = JoinSet::new();
    // Both ends are in this process: more would need more descriptors than it has.
    let total = 200;
    for n in 0..total {
        let (name, params) = match n % 10 {
            9 => (AGENTS[n % AGENTS.len()], json!({"agents": [], "image_uuid": uuid::Uuid::new_v4()})),
            _ => (CHANGES[n % CHANGES.len()], json!({"uuid": uuids[n % INSTANCES]})),
        };
        let bed = bed.clone();
        callers.spawn(async move { bed.task(name.as_str(), params).await });
    }
    // One for each instance that was named is inside, one of the agents', and no more can get in.
    let named: usize = (0..total).filter(|n| n % 10 != 9).map(|n| n % INSTANCES).collect::<std::collections::BTreeSet<_>>().len();
    eventually("one change of each instance", || (INSIDE.load(Ordering::SeqCst) == named + 1).then_some(())).await;
    for uuid in &uuids {
        assert_eq!(bed.task("machine_load", json!({"uuid": uuid})).await.status, 200);
    }
    assert_eq!(bed.task("server_sysinfo", json!({})).await.status, 200);
    assert_eq!(SEEN.lock().unwrap().done, 0, "questions were answered while nothing went on");
    GATE.add_permits(total);
    while let Some(reply) = callers.join_next().await {
        assert_eq!(reply.unwrap().status, 200);
    }
    let seen = SEEN.lock().unwrap();
    assert_eq!(seen.done, total);
    assert!(seen.most.len() == named + 1 && seen.most.values().all(|most| *most == 1), "{:?}", seen.most);
}

#[tokio::test]
async fn changes_that_are_more_than_threads_do_not_keep_questions_from_theirs() {
    let bed = Arc::new(Bed::start().await);
    let uuids: Vec<_> = (0..60).map(|_| bed.node.add(true, false)).collect();
    bed.node.close_gate();
    let stops: Vec<_> = uuids.iter().map(|uuid| bed.later("machine_shutdown", json!({"uuid": uuid}))).collect();
    let asked = || bed.node.calls().iter().filter(|call| call.starts_with("stop")).count();
    eventually("as many stops as may run at once", || (asked() >= 20).then_some(())).await;
    for uuid in &uuids {
        assert_eq!(bed.task("machine_load", json!({"uuid": uuid})).await.status, 200);
    }
    assert_eq!(asked(), 20, "the others wait without a thread");
    bed.node.open_gate();
    for stop in stops {
        assert_eq!(stop.await.unwrap().status, 200);
    }
}
