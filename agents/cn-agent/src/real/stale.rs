//! Which instances have to be read again for the status: those that the watcher saw change, and now and then all.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use triton_types::InstanceUuid;

/// How often all are read, whatever was seen.
const ALL: Duration = Duration::from_secs(600);

/// What has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Everything.
    All,
    /// These, which may be none.
    These(BTreeSet<InstanceUuid>),
}

/// Notes between the watcher and the sampler.
#[derive(Debug)]
pub(super) struct Stale(Mutex<(Again, Option<Instant>)>);

impl Default for Stale {
    fn default() -> Self {
        Self(Mutex::new((Again::All, None)))
    }
}

impl Stale {
    fn inner(&self) -> MutexGuard<'_, (Again, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is known any more: the watcher began anew, or a sample broke off.
    pub(super) fn all(&self) {
        self.inner().0 = Again::All;
    }

    /// These have changed.
    pub(super) fn add(&self, uuids: impl IntoIterator<Item = InstanceUuid>) {
        if let Again::These(known) = &mut self.inner().0 {
            known.extend(uuids);
        }
    }

    /// Takes the notes. Whoever cannot use them says [`Stale::all`].
    pub(super) fn take(&self, now: Instant) -> Again {
        let mut inner = self.inner();
        let overdue = inner.1.is_none_or(|last| now.saturating_duration_since(last) >= ALL);
        let again = std::mem::replace(&mut inner.0, Again::These(BTreeSet::new()));
        if overdue || again == Again::All {
            inner.1 = Some(now);
            return Again::All;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_read_first_then_what_changed_and_all_again_when_it_is_time_or_nothing_is_known() {
        let (stale, start) = (Stale::default(), Instant::now());
        let (one, two) = (InstanceUuid::random(), InstanceUuid::random());
        stale.add([one]);
        assert_eq!(stale.take(start), Again::All);
        assert_eq!(stale.take(start), Again::These(BTreeSet::new()));
        stale.add([one]);
        stale.add([two, one]);
        assert_eq!(stale.take(start), Again::These([one, two].into()));
        stale.all();
        stale.add([one]);
        assert_eq!(stale.take(start), Again::All);
        assert_eq!(stale.take(start + ALL), Again::All);
        assert_eq!(stale.take(start + ALL), Again::These(BTreeSet::new()));
    }
}
