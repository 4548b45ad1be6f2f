//! Storage in plain directories.
//!
//! | path below the pool | what it is |
//! | --- | --- |
//! | `.triton-pool.json` | marker; without it the pool is not there, never empty |
//! | `<uuid>/` with `@final` | image; 0700, for its set-id files are real |
//! | `<uuid>/` without | instance; 0711 |
//! | `<uuid>/.dataset.json` | quota, origin, size |
//! | `<uuid>-partial/` | image under import: an interface, see instances.md section 8.5 |
//! | `<uuid>-cloning/`, `<uuid>-rollback/`, `<uuid>-reprovisioning/` | copy under way (locked by its maker) or left by a killed one |
//! | `.snapshots/<uuid>/vmsnap-<name>/` | snapshot: `data/` and `snapshot.json` |
//! | `.destroying-*` | being removed; renamed away first, so readers see all or nothing |

mod backend;
mod dataset;
mod export;
mod images;
mod instances;
mod pool;
mod replace;
mod snapshots;

#[cfg(test)]
mod tests;

pub(crate) use pool::{DirPool, sync_all};
