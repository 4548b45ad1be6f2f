//! NICs that NAPI has here and that nobody here has: of instances that went while nobody watched (ruling 6). Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use triton_types::{InstanceUuid, JsonMap, Mac};

/// More than so many of a list, if they are more than half of it, are no leftovers: something else is wrong.
const SUSPICIOUS: usize = 10;

/// What was found at the last look.
#[derive(Debug, Default)]
pub struct Sweep {
    found: BTreeMap<Mac, (JsonMap, Instant)>,
    /// How many there were last time that were too many to be believed.
    pub held: usize,
}

/// What a look came to.
#[derive(Debug, Default, PartialEq)]
pub struct Swept {
    /// Leftovers of both looks: to be released, if they still are what they were.
    pub leftovers: Vec<(Mac, InstanceUuid)>,
    /// Another look is needed at this time.
    pub again: Option<Instant>,
}

/// The instance whose NIC this is, if it may be a leftover at all.
pub fn candidate(nic: &JsonMap) -> Option<(Mac, InstanceUuid)> {
    let text = |key: &str| nic.get(key).and_then(Value::as_str);
    let settled = text("belongs_to_type") == Some("zone") && matches!(text("state"), Some("running" | "stopped"));
    Some((text("mac")?.parse().ok()?, text("belongs_to_uuid").filter(|_| settled)?.parse().ok()?))
}

impl Sweep {
    /// Looks at all NICs that NAPI has here; two looks must find the same, so far apart. `has` says whether this node has the NIC, or
    /// an instance of which nothing may be said; `gone` whether this node destroyed the instance itself: however many those are,
    /// nothing is wrong with them.
    pub fn look(
        &mut self,
        list: &[JsonMap],
        has: impl Fn(Mac, InstanceUuid) -> bool,
        gone: impl Fn(InstanceUuid) -> bool,
        again_after: Duration,
        now: Instant,
    ) -> Swept {
        let mut before = std::mem::take(&mut self.found);
        let mut swept = Swept::default();
        let stray: Vec<_> =
            list.iter().filter_map(|nic| candidate(nic).filter(|(mac, vm)| !has(*mac, *vm)).map(|found| (found, nic))).collect();
        let unproved = stray.iter().filter(|((_, vm), _)| !gone(*vm)).count();
        self.held = if unproved > SUSPICIOUS && unproved * 2 > list.len() { unproved } else { 0 };
        for ((mac, vm), nic) in stray {
            match before.remove(&mac) {
                // Whoever changed it meanwhile has plans with it.
                Some((old, since)) if old == *nic && now >= since + again_after && (self.held == 0 || gone(vm)) => {
                    swept.leftovers.push((mac, vm));
                }
                Some((old, since)) if old == *nic => drop(self.found.insert(mac, (old, since))),
                _ => drop(self.found.insert(mac, (nic.clone(), now))),
            }
        }
        swept.again = self.found.values().map(|(_, since)| *since + again_after).filter(|at| *at > now).max();
        swept
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const AGAIN_AFTER: Duration = Duration::from_secs(180);

    fn never(_: InstanceUuid) -> bool {
        false
    }

    fn nic(n: u8, state: &str) -> JsonMap {
        let value = json!({"mac": Mac([2, 0, 0, 0, 0, n]).to_string(), "belongs_to_type": "zone", "belongs_to_uuid": InstanceUuid::random(), "state": state});
        let Value::Object(map) = value else { unreachable!() };
        map
    }

    /// Ruling 6
    #[test]
    fn a_leftover_is_found_twice_minutes_apart_unchanged() {
        let (mut sweep, begin) = (Sweep::default(), Instant::now());
        let list = [nic(1, "running"), nic(2, "stopped"), nic(3, "provisioning"), nic(4, "running")];
        let has = |mac: Mac, _| mac.0[5] == 2;
        assert_eq!(sweep.look(&list, has, never, AGAIN_AFTER, begin), Swept { leftovers: vec![], again: Some(begin + AGAIN_AFTER) });
        assert_eq!(sweep.look(&list, has, never, AGAIN_AFTER, begin + AGAIN_AFTER / 2).leftovers, []);
        let mut list = list.to_vec();
        list[3].insert("state".to_owned(), json!("stopped"));
        let swept = sweep.look(&list, has, never, AGAIN_AFTER, begin + AGAIN_AFTER);
        assert_eq!(swept.leftovers, [candidate(&list[0]).unwrap()]);
        assert_eq!(swept.again, Some(begin + 2 * AGAIN_AFTER), "the one that changed begins anew");
        // What came back, or is here by now, is forgotten.
        assert_eq!(sweep.look(&list, |_, _| true, never, AGAIN_AFTER, begin + 3 * AGAIN_AFTER), Swept::default());
    }

    #[test]
    fn when_most_of_all_nics_seem_to_be_leftovers_none_is_taken() {
        let (mut sweep, begin) = (Sweep::default(), Instant::now());
        let list: Vec<_> = (0..20).map(|n| nic(n, "running")).collect();
        for pass in 0..3 {
            assert!(sweep.look(&list, |mac, _| mac.0[5] < 5, never, AGAIN_AFTER, begin + AGAIN_AFTER * pass).leftovers.is_empty());
        }
        assert_eq!(sweep.held, 15);
        assert_eq!(sweep.look(&list, |mac, _| mac.0[5] < 15, never, AGAIN_AFTER, begin + AGAIN_AFTER * 4).leftovers.len(), 5);
    }

    #[test]
    fn what_this_node_destroyed_is_taken_however_much_it_is_and_alone() {
        let (mut sweep, begin) = (Sweep::default(), Instant::now());
        let list: Vec<_> = (0..40).map(|n| nic(n, "running")).collect();
        let proved: BTreeSet<InstanceUuid> = list[..18].iter().map(|nic| candidate(nic).unwrap().1).collect();
        let mut look = |pass| sweep.look(&list, |_, _| false, |vm| proved.contains(&vm), AGAIN_AFTER, begin + AGAIN_AFTER * pass);
        assert!(look(0).leftovers.is_empty(), "once is not enough for these either");
        assert_eq!(look(1).leftovers.iter().map(|(_, vm)| *vm).collect::<BTreeSet<_>>(), proved);
        assert_eq!(sweep.held, 22);
    }

    #[test]
    fn what_is_no_nic_of_an_instance_is_no_candidate() {
        for (key, value) in
            [("mac", json!(5)), ("belongs_to_uuid", json!("x")), ("belongs_to_type", json!("server")), ("state", json!(null))]
        {
            let mut nic = nic(1, "running");
            nic.insert(key.to_owned(), value);
            assert_eq!(candidate(&nic), None);
        }
    }
}
