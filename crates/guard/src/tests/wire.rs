//! A bridge with guests, and the guard of its namespace.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use triton_files::Layout;
use triton_types::{Mac, Nic};
use triton_wire::FarEnd;
pub use triton_wire::run;

use crate::{Guard, Protection};

/// Runs `test` in a new network namespace, which ends with it.
pub fn kernel(test: impl FnOnce(&mut Net) + Send + 'static) {
    triton_wire::in_namespace(|| test(&mut Net::new()));
}

/// The bridge and the guard.
pub struct Net {
    pub guard: Guard,
    root: tempfile::TempDir,
    probes: u16,
}

/// One end of a link.
pub struct Guest {
    pub nic: Nic,
    pub link: String,
    wire: FarEnd,
}

pub const A: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0xa]);
pub const B: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0xb]);

impl Net {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/triton")).unwrap();
        triton_wire::make_bridge();
        // Where bridges hand their packets to the IP layer, it judges them first; compute nodes switch that off (ruling 20).
        for kind in ["iptables", "ip6tables", "arptables"] {
            let _ = Command::new("sysctl").args(["-q", "-w", &format!("net.bridge.bridge-nf-call-{kind}=0")]).output().unwrap();
        }
        Self { guard: Guard::open(&Layout::new(root.path())).unwrap(), root, probes: 0 }
    }

    /// A port without a guard: an uplink, or a guest that nobody protected, by its name.
    pub fn port(&mut self, link: &str, mac: Mac) -> Guest {
        let wire = FarEnd::of_new_port(link);
        Guest { nic: Nic::new("net0", mac, "external".parse().unwrap()), link: link.to_owned(), wire }
    }

    /// A guarded guest at 10.0.0.5 and fd00::5.
    pub fn guest(&mut self, link: &str, mac: Mac, change: impl FnOnce(&mut Nic)) -> Guest {
        let mut guest = self.port(link, mac);
        guest.nic.ips = vec!["10.0.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()];
        change(&mut guest.nic);
        self.protect(&guest);
        guest
    }

    /// A guard as another program has it.
    pub fn another_guard(&self) -> Guard {
        Guard::open(&Layout::new(self.root.path())).unwrap()
    }

    /// Applies the guest's properties as they are now.
    pub fn protect(&mut self, guest: &Guest) {
        self.guard.protect(&[Protection::of(&guest.nic, &guest.link)], || Ok(Vec::new())).unwrap();
    }

    /// True if `frame`, sent by one, arrives at the other. A frame that is always allowed follows it: when that has come, the first will
    /// not come any more.
    pub fn passes(&mut self, from: &Guest, to: &Guest, frame: &[u8]) -> bool {
        self.probes += 1;
        let marker = self.marker(from);
        from.send(frame);
        from.send(&marker);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut passed = false;
        loop {
            let got = to.receive(deadline).unwrap_or_else(|| panic!("the marker did not come: is everything dropped?"));
            if got == marker {
                return passed;
            }
            passed |= got == frame;
        }
    }

    /// An ARP probe of the guest, which every protection allows, with a number in it.
    fn marker(&self, from: &Guest) -> Vec<u8> {
        let [high, low] = self.probes.to_be_bytes();
        super::frames::arp(from.nic.mac, from.nic.mac, [0; 4], [203, 0, high, low])
    }
}

impl Guest {
    pub fn send(&self, frame: &[u8]) {
        self.wire.send(frame);
    }

    /// The next frame that came; `None` after the deadline.
    pub fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        self.wire.receive(deadline)
    }
}
