//! Holding the sets against the NICs: elements that somebody added or removed by hand are put right, those of other NICs stay as they are
//! with what they counted (ruling 9).

use std::collections::BTreeSet;

use nix::net::if_::if_nameindex;
use triton_files::Lock;
use triton_nft::{Batch, Element, Family, Key, NAME, Stored};

use crate::{
    Guard, GuardError, Protection,
    elements::all_link_sets,
    owner::{PATIENCE, learned_set},
    table::{TABLE, pairs},
};

/// The links whose elements are not what they should be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differing {
    /// Links of NICs.
    guarded: BTreeSet<String>,
    /// Links that exist and are no NIC's: somebody made entries for them.
    strange: BTreeSet<String>,
}

/// The names of all links of this network namespace, in one question. Who asks for one by name (`SIOCGIFINDEX`) makes the kernel look for a
/// module of that name if it is not there: two programs for each NIC of an instance that is stopped.
///
/// # Errors
/// When the kernel does not answer.
pub fn links_here() -> Result<BTreeSet<String>, GuardError> {
    let links = if_nameindex().map_err(|error| GuardError::Unknown(format!("the machine's links cannot be listed: {error}")))?;
    Ok(links.iter().map(|link| link.name().to_string_lossy().into_owned()).collect())
}

/// The link that a key begins with.
fn link_of(key: &Key) -> String {
    let name = key.bytes().get(..NAME).unwrap_or_default();
    String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// An element's place in its set, whatever time it has.
fn place(element: &Element) -> (Key, Option<Key>) {
    (element.first().clone(), element.last().cloned())
}

impl Guard {
    /// Puts right what the sets have otherwise than the NICs that have a link, or are about to get one, say. The links that it concerned.
    /// `all` gives those NICs, and whether no other may have a link: else entries of links that are none of theirs stay (ruling 1). A table
    /// that is not whole is left to [`Guard::repair`]. Entries of links that do not exist stay: they may be about to be forgotten.
    ///
    /// Mostly nothing differs, and to see that takes the files of all instances: nobody who starts one has to wait for it. What others
    /// change meanwhile may look like a difference, so that one counts only when it is seen again under the lock.
    ///
    /// # Errors
    /// As [`Guard::protect`].
    pub fn compare(&mut self, mut all: impl FnMut() -> Result<(Vec<Protection>, bool), String>) -> Result<Vec<String>, GuardError> {
        if self.look(&mut all).is_ok_and(|(_, differing)| differing == Differing::default()) {
            return Ok(Vec::new());
        }
        let _lock = Lock::take(&self.lock, "compare the guard", PATIENCE)?;
        let (all, Differing { guarded, strange }) = self.look(&mut all)?;
        if !guarded.is_empty() {
            let these: Vec<Protection> = all.into_iter().filter(|protection| guarded.contains(&protection.link)).collect();
            self.change(&these)?;
            self.learn_again(&these)?;
        }
        let strange: Vec<String> = strange.into_iter().collect();
        if !strange.is_empty() {
            let batch = self.without(&strange)?;
            self.nft.commit(batch)?;
        }
        Ok(guarded.into_iter().chain(strange).collect())
    }

    /// The NICs, and what differs from them.
    fn look(
        &mut self,
        all: &mut impl FnMut() -> Result<(Vec<Protection>, bool), String>,
    ) -> Result<(Vec<Protection>, Differing), GuardError> {
        if !self.is_whole()? {
            return Ok((Vec::new(), Differing::default()));
        }
        let (all, complete) = all().map_err(GuardError::Unknown)?;
        let mut differing = self.differing(&all)?;
        if !complete {
            differing.strange.clear();
        }
        Ok((all, differing))
    }

    fn differing(&mut self, all: &[Protection]) -> Result<Differing, GuardError> {
        let mut wanted = self.wanted(all);
        let guarded: BTreeSet<&str> = all.iter().map(|protection| protection.link.as_str()).collect();
        let (mut differing, mut others) = (Differing::default(), BTreeSet::new());
        for set in all_link_sets().into_iter().chain(pairs::DERIVED).chain(pairs::LEARNED) {
            let stored = self.nft.elements(Family::Bridge, TABLE, set)?;
            let there: BTreeSet<_> = stored.iter().map(|stored| place(&stored.element())).collect();
            let wanted: BTreeSet<_> = wanted.remove(set).unwrap_or_default().iter().map(place).collect();
            for (key, _) in there.symmetric_difference(&wanted) {
                let link = link_of(key);
                if guarded.contains(link.as_str()) {
                    differing.guarded.insert(link);
                } else {
                    others.insert(link);
                }
            }
        }
        if !others.is_empty() {
            let here = links_here()?;
            differing.strange = others.into_iter().filter(|link| here.contains(link)).collect();
        }
        Ok(differing)
    }

    /// Elements of these NICs in one of the sets of addresses that were given.
    fn learned_of(&mut self, set: &str, these: &[Protection]) -> Result<Vec<Element>, GuardError> {
        let stored = self.nft.elements(Family::Bridge, TABLE, set)?;
        let ours = stored.iter().filter(|stored| these.iter().any(|protection| stored.key.begins_with_name(&protection.link)));
        Ok(ours.map(Stored::element).collect())
    }

    /// Makes the addresses that these were given those that are remembered.
    fn learn_again(&mut self, these: &[Protection]) -> Result<(), GuardError> {
        let mut batch = Batch::new(Family::Bridge, TABLE);
        for set in pairs::LEARNED {
            let stored = self.learned_of(set, these)?;
            batch = batch.without_elements(set, &stored);
        }
        for protection in these.iter().filter(|protection| protection.dhcp || protection.addrconf) {
            for learned in self.learned.of(&protection.link) {
                let element = Element::new(Key::name(&protection.link).and_address(learned.address)).timeout(learned.left);
                batch = batch.elements(learned_set(learned.address), &[element]);
            }
        }
        Ok(self.nft.commit(batch)?)
    }
}
