//! The node behind the agent: its instances, `/var/fw`, and the table of its network namespace.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use triton_agent::chain;
use triton_files::Layout;
use triton_firewall::{Applied, Change, Firewall, FirewallError, LocalVm};
use triton_fwrule::VmFacts;
use triton_types::{InstanceUuid, RuleUuid};

use crate::{Backend, Edit, Stored, instances::Instances};

/// The node below a root. One change at a time; others' changes wait by the locks of the library.
#[derive(Debug)]
pub struct RealNode {
    layout: Layout,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    firewall: Firewall,
    instances: Instances,
    /// What the table was last made from.
    made_from: Option<(u64, Vec<LocalVm>)>,
}

impl Kept {
    /// Makes a change, and remembers what the table is made from when it is in force.
    fn make<T>(
        &mut self,
        layout: &Layout,
        make: impl FnOnce(&mut Firewall, &mut dyn FnMut() -> Result<Vec<LocalVm>, String>) -> Result<T, FirewallError>,
    ) -> Result<T, FirewallError> {
        let mut seen = Vec::new();
        self.made_from = None;
        let instances = &mut self.instances;
        let made = make(&mut self.firewall, &mut || {
            seen = instances.get(layout)?;
            Ok(seen.clone())
        })?;
        self.made_from = Some((self.firewall.contents().edition(), seen));
        Ok(made)
    }
}

fn text(error: &FirewallError) -> String {
    chain(error).to_string()
}

impl RealNode {
    /// The node below `layout`, with the table of the calling thread's network namespace. Nothing is changed.
    ///
    /// # Errors
    /// Without the right to change rules, or on a kernel without nf_tables.
    pub fn open(layout: &Layout) -> Result<Self, FirewallError> {
        Ok(Self {
            layout: layout.clone(),
            kept: Mutex::new(Kept { firewall: Firewall::open(layout)?, instances: Instances::default(), made_from: None }),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A call that ended by itself has changed files and the table whole or not at all.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the table to what is stored and to the instances as they are now; `closely`: line by line.
    ///
    /// # Errors
    /// What was in force still is.
    pub fn put_in_force(&self, closely: bool) -> Result<Applied, FirewallError> {
        let mut kept = self.kept();
        if closely {
            kept.instances.forget();
        }
        kept.make(&self.layout, |firewall, locals| if closely { firewall.repair(locals) } else { firewall.converge(locals) })
    }

    /// Files of `/var/fw` that cannot be used, and why, at the last call that looked at them.
    pub fn damaged(&self) -> Vec<(String, String)> {
        let kept = self.kept();
        let bad = kept.firewall.contents().bad.iter();
        bad.map(|(path, reason)| (path.display().to_string(), reason.clone())).collect()
    }

    /// Whether the table was made from other files than there are now, or other instances if these are asked for, or could not be made.
    /// `edited`: somebody may have written into a file that was there, so each is looked at.
    ///
    /// # Errors
    /// When files or instances cannot be listed.
    pub fn differs(&self, instances: bool, edited: bool) -> Result<bool, String> {
        let mut kept = self.kept();
        let contents = if edited { kept.firewall.load() } else { kept.firewall.refresh() };
        let edition = contents.map_err(|error| text(&error))?.edition();
        let now = if instances { Some(kept.instances.read(&self.layout)?) } else { None };
        let Some((made_from, locals)) = &kept.made_from else { return Ok(true) };
        Ok(*made_from != edition || now.is_some_and(|now| now != *locals))
    }
}

impl Backend for RealNode {
    fn locals(&self) -> Result<Vec<VmFacts>, String> {
        Ok(self.kept().instances.get(&self.layout)?.into_iter().map(|vm| vm.facts).collect())
    }

    fn stored(&self) -> Result<Stored, String> {
        let mut kept = self.kept();
        let contents = kept.firewall.refresh().map_err(|error| text(&error))?;
        Ok(Stored {
            rules: contents.rules.clone(),
            remotes: contents.remote_vms.clone(),
            damaged_rules: contents.rules.keys().copied().filter(|uuid| contents.is_bad(uuid)).collect(),
            damaged_remotes: contents.remote_vms.keys().copied().filter(|uuid| contents.is_bad(uuid)).collect(),
        })
    }

    fn rule(&self, uuid: RuleUuid) -> Result<Option<Value>, String> {
        let mut kept = self.kept();
        let contents = kept.firewall.refresh().map_err(|error| text(&error))?;
        Ok(contents.rules.get(&uuid).map(triton_fwrule::Rule::to_json))
    }

    fn remote(&self, uuid: InstanceUuid) -> Result<Option<Value>, String> {
        let mut kept = self.kept();
        let contents = kept.firewall.refresh().map_err(|error| text(&error))?;
        Ok(contents.remote_vms.get(&uuid).map(triton_fwrule::RemoteVm::to_json))
    }

    fn change(&self, edit: &Edit) -> Result<(), String> {
        let change = Change::Replace {
            rules: edit.rules.clone(),
            remote_vms: edit.remotes.clone(),
            no_rules: edit.delete_rules.clone(),
            no_remote_vms: edit.delete_remotes.clone(),
        };
        let made = self.kept().make(&self.layout, |firewall, locals| firewall.change(&change, locals));
        made.map(drop).map_err(|error| text(&error))
    }

    fn converge(&self) -> Result<(), String> {
        self.put_in_force(false).map(drop).map_err(|error| text(&error))
    }

    fn is_filtered(&self, uuid: InstanceUuid) -> Result<bool, String> {
        let filtered = self.kept().firewall.filter().instances().map_err(|error| text(&error))?;
        Ok(filtered.contains(&uuid))
    }
}
