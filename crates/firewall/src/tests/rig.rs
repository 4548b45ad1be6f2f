//! A bridge with links, and the filter of its namespace.

use std::time::{Duration, Instant};

use triton_files::Layout;
use triton_wire::FarEnd;
pub use triton_wire::{forget_flows, run};

use super::frames::{self, Mac};
use crate::Filter;

/// Runs `test` in a new network namespace, which ends with it.
pub fn kernel(test: impl FnOnce(&mut Rig) + Send + 'static) {
    triton_wire::in_namespace(|| test(&mut Rig::new()));
}

/// The bridge and the filter.
pub struct Rig {
    pub filter: Filter,
    pub layout: Layout,
    _root: tempfile::TempDir,
    probes: u16,
}

/// The far end of a link.
pub struct End {
    pub mac: Mac,
    wire: FarEnd,
}

impl Rig {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/triton")).unwrap();
        triton_wire::make_bridge();
        let layout = Layout::new(root.path());
        Self { filter: Filter::open(&layout).unwrap(), layout, _root: root, probes: 0 }
    }

    /// A link whose far end has this address; the bridge knows where it is.
    pub fn link(&mut self, name: &str, mac: Mac) -> End {
        let wire = FarEnd::of_new_port(name);
        let text: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        run(&format!("bridge fdb replace {} dev {name} master static", text.join(":")));
        End { mac, wire }
    }

    /// Which of `frames`, sent by one, arrive at the other.
    pub fn arriving(&mut self, from: &End, to: &End, frames: &[Vec<u8>]) -> Vec<bool> {
        let came = self.collected(from, to, frames);
        frames.iter().map(|frame| came.contains(frame)).collect()
    }

    /// What arrives at one end when the other sends `frames`. ARP, which is never filtered, follows them: when that has come, none of
    /// them will come any more.
    pub fn collected(&mut self, from: &End, to: &End, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.probes = self.probes.wrapping_add(1);
        let marker = frames::arp(from.mac, self.probes);
        for frame in frames {
            from.wire.send(frame);
        }
        from.wire.send(&marker);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut came = Vec::new();
        loop {
            let got = to.wire.receive(deadline).expect("the marker did not come: is everything dropped?");
            if got == marker {
                return came;
            }
            came.push(got);
        }
    }

    /// [`Rig::arriving`] for one frame.
    pub fn arrives(&mut self, from: &End, to: &End, frame: &[u8]) -> bool {
        self.arriving(from, to, &[frame.to_vec()])[0]
    }
}
