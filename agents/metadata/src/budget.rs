//! Bytes that may be kept: of one instance, and of all together. What does not fit is refused, never waited for (ruling 31).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on bytes, possibly inside a larger one.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
    outer: Option<Arc<Budget>>,
}

impl Budget {
    /// A bound of its own.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0), outer: None })
    }

    /// A bound inside this one.
    pub fn inner(self: &Arc<Self>, most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0), outer: Some(self.clone()) })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let outer = self.outer.as_ref().is_none_or(|outer| outer.take(bytes));
        if !outer {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        outer
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(outer) = &self.outer {
            outer.give(bytes);
        }
    }
}

/// A share of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Makes the share as large as this; false, with the share as it was, when that does not fit.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            if !self.budget.take(bytes - self.bytes) {
                return false;
            }
        } else {
            self.budget.give(self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_was_taken_comes_back() {
        let all = Budget::new(100);
        let (one, other) = (all.inner(60), all.inner(60));
        let (mut a, mut b) = (Share::new(&one), Share::new(&other));
        assert!(a.resize(60) && !a.resize(61) && b.resize(40) && !b.resize(41));
        assert_eq!((all.used(), other.used()), (100, 40));
        drop(a);
        assert!(b.resize(60));
        assert!(b.resize(1));
        drop(b);
        assert_eq!((all.used(), one.used(), other.used()), (0, 0, 0));
    }
}
