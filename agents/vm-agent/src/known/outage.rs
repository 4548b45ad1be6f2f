//! VMAPI is down for an hour of simulated time while much changes.

use serde_json::json;
use triton_agent::Queue;

use super::*;
use crate::startup::pauses;

/// Instances, and changes of them during the outage.
const INSTANCES: usize = 2000;
const CHANGES: usize = 5000;

/// Issue 5, vm-agent cases 21, 26
#[test]
fn an_hour_without_vmapi_costs_one_attempt_at_a_time_and_then_one_report_for_each_instance_that_changed() {
    let uuids: Vec<InstanceUuid> = (0..INSTANCES).map(|_| InstanceUuid::random()).collect();
    let object = |n: usize, generation: usize| {
        let value = json!({"uuid": uuids[n], "state": "running", "zone_state": "running", "snapshots": [], "generation": generation});
        let serde_json::Value::Object(map) = value else { unreachable!() };
        map
    };
    let mut here: Vec<JsonMap> = (0..INSTANCES).map(|n| object(n, 0)).collect();
    let mut known = Known::default();
    for (uuid, object) in uuids.iter().zip(&here) {
        known.agreed(*uuid, body(object));
    }
    let mut queue: Queue<usize> = Queue::new(4, pauses());
    let begin = Instant::now();
    let hour = begin + Duration::from_secs(3600);
    let (mut now, mut attempts, mut changed) = (begin, 0, BTreeSet::new());
    for change in 0..CHANGES {
        // Another instance each time, some of them again and again.
        let n = change * 7919 % INSTANCES;
        here[n] = object(n, change + 1);
        changed.insert(n);
        queue.touch(n);
        let next = begin + Duration::from_millis(3_600_000 * (change as u64 + 1) / CHANGES as u64);
        while let Some(wake) = queue.next_wake(now).filter(|wake| *wake < next) {
            now = wake.max(now);
            while let Some(key) = queue.take(now) {
                attempts += 1;
                assert!(matches!(known.look(uuids[key], Loaded::Object(here[key].clone()), now), Step::Report { .. }));
                queue.finished(key, Outcome::Unavailable, now);
            }
        }
        now = next.max(now);
        assert!(queue.len() <= INSTANCES && known.counts().0 == INSTANCES, "what is kept does not grow");
    }
    assert!(now >= hour && (100..200).contains(&attempts), "{attempts} attempts in an hour");
    // It is back.
    let mut reports: BTreeMap<usize, usize> = BTreeMap::new();
    while let Some(wake) = queue.next_wake(now) {
        now = wake.max(now);
        while let Some(key) = queue.take(now) {
            let Step::Report { body, gone: false } = known.look(uuids[key], Loaded::Object(here[key].clone()), now) else {
                queue.finished(key, Outcome::Done, now);
                continue;
            };
            assert_eq!(body, super::body(&here[key]), "the last of its changes");
            *reports.entry(key).or_default() += 1;
            known.told(uuids[key], false, now);
            queue.finished(key, Outcome::Done, now);
        }
    }
    assert!(queue.is_empty() && reports.values().all(|count| *count == 1));
    assert_eq!(reports.into_keys().collect::<BTreeSet<_>>(), changed);
    let present = uuids.iter().copied().zip(here.into_iter().map(|vm| Look::Now(Loaded::Object(vm)))).collect();
    assert!(known.stale(&present).is_empty());
}
