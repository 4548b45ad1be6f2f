//! The private range of host ids that each instance has for as long as its machine file exists (instances.md section 7.2).

use triton_types::{IdRange, MachineFile};

/// First id handed out; below are the host's own users and what distributions give to `subuid`.
const FIRST: u32 = 1_000_000;
/// Ids per instance.
const SIZE: u32 = 65_536;
/// Ranges that fit below 2^31, where some kernels' interfaces stop.
const SLOTS: u32 = (i32::MAX as u32 - FIRST) / SIZE;

/// The lowest range that no instance in `taken` has. `None` when all are taken.
pub fn lowest_free(taken: impl IntoIterator<Item = IdRange>) -> Option<IdRange> {
    let mut used: Vec<u32> = taken
        .into_iter()
        .filter(|range| range.base >= FIRST)
        .flat_map(|range| (range.base - FIRST) / SIZE..=(range.base - FIRST).saturating_add(range.size.max(1) - 1) / SIZE)
        .collect();
    used.sort_unstable();
    used.dedup();
    let slot = (0..SLOTS).find(|slot| used.binary_search(slot).is_err())?;
    Some(IdRange { base: FIRST + slot * SIZE, size: SIZE })
}

/// The ranges that machine files hold.
pub fn of<'a>(files: impl IntoIterator<Item = &'a MachineFile>) -> Vec<IdRange> {
    files.into_iter().filter_map(|file| file.storage.as_ref().map(|storage| storage.ids)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_freed_ones_come_back() {
        let mut taken = Vec::new();
        for _ in 0..2000 {
            taken.push(lowest_free(taken.iter().copied()).unwrap());
        }
        let mut bases: Vec<u32> = taken.iter().map(|r| r.base).collect();
        bases.sort_unstable();
        assert!(bases.windows(2).all(|pair| pair[1] - pair[0] >= SIZE));
        let freed = taken.remove(7);
        assert_eq!(lowest_free(taken), Some(freed));
    }

    #[test]
    fn a_range_of_another_size_blocks_all_that_it_touches() {
        let wide = IdRange { base: FIRST + 1, size: SIZE };
        assert_eq!(lowest_free([wide]).unwrap().base, FIRST + 2 * SIZE);
    }
}
