//! Following the log of changes.

use std::time::Instant;

use triton_svp::{LogEntry, Vnet};
use triton_types::Mac;

use super::{Core, Do, Key};

impl Core {
    /// Forgets what the entries say was changed, asks anew for what was in use, and then says that they were followed.
    pub(super) fn follow(&mut self, entries: &[LogEntry], now: Instant) {
        if entries.is_empty() {
            self.log_due = Some(now + self.times.log_every);
            return;
        }
        for entry in entries {
            match entry {
                LogEntry::Vl2 { vnet, mac, .. } => self.moved(*vnet, *mac, now),
                LogEntry::Vl3 { vnet, ip, .. } => {
                    let Some(part) = self.parts.get_mut(vnet) else { continue };
                    let askers = part.disown(*ip);
                    part.doubt(Key::Ip(*ip));
                    // Guests keep what they were told, so they are told again.
                    for asker in askers.unwrap_or_default() {
                        part.wait(Key::Ip(*ip), Some((*ip, asker)), &[asker.vlan], now);
                    }
                }
            }
        }
        self.removal(entries.iter().map(LogEntry::id).collect(), now);
    }

    fn moved(&mut self, vnet: Vnet, mac: Mac, now: Instant) {
        let Some(part) = self.parts.get_mut(&vnet) else { return };
        part.doubt(Key::Mac(mac));
        if let Some(vlans) = part.forget(mac) {
            part.wait(Key::Mac(mac), None, &vlans, now);
            self.out.push(Do::Forget { vnet, mac, vlans });
        }
    }
}
