//! Changing the table: one transaction for each change, under the table's lock (ruling 13).

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use triton_files::{Layout, Lock};
use triton_nft::{Batch, Element, Family, Key, Nft, NftError};

use crate::{
    Drops, GuardError, Protection,
    elements::{all_link_sets, derived, link, of_link},
    learned::{Learned, Store},
    table::{Reason, TABLE, TOLD, VERSION, build, links::KNOWN, pairs},
};

/// How long a change waits for another; each takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a change is tried anew because somebody emptied the table meanwhile.
const TRIES: usize = 5;

/// The guard of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Guard {
    pub(crate) nft: Nft,
    pub(crate) lock: PathBuf,
    pub(crate) learned: Store,
}

impl Guard {
    /// Opens the guard of the calling thread's network namespace. Nothing is changed.
    ///
    /// # Errors
    /// Without the right to change rules, or on a kernel without nf_tables.
    pub fn open(layout: &Layout) -> Result<Self, GuardError> {
        Ok(Self { nft: Nft::open()?, lock: layout.at("/run/triton/guard.lock"), learned: Store::new(layout) })
    }

    /// True if the table is there with the rules of this version: it may have been removed by somebody.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_there(&mut self) -> Result<bool, GuardError> {
        Ok(self.nft.has_chain(Family::Bridge, TABLE, VERSION)?)
    }

    /// True if the table is there as this version made it: with all of its rules.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_whole(&mut self) -> Result<bool, GuardError> {
        let copies = self.nft.has_chain(Family::Bridge, TABLE, TOLD)?;
        Ok(self.is_there()? && self.nft.count_rules(Family::Bridge, TABLE)? == build(copies).rules())
    }

    /// Makes the table anew if it is not there, or not whole, and some NIC is to be guarded: `all` of them, asked for under the lock so that
    /// none that was guarded meanwhile is left out. Their number; none if there was nothing to do (rulings 9, 25).
    ///
    /// # Errors
    /// As [`Guard::protect`].
    pub fn repair(&mut self, all: impl FnOnce() -> Result<Vec<Protection>, String>) -> Result<Option<usize>, GuardError> {
        let _lock = Lock::take(&self.lock, "repair the guard", PATIENCE)?;
        if self.is_whole()? {
            return Ok(None);
        }
        let all = all().map_err(GuardError::Unknown)?;
        if all.is_empty() {
            return Ok(None);
        }
        self.retain_learned(&all)?;
        self.rebuild(&all)?;
        Ok(Some(all.len()))
    }

    /// Makes the table anew, in one transaction, with exactly these NICs. Addresses that were learned are kept.
    ///
    /// # Errors
    /// What was there is then still there.
    pub fn restore(&mut self, all: &[Protection]) -> Result<(), GuardError> {
        let _lock = Lock::take(&self.lock, "restore the guard", PATIENCE)?;
        self.retain_learned(all)?;
        self.rebuild(all)
    }

    /// Guards these NICs, in one transaction: new ones as well as those whose protection changed. Others stay as they are. Without a table,
    /// or with that of another version, the table is made with `all` NICs of the node and these.
    ///
    /// # Errors
    /// What was there is then still there.
    pub fn protect(&mut self, these: &[Protection], all: impl FnOnce() -> Result<Vec<Protection>, String>) -> Result<(), GuardError> {
        let _lock = Lock::take(&self.lock, "guard NICs", PATIENCE)?;
        self.retain_learned(these)?;
        let mut all = Some(all);
        for _ in 0..TRIES {
            if self.is_there()? {
                match self.add_or_change(these) {
                    Err(GuardError::Rules(error)) if error.is_missing() => continue,
                    result => return result,
                }
            }
            // `all` is asked once at most: the loop ends here, whatever comes of it.
            let Some(all) = all.take() else { break };
            let mut everyone: BTreeMap<String, Protection> =
                all().map_err(GuardError::Unknown)?.into_iter().map(|protection| (protection.link.clone(), protection)).collect();
            everyone.extend(these.iter().map(|protection| (protection.link.clone(), protection.clone())));
            return self.rebuild(&everyone.into_values().collect::<Vec<_>>());
        }
        Err(GuardError::Rules(NftError::Changed))
    }

    /// Forgets NICs whose links are gone; the table goes with the last one. Without a table there is nothing to forget.
    ///
    /// # Errors
    /// When the kernel refuses; frames of these links are then still judged as before.
    pub fn forget(&mut self, links: &[String]) -> Result<(), GuardError> {
        let _lock = Lock::take(&self.lock, "forget NICs", PATIENCE)?;
        for name in links {
            self.learned.retain(name, |_| false)?;
        }
        if links.is_empty() || !self.is_there()? {
            return Ok(());
        }
        let known = self.nft.elements(Family::Bridge, TABLE, KNOWN)?;
        if known.iter().all(|stored| links.iter().any(|name| stored.key.begins_with_name(name))) {
            return Ok(self.nft.commit(Batch::new(Family::Bridge, TABLE).without_table())?);
        }
        let batch = self.without(links)?;
        match self.nft.commit(batch) {
            // Somebody emptied the table: they are forgotten.
            Err(error) if error.is_missing() => Ok(()),
            result => Ok(result?),
        }
    }

    /// What takes all elements of these links away.
    pub(crate) fn without(&mut self, links: &[String]) -> Result<Batch, NftError> {
        let mut batch = Batch::new(Family::Bridge, TABLE);
        let elements: Vec<Element> = links.iter().map(|name| link(name)).collect();
        for set in all_link_sets() {
            batch = batch.without_elements(set, &elements);
        }
        for set in pairs::DERIVED {
            let stored: Vec<Element> = self.stored(set, links)?;
            batch = batch.remove_elements(set, &stored);
        }
        for set in pairs::LEARNED {
            // These may end by time meanwhile.
            let stored: Vec<Element> = self.stored(set, links)?;
            batch = batch.without_elements(set, &stored);
        }
        Ok(batch)
    }

    /// Lets a NIC send from an address that it was given, for so long (ruling 25). It is remembered below `/run`, and in force again after
    /// every restoration, until its time ends or the NIC is forgotten. At most [`crate::LEARNED_MOST`] of a NIC.
    ///
    /// # Errors
    /// When the table or the kernel does not take it; the next restoration tries again.
    pub fn learn(&mut self, name: &str, address: IpAddr, lifetime: Duration) -> Result<(), GuardError> {
        let _lock = Lock::take(&self.lock, "learn an address", PATIENCE)?;
        let gone = self.learned.add(name, address, lifetime)?;
        triton_files::steps::reached("guard.learned");
        let set = learned_set(address);
        let element = Element::new(Key::name(name).and_address(address));
        // An address that is there keeps its old time unless it is removed first.
        let mut batch = Batch::new(Family::Bridge, TABLE)
            .without_elements(set, std::slice::from_ref(&element))
            .elements(set, &[element.timeout(lifetime)]);
        for address in gone {
            batch = batch.without_elements(learned_set(address), &[Element::new(Key::name(name).and_address(address))]);
        }
        Ok(self.nft.commit(batch)?)
    }

    /// Ends what [`Guard::learn`] allowed.
    ///
    /// # Errors
    /// When the kernel does not take it. Without a table nothing is allowed by it.
    pub fn unlearn(&mut self, name: &str, address: IpAddr) -> Result<(), GuardError> {
        let _lock = Lock::take(&self.lock, "unlearn an address", PATIENCE)?;
        self.learned.retain(name, |other| other != address)?;
        triton_files::steps::reached("guard.unlearned");
        let element = Element::new(Key::name(name).and_address(address));
        match self.nft.commit(Batch::new(Family::Bridge, TABLE).without_elements(learned_set(address), &[element])) {
            Err(error) if error.is_missing() => Ok(()),
            result => Ok(result?),
        }
    }

    /// The addresses that a NIC was given and may still send from.
    pub fn learned(&self, name: &str) -> Vec<Learned> {
        self.learned.of(name)
    }

    /// Whoever is given no addresses any more loses those that it was.
    fn retain_learned(&self, these: &[Protection]) -> Result<(), GuardError> {
        for protection in these {
            self.learned.retain(&protection.link, |address| protection.learns(address))?;
        }
        Ok(())
    }

    /// What was dropped of each link that is guarded, by its name.
    ///
    /// # Errors
    /// When the table is not there.
    pub fn drops(&mut self) -> Result<BTreeMap<String, Drops>, GuardError> {
        let mut all: BTreeMap<String, Drops> = BTreeMap::new();
        for reason in Reason::ALL {
            for stored in self.nft.elements(Family::Bridge, TABLE, reason.name())? {
                let name = stored.key.bytes().split(|byte| *byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                all.entry(name).or_default().set(reason, stored.counter.unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// Elements of these links in one of the sets of pairs.
    fn stored(&mut self, set: &str, links: &[String]) -> Result<Vec<Element>, NftError> {
        let stored = self.nft.elements(Family::Bridge, TABLE, set)?;
        let ours = stored.iter().filter(|stored| links.iter().any(|name| stored.key.begins_with_name(name)));
        Ok(ours.map(triton_nft::Stored::element).collect())
    }

    /// True if the table knows none of these links: then it has nothing of them in any set, since what a link has comes and goes with
    /// its place among the known ones.
    fn are_new(&mut self, these: &[Protection]) -> Result<bool, NftError> {
        for protection in these {
            if self.nft.has_element(Family::Bridge, TABLE, KNOWN, &Key::name(&protection.link))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Links that come up, which is most changes by far: nothing is removed, so no set is read, however many links there are, and the
    /// kernel, which frees what was removed only after a grace period and has the socket's close wait for that, has nothing to free.
    fn add(&mut self, these: &[Protection]) -> Result<(), GuardError> {
        let mut add: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for protection in these {
            for set in of_link(protection).0 {
                add.entry(set).or_default().push(link(&protection.link));
            }
            for (set, element) in derived(protection) {
                add.entry(set).or_default().push(element);
            }
        }
        let batch = Batch::new(Family::Bridge, TABLE);
        Ok(self.nft.commit(add.iter().fold(batch, |batch, (set, elements)| batch.elements(set, elements)))?)
    }

    fn add_or_change(&mut self, these: &[Protection]) -> Result<(), GuardError> {
        if !self.are_new(these)? {
            return self.change(these);
        }
        match self.add(these) {
            // Somebody took its name from the known ones and left the rest, which what is added does not go with.
            Err(GuardError::Rules(error)) if !error.is_missing() => self.change(these),
            result => result,
        }
    }

    pub(crate) fn change(&mut self, these: &[Protection]) -> Result<(), GuardError> {
        let links: Vec<String> = these.iter().map(|protection| protection.link.clone()).collect();
        let mut add: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        let mut remove: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for protection in these {
            let (present, absent) = of_link(protection);
            for set in present {
                add.entry(set).or_default().push(link(&protection.link));
            }
            for set in absent {
                remove.entry(set).or_default().push(link(&protection.link));
            }
        }
        let mut wanted: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for (set, element) in these.iter().flat_map(derived) {
            wanted.entry(set).or_default().push(element);
        }
        let mut batch = Batch::new(Family::Bridge, TABLE);
        for (set, elements) in remove {
            batch = batch.without_elements(set, &elements);
        }
        for set in pairs::DERIVED {
            let wanted = wanted.remove(set).unwrap_or_default();
            let stored = self.stored(set, &links)?;
            let stale: Vec<Element> = stored.iter().filter(|element| !wanted.contains(element)).cloned().collect();
            let new: Vec<Element> = wanted.into_iter().filter(|element| !stored.contains(element)).collect();
            batch = batch.remove_elements(set, &stale).elements(set, &new);
        }
        for (set, elements) in add {
            batch = batch.elements(set, &elements);
        }
        for (set, learns) in [(pairs::LEARNED4, (|p| p.dhcp) as fn(&Protection) -> bool), (pairs::LEARNED6, |p| p.addrconf)] {
            let not: Vec<String> =
                these.iter().filter(|protection| !learns(protection)).map(|protection| protection.link.clone()).collect();
            let stored = if not.is_empty() { Vec::new() } else { self.stored(set, &not)? };
            batch = batch.without_elements(set, &stored);
        }
        Ok(self.nft.commit(batch)?)
    }

    /// Everything that is in the sets for these NICs, and for no other.
    pub(crate) fn wanted(&self, all: &[Protection]) -> BTreeMap<&'static str, Vec<Element>> {
        let mut elements: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for protection in all {
            for set in of_link(protection).0 {
                elements.entry(set).or_default().push(link(&protection.link));
            }
            for (set, element) in derived(protection) {
                elements.entry(set).or_default().push(element);
            }
            if protection.dhcp || protection.addrconf {
                for Learned { address, left } in self.learned.of(&protection.link) {
                    let element = Element::new(Key::name(&protection.link).and_address(address)).timeout(left);
                    elements.entry(learned_set(address)).or_default().push(element);
                }
            }
        }
        elements
    }

    fn rebuild(&mut self, all: &[Protection]) -> Result<(), GuardError> {
        let elements = self.wanted(all);
        let whole = |copies| elements.iter().fold(build(copies), |batch, (set, elements)| batch.elements(set, elements));
        match self.nft.commit(whole(true)) {
            Err(error) if error.is_missing() => {
                tracing::warn!(%error, "this kernel copies no packets: guests with dynamic addresses send from none");
                Ok(self.nft.commit(whole(false))?)
            }
            result => Ok(result?),
        }
    }
}

pub(crate) fn learned_set(address: IpAddr) -> &'static str {
    if address.is_ipv4() { pairs::LEARNED4 } else { pairs::LEARNED6 }
}
