//! How the memory properties follow each other (instances.md section 2.3). The order of the steps is the contract's.

use serde_json::Value;
use triton_types::JsonMap;

use crate::{limits, property, table::Kind, value};

/// The memory properties of a payload or of an instance; sizes in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub phys: Option<u64>,
    pub locked: Option<u64>,
    pub swap: Option<u64>,
    pub tmpfs: Option<u64>,
    pub shm_memory: Option<u64>,
    pub msg_ids: Option<u64>,
    pub sem_ids: Option<u64>,
    pub shm_ids: Option<u64>,
}

impl Memory {
    /// Reads a payload that passed validation, or a stored configuration. `ram` stands in for an absent
    /// `max_physical_memory` (step 1).
    pub(crate) fn read(map: &JsonMap) -> Self {
        let get = |name: &str| {
            let Kind::Integer(min, max) = property(name)?.kind else { return None };
            value::integer(map.get(name)?, min, max).ok().flatten()
        };
        Self {
            phys: get("max_physical_memory").or_else(|| get("ram")),
            locked: get("max_locked_memory"),
            swap: get("max_swap"),
            tmpfs: get("tmpfs"),
            shm_memory: get("max_shm_memory"),
            msg_ids: get("max_msg_ids"),
            sem_ids: get("max_sem_ids"),
            shm_ids: get("max_shm_ids"),
        }
    }

    /// Writes what is known into a configuration.
    pub(crate) fn write(&self, map: &mut JsonMap) {
        for (name, size) in self.named() {
            if let Some(size) = size {
                map.insert(name.to_owned(), Value::from(size));
            }
        }
    }

    fn named(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("max_physical_memory", self.phys),
            ("max_locked_memory", self.locked),
            ("max_swap", self.swap),
            ("max_shm_memory", self.shm_memory),
            ("max_msg_ids", self.msg_ids),
            ("max_sem_ids", self.sem_ids),
            ("max_shm_ids", self.shm_ids),
            ("tmpfs", self.tmpfs),
        ]
    }

    fn over(self, old: Self) -> Self {
        Self {
            phys: self.phys.or(old.phys),
            locked: self.locked.or(old.locked),
            swap: self.swap.or(old.swap),
            tmpfs: self.tmpfs.or(old.tmpfs),
            shm_memory: self.shm_memory.or(old.shm_memory),
            msg_ids: self.msg_ids.or(old.msg_ids),
            sem_ids: self.sem_ids.or(old.sem_ids),
            shm_ids: self.shm_ids.or(old.shm_ids),
        }
    }
}

/// The memory properties after a payload on top of what the instance has (nothing at creation). Values out of order are
/// corrected, with a warning each.
pub(crate) fn relate(payload: Memory, old: Memory, warnings: &mut Vec<String>) -> Memory {
    if payload == Memory::default() {
        return old;
    }
    let mut new = payload;
    if let Some(phys) = payload.phys {
        if new.locked.is_none() {
            new.locked = Some(match (old.phys, old.locked) {
                (Some(old_phys), Some(old_locked)) => moved(phys, old_phys, old_locked),
                _ => phys,
            });
        }
        if new.swap.is_none() {
            let swap = match (old.phys, old.swap) {
                (Some(_), Some(limits::MIN_SWAP)) if phys >= limits::MIN_SWAP => phys,
                (Some(old_phys), Some(old_swap)) => moved(phys, old_phys, old_swap),
                _ => phys,
            };
            new.swap = Some(swap.max(limits::MIN_SWAP));
        }
        if new.tmpfs.is_none() {
            new.tmpfs = Some(match (old.phys, old.tmpfs) {
                (Some(old_phys), Some(old_tmpfs)) if old_phys > 0 => scaled(phys, old_phys, old_tmpfs),
                _ => phys,
            });
        }
    }
    let mut all = new.over(old);
    let Some(phys) = all.phys else { return all };
    clamp("tmpfs", &mut all.tmpfs, |size| size.min(phys), phys, warnings);
    clamp("max_locked_memory", &mut all.locked, |size| size.min(phys), phys, warnings);
    clamp("max_swap", &mut all.swap, |size| size.max(phys), phys, warnings);
    if payload.phys.is_some() {
        all.shm_memory.get_or_insert(phys);
        for ids in [&mut all.msg_ids, &mut all.sem_ids, &mut all.shm_ids] {
            ids.get_or_insert(4096);
        }
    }
    all
}

/// `value` moved by as much as `old_phys` became `phys`, not below zero.
fn moved(phys: u64, old_phys: u64, value: u64) -> u64 {
    let moved = i128::from(phys) + i128::from(value) - i128::from(old_phys);
    u64::try_from(moved.max(0)).unwrap_or(limits::INTEGER).min(limits::INTEGER)
}

/// `value` in the proportion in which `old_phys` became `phys`, rounded.
fn scaled(phys: u64, old_phys: u64, value: u64) -> u64 {
    let (phys, old_phys, value) = (u128::from(phys), u128::from(old_phys), u128::from(value));
    u64::try_from((phys * value + old_phys / 2) / old_phys).unwrap_or(limits::INTEGER)
}

fn clamp(name: &str, size: &mut Option<u64>, rule: impl Fn(u64) -> u64, phys: u64, warnings: &mut Vec<String>) {
    if let Some(given) = *size {
        let right = rule(given);
        if right != given {
            warnings.push(format!("{name} {given} does not fit max_physical_memory {phys}: using {right}"));
            *size = Some(right);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(size: u64) -> Memory {
        relate(Memory { phys: Some(size), ..Memory::default() }, Memory::default(), &mut Vec::new())
    }

    fn change(payload: Memory, old: Memory) -> [Option<u64>; 4] {
        let new = relate(payload, old, &mut Vec::new());
        [new.phys, new.locked, new.swap, new.tmpfs]
    }

    fn phys(size: u64) -> Memory {
        Memory { phys: Some(size), ..Memory::default() }
    }

    /// instances cases 24, 25, 28
    #[test]
    fn everything_follows_physical_memory() {
        assert_eq!(change(phys(1024), all(512)), [Some(1024); 4]);
        assert_eq!(change(phys(256), all(1024)), [Some(256); 4]);
        assert_eq!(change(phys(128), all(512)), [Some(128), Some(128), Some(256), Some(128)]);
    }

    #[test]
    fn differences_and_ratios_are_kept() {
        let old = Memory { phys: Some(512), locked: Some(256), swap: Some(1024), tmpfs: Some(128), ..all(512) };
        assert_eq!(change(phys(1024), old), [Some(1024), Some(768), Some(1536), Some(256)]);
        assert_eq!(change(phys(128), old), [Some(128), Some(0), Some(640), Some(32)]);
        let old = Memory { tmpfs: Some(0), ..all(512) };
        assert_eq!(change(phys(1024), old)[3], Some(0), "no tmpfs stays no tmpfs");
        let old = all(128);
        assert_eq!((old.swap, change(phys(512), old)[2]), (Some(256), Some(512)), "the least swap is no wish");
    }

    /// instances cases 26, 27
    #[test]
    fn values_out_of_order_are_corrected_with_a_warning() {
        let mut warnings = Vec::new();
        let new = relate(Memory { swap: Some(300), ..Memory::default() }, all(512), &mut warnings);
        assert_eq!((new.swap, warnings.len()), (Some(512), 1));
        assert_eq!(change(Memory { swap: Some(2048), ..Memory::default() }, all(512)), [Some(512), Some(512), Some(2048), Some(512)]);
        assert_eq!(change(Memory { locked: Some(4096), ..Memory::default() }, all(512))[1], Some(512));
        assert_eq!(change(Memory { tmpfs: Some(4096), ..Memory::default() }, all(512))[3], Some(512));
    }

    fn size() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![Just(None), (0u64..4096).prop_map(Some), Just(Some(limits::INTEGER))]
    }

    proptest! {
        #[test]
        fn locked_and_tmpfs_fit_in_physical_memory_and_that_in_swap(
            first in (size(), size(), size(), size()), later in proptest::collection::vec((size(), size(), size(), size()), 0..6)
        ) {
            let make = |(phys, locked, swap, tmpfs): (Option<u64>, Option<u64>, Option<u64>, Option<u64>)| Memory {
                phys, locked, swap: swap.map(|s| s.max(limits::MIN_SWAP)), tmpfs, ..Memory::default()
            };
            let mut memory = relate(Memory { phys: first.0.or(Some(256)), ..make(first) }, Memory::default(), &mut Vec::new());
            for step in later {
                memory = relate(make(step), memory, &mut Vec::new());
                let phys = memory.phys.unwrap();
                prop_assert!(memory.locked.unwrap() <= phys && phys <= memory.swap.unwrap(), "{memory:?}");
                prop_assert!(memory.tmpfs.unwrap() <= phys && memory.swap.unwrap() >= limits::MIN_SWAP, "{memory:?}");
                prop_assert_eq!(relate(memory, memory, &mut Vec::new()), memory, "what is right stays");
            }
        }
    }
}
