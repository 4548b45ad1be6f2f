//! The private range of host ids that each instance has for as long as its machine file exists (instances.md section 7.2).

use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json, write_json};
use triton_types::{IdRange, MachineFile};

/// First id handed out; below are the host's own users and what distributions give to `subuid`.
const FIRST: u32 = 1_000_000;
/// Ids per instance.
const SIZE: u32 = 65_536;
/// Ranges that fit below 2^31, where some kernels' interfaces stop.
const SLOTS: u32 = (i32::MAX as u32 - FIRST) / SIZE;

/// The highest range ever given on this node: a range above it belongs to nobody, whatever else cannot be read.
#[derive(Debug, Serialize, Deserialize)]
struct Highest {
    format: u32,
    base: u32,
}

/// Chooses a range for a new instance beside `files`. `all_known` says that no machine file was unreadable: only then may a
/// range that seems free below the highest one be given again. The caller holds the claims' lock.
///
/// # Errors
/// When what is remembered cannot be read or written. `None` when no range is left.
pub fn choose(layout: &Layout, files: &[MachineFile], all_known: bool) -> Result<Option<IdRange>, FileError> {
    let path = layout.state().join("id-ranges.json");
    let taken = of(files);
    let remembered = match read_json::<Highest>(&path) {
        Ok(highest) => highest.map(|highest| highest.base),
        // It is needed only beside files that cannot be read; else it is made anew.
        Err(_) if all_known => None,
        Err(error) => return Err(error),
    };
    let highest = taken.iter().map(|range| range.base).chain(remembered).max();
    let from = if all_known { FIRST } else { highest.map_or(FIRST, |base| base.saturating_add(SIZE)) };
    let Some(range) = lowest_free(taken, from) else { return Ok(None) };
    if remembered.is_none_or(|base| base < range.base) {
        write_json(&path, &Highest { format: 1, base: highest.unwrap_or(range.base).max(range.base) }, 0o644)?;
    }
    Ok(Some(range))
}

/// The lowest range from `from` on that no instance in `taken` has. `None` when all are taken.
fn lowest_free(taken: impl IntoIterator<Item = IdRange>, from: u32) -> Option<IdRange> {
    let mut used: Vec<u32> = taken
        .into_iter()
        .filter(|range| range.base >= FIRST)
        .flat_map(|range| (range.base - FIRST) / SIZE..=(range.base - FIRST).saturating_add(range.size.max(1) - 1) / SIZE)
        .collect();
    used.sort_unstable();
    used.dedup();
    let slot = (from.saturating_sub(FIRST).div_ceil(SIZE)..SLOTS).find(|slot| used.binary_search(slot).is_err())?;
    Some(IdRange { base: FIRST + slot * SIZE, size: SIZE })
}

/// The ranges that machine files hold.
fn of<'a>(files: impl IntoIterator<Item = &'a MachineFile>) -> Vec<IdRange> {
    files.into_iter().filter_map(|file| file.storage.as_ref().map(|storage| storage.ids)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_freed_ones_come_back() {
        let mut taken = Vec::new();
        for _ in 0..2000 {
            taken.push(lowest_free(taken.iter().copied(), FIRST).unwrap());
        }
        let mut bases: Vec<u32> = taken.iter().map(|r| r.base).collect();
        bases.sort_unstable();
        assert!(bases.windows(2).all(|pair| pair[1] - pair[0] >= SIZE));
        let freed = taken.remove(7);
        assert_eq!(lowest_free(taken, FIRST), Some(freed));
    }

    #[test]
    fn a_range_of_another_size_blocks_all_that_it_touches() {
        let wide = IdRange { base: FIRST + 1, size: SIZE };
        assert_eq!(lowest_free([wide], FIRST).unwrap().base, FIRST + 2 * SIZE);
    }

    #[test]
    fn beside_a_file_that_cannot_be_read_only_what_was_never_given_is_given() {
        let layout = Layout::new(std::env::temp_dir().join(format!("triton-id-ranges-{}", std::process::id())));
        layout.prepare().unwrap();
        let choose = |all_known: bool| choose(&layout, &[], all_known).map(|range| range.unwrap().base);
        assert_eq!(choose(true).unwrap(), FIRST);
        assert_eq!(choose(true).unwrap(), FIRST, "nobody has it");
        assert_eq!(choose(false).unwrap(), FIRST + SIZE, "somebody may have it");
        assert_eq!(choose(false).unwrap(), FIRST + 2 * SIZE);
        std::fs::write(layout.state().join("id-ranges.json"), "{").unwrap();
        assert!(choose(false).is_err(), "what was given is not known");
        assert_eq!(choose(true).unwrap(), FIRST);
        std::fs::remove_dir_all(layout.root()).unwrap();
    }
}
