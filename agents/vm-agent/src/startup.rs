//! The comparison with VMAPI: at start, after every failed start, and once an hour (vm-agent.md section 5).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use tracing::{info, warn};
use triton_agent::Backoff;
use triton_headnode::{HttpError, VmApi};
use triton_instance::{Inventory, Loaded, is_hidden};
use triton_types::{InstanceUuid, Packed};

use crate::{
    compare::{body, destroyed, differs, is_being_provisioned},
    known::Known,
};

/// First pause after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause; with its jitter it stays below the contract's 30 s.
const LONGEST: Duration = Duration::from_millis(28_500);

/// The pauses of the contract: 500 ms, doubling, at most 30 s. The jitter keeps a data centre of nodes apart and the pauses growing.
pub fn pauses() -> Backoff {
    Backoff::new(FIRST, 2.0, LONGEST, 0.05)
}

/// Largest body of one bulk report, in bytes, unless one instance alone is larger (ruling 5).
const CHUNK: usize = 8 << 20;
/// An instance that VMAPI has as `provisioning` for less than this, in milliseconds, may be on its way here.
const PROVISIONING_LIMIT_MS: i64 = 600_000;

/// Why a comparison came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// VMAPI did not answer, or refused.
    #[error(transparent)]
    Vmapi(#[from] HttpError),
    /// The local list is not known to be complete.
    #[error("the instances of this node are not known: {0}")]
    Local(String),
}

/// What came of it.
#[derive(Debug)]
pub struct Comparison {
    /// Local objects that VMAPI has otherwise, or not at all.
    pub changed: Vec<(InstanceUuid, Bytes)>,
    /// Instances that VMAPI has here and that do not exist, as they are to be reported.
    pub gone: Vec<(InstanceUuid, Bytes)>,
    /// Local objects that VMAPI has just so.
    pub same: Vec<(InstanceUuid, Bytes)>,
    /// What is only remembered: hidden and unreadable instances.
    pub silent: Vec<(InstanceUuid, Loaded)>,
}

/// A comparison under way: instances come one by one. Pure.
#[derive(Debug)]
pub struct Comparing {
    remote: BTreeMap<InstanceUuid, Packed>,
    result: Comparison,
}

impl Comparing {
    /// With what VMAPI has of this node.
    pub fn with(remote: BTreeMap<InstanceUuid, Packed>) -> Self {
        Self { remote, result: Comparison { changed: Vec::new(), gone: Vec::new(), same: Vec::new(), silent: Vec::new() } }
    }

    /// One instance of this node.
    pub fn see(&mut self, uuid: InstanceUuid, loaded: Loaded) {
        let theirs = self.remote.remove(&uuid);
        match loaded {
            Loaded::Object(vm) if !is_hidden(&vm) => {
                let is_same = theirs.is_some_and(|theirs| !differs(&vm, &theirs.unpack()));
                let list = if is_same { &mut self.result.same } else { &mut self.result.changed };
                list.push((uuid, body(&vm)));
            }
            other => self.result.silent.push((uuid, other)),
        }
    }

    /// There are no more. It is now `now_ms`, in milliseconds of Unix time.
    pub fn end(mut self, now_ms: i64) -> Comparison {
        for (uuid, vm) in self.remote {
            let vm = vm.unpack();
            if is_being_provisioned(&vm, now_ms, PROVISIONING_LIMIT_MS) {
                info!(vm_uuid = %uuid, "VMAPI has an instance here that is still being provisioned: it is left alone");
            } else {
                self.result.gone.push((uuid, body(&destroyed(vm))));
            }
        }
        self.result
    }
}

/// Bodies of bulk reports for these objects, each at most [`CHUNK`] bytes if its objects allow.
pub fn bulk_bodies<'a>(objects: impl Iterator<Item = &'a (InstanceUuid, Bytes)>) -> Vec<Bytes> {
    const HEAD: &[u8] = br#"{"vms":{"#;
    const TAIL: &[u8] = b"}}";
    let mut bodies = Vec::new();
    let mut current = BytesMut::new();
    for (uuid, vm) in objects {
        let entry = format!(r#""{uuid}":"#);
        if !current.is_empty() && current.len() + entry.len() + vm.len() + 1 + TAIL.len() > CHUNK {
            current.put_slice(TAIL);
            bodies.push(std::mem::take(&mut current).freeze());
        }
        current.put_slice(if current.is_empty() { HEAD } else { b"," });
        current.put_slice(entry.as_bytes());
        current.put_slice(vm);
    }
    if !current.is_empty() {
        current.put_slice(TAIL);
        bodies.push(current.freeze());
    }
    bodies
}

/// Compares with VMAPI and tells it in bulk what it has wrong. Afterwards `known` has what VMAPI has. Instances that a bulk report cannot
/// carry (VMAPI says that it is at fault itself) are returned: they are reported one by one.
///
/// # Errors
/// When VMAPI or the local list could not be had. Nothing may be reused then: the next attempt begins anew.
pub async fn synchronise(vmapi: &VmApi, inventory: &Arc<dyn Inventory>, known: &mut Known) -> Result<Vec<InstanceUuid>, CompareError> {
    let remote = vmapi.active().await?;
    let inventory = inventory.clone();
    let compare = move || {
        let mut comparing = Comparing::with(remote);
        inventory.each(&mut |uuid, loaded| comparing.see(uuid, loaded))?;
        Ok(comparing.end(jiff::Timestamp::now().as_millisecond()))
    };
    let compared = tokio::task::spawn_blocking(compare).await.unwrap_or_else(|error| Err(error.to_string()));
    let comparison = compared.map_err(CompareError::Local)?;
    let (changed, gone) = (comparison.changed.len(), comparison.gone.len());
    let mut one_by_one = Vec::new();
    let all = || comparison.changed.iter().chain(&comparison.gone);
    let mut refused = false;
    for chunk in bulk_bodies(all()) {
        match vmapi.put_all(chunk).await {
            Ok(()) => {}
            Err(error) if error.status().is_some_and(is_about_the_body) => {
                warn!(error = %triton_agent::chain(&error), "VMAPI refuses the bulk report: each instance is reported by itself");
                refused = true;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let now = std::time::Instant::now();
    for (uuid, loaded) in comparison.silent {
        known.look(uuid, loaded, now);
    }
    for (uuid, body) in comparison.same {
        known.agreed(uuid, body);
    }
    for (uuid, body) in comparison.changed {
        if refused {
            one_by_one.push(uuid);
        } else {
            known.agreed(uuid, body);
        }
    }
    if refused {
        // Their last object is VMAPI's own; looking at them finds them absent and reports that.
        for (uuid, body) in comparison.gone {
            known.agreed(uuid, body);
            one_by_one.push(uuid);
        }
    }
    info!(changed, gone, in_bulk = !refused, "compared with VMAPI");
    Ok(one_by_one)
}

/// A status by which VMAPI says that the request itself is at fault, so that repeating it is no use.
fn is_about_the_body(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use triton_types::JsonMap;

    use super::*;

    fn vm(uuid: InstanceUuid, extra: Value) -> JsonMap {
        let vm = json!({"uuid": uuid, "brand": "lx", "state": "stopped", "zone_state": "installed", "snapshots": []});
        let (Value::Object(mut vm), Value::Object(extra)) = (vm, extra) else { panic!("no objects") };
        vm.extend(extra);
        vm
    }

    fn uuids(list: &[(InstanceUuid, Bytes)]) -> Vec<InstanceUuid> {
        list.iter().map(|(uuid, _)| *uuid).collect()
    }

    /// vm-agent case 1, 2, 3, 28
    #[test]
    fn each_instance_finds_its_list() {
        let [new, same, gone, hidden, unreadable, coming] = std::array::from_fn(|_| InstanceUuid::random());
        let local = vec![
            (new, Loaded::Object(vm(new, json!({})))),
            (same, Loaded::Object(vm(same, json!({})))),
            (hidden, Loaded::Object(vm(hidden, json!({"do_not_inventory": true})))),
            (unreadable, Loaded::Unreadable("garbage".to_owned())),
        ];
        let remote = BTreeMap::from([
            (same, vm(same, json!({"alias": null, "datasets": []}))),
            (gone, vm(gone, json!({"alias": "web0", "owner_uuid": "o"}))),
            (hidden, vm(hidden, json!({}))),
            (unreadable, vm(unreadable, json!({}))),
            (coming, vm(coming, json!({"state": "provisioning", "create_timestamp": 1000}))),
        ]);
        let mut comparing = Comparing::with(remote.iter().map(|(uuid, vm)| (*uuid, Packed::from(vm))).collect());
        local.into_iter().for_each(|(uuid, loaded)| comparing.see(uuid, loaded));
        let result = comparing.end(2000);
        assert_eq!((uuids(&result.changed), uuids(&result.same), uuids(&result.gone)), (vec![new], vec![same], vec![gone]));
        assert_eq!(result.silent.len(), 2, "what exists here is never called destroyed");
        let told: Value = serde_json::from_slice(&result.gone[0].1).unwrap();
        let expected = vm(gone, json!({"alias": "web0", "owner_uuid": "o", "state": "destroyed", "zone_state": "destroyed"}));
        assert_eq!(told, Value::Object(expected));
    }

    /// vm-agent case 12, 14
    #[test]
    fn pauses_grow_from_half_a_second_and_never_exceed_half_a_minute() {
        for _ in 0..50 {
            let mut pauses = pauses();
            let given: Vec<Duration> = (0..30).map(|_| pauses.next_delay()).collect();
            assert!(given[..6].windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
            assert!(given.iter().all(|pause| *pause <= Duration::from_secs(30)) && given[0] >= Duration::from_millis(475), "{given:?}");
        }
    }

    #[test]
    fn bulk_reports_are_cut_where_they_would_grow_too_large_and_hold_every_object_once() {
        let objects: Vec<_> =
            (0..40).map(|n| (InstanceUuid::random(), Bytes::from(format!(r#"{{"n":{n},"x":"{}"}}"#, "y".repeat(1 << 20))))).collect();
        let bodies = bulk_bodies(objects.iter());
        assert!(bodies.len() > 4 && bodies.iter().all(|body| body.len() <= CHUNK));
        let mut seen = 0;
        for body in bodies {
            let parsed: Value = serde_json::from_slice(&body).unwrap();
            for (uuid, vm) in parsed["vms"].as_object().unwrap() {
                let (expected, _) = &objects[vm["n"].as_u64().unwrap() as usize];
                assert_eq!(*uuid, expected.to_string());
                seen += 1;
            }
        }
        assert_eq!(seen, 40);
        assert!(bulk_bodies([].iter()).is_empty());
        let huge = [(InstanceUuid::random(), Bytes::from(format!(r#"{{"x":"{}"}}"#, "y".repeat(CHUNK))))];
        assert_eq!(bulk_bodies(huge.iter()).len(), 1);
    }
}
