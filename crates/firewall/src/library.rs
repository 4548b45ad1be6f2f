//! Changes of rules and remote instances: written first, then in force (section 12.6).

use std::collections::BTreeSet;

use triton_files::Layout;
use triton_types::InstanceUuid;

use crate::{
    Applied, Change, Changed, Compiler, Contents, Filter, FirewallError, LocalVm, Store, change,
    filter::Outcome,
    revoke::{self, Revocation},
};

/// The firewall of a node: its files and the table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Firewall {
    store: Store,
    compiler: Compiler,
    filter: Filter,
    revocation: Revocation,
}

impl Firewall {
    /// Opens the firewall below `layout`. Nothing is read or changed.
    ///
    /// # Errors
    /// Without the right to change rules, or on a kernel without nf_tables.
    pub fn open(layout: &Layout) -> Result<Self, FirewallError> {
        let (store, compiler) = (Store::new(layout), Compiler::default());
        Ok(Self { store, compiler, filter: Filter::open(layout)?, revocation: Revocation::read(layout)? })
    }

    /// What is stored now. A change that somebody began and did not end is ended first.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn load(&mut self) -> Result<&Contents, FirewallError> {
        self.store.settle()?;
        Ok(self.store.load()?)
    }

    /// As [`Firewall::load`], at the cost of a question when nobody changed a file by this library, or added, replaced or removed one otherwise.
    ///
    /// # Errors
    /// As [`Firewall::load`].
    pub fn refresh(&mut self) -> Result<&Contents, FirewallError> {
        self.store.settle()?;
        Ok(self.store.refresh()?)
    }

    /// What the last call of another function found to be stored.
    pub fn contents(&self) -> &Contents {
        self.store.contents()
    }

    /// The table.
    pub fn filter(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// Makes a change: checks it, writes it, puts it in force. `locals` lists the instances of this node; it is asked while nobody
    /// else changes rules, so that no instance which came meanwhile is forgotten.
    ///
    /// # Errors
    /// [`FirewallError::Refused`] with nothing changed. When the kernel refuses the table, the files have the change, what was in force
    /// still is, and the next change or [`Firewall::converge`] tries again.
    pub fn change(&mut self, wanted: &Change, locals: impl FnOnce() -> Result<Vec<LocalVm>, String>) -> Result<Changed, FirewallError> {
        let lock = self.store.lock("change rules")?;
        let locals = locals().map_err(FirewallError::Instances)?;
        let planned = change::plan(wanted, self.store.refresh()?, &locals)?;
        self.store.write(&lock, &planned.writes)?;
        triton_files::steps::reached("firewall.stored");
        self.store.absorb(planned.writes)?;
        self.put_in_force(&locals, &planned.changed.vms, false)?;
        Ok(planned.changed)
    }

    /// What a change would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`Firewall::change`].
    pub fn preview(&mut self, wanted: &Change, locals: &[LocalVm]) -> Result<Changed, FirewallError> {
        Ok(change::plan(wanted, self.load()?, locals)?.changed)
    }

    /// Brings the table to what is stored: after a flush by somebody else, at boot, when instances changed. Costs one comparison when
    /// nothing differs.
    ///
    /// # Errors
    /// What was in force still is.
    pub fn converge(&mut self, locals: impl FnOnce() -> Result<Vec<LocalVm>, String>) -> Result<Applied, FirewallError> {
        let _lock = self.store.lock("put rules in force")?;
        let locals = locals().map_err(FirewallError::Instances)?;
        self.store.refresh()?;
        self.put_in_force(&locals, &BTreeSet::new(), false)
    }

    /// As [`Firewall::converge`], and looks whether every line is there and nobody added, removed or replaced one: a table that is not whole
    /// is made anew, in one transaction. Costs reading all of it.
    ///
    /// # Errors
    /// What was in force still is.
    pub fn repair(&mut self, locals: impl FnOnce() -> Result<Vec<LocalVm>, String>) -> Result<Applied, FirewallError> {
        let _lock = self.store.lock("repair the table")?;
        let locals = locals().map_err(FirewallError::Instances)?;
        self.store.load()?;
        self.put_in_force(&locals, &BTreeSet::new(), true)
    }

    /// `changed` are instances whose rules changed.
    fn put_in_force(&mut self, locals: &[LocalVm], changed: &BTreeSet<InstanceUuid>, whole: bool) -> Result<Applied, FirewallError> {
        let news = self.store.take_news();
        let contents = self.store.contents();
        self.compiler.update(&contents.rules, &contents.remote_vms, locals, &news);
        self.compiler.set_unknown(contents.unknown());
        let Outcome { applied, unjudged: mut anew } = self.filter.followed(&mut self.compiler, whole)?;
        if self.revocation == Revocation::OnChange {
            anew.extend(changed);
        }
        revoke::forget(locals, &anew);
        Ok(applied)
    }
}
