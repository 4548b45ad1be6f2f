//! Keys and elements of sets.

use std::{net::IpAddr, time::Duration};

use crate::{Expression, NAME, Verdict, attributes::Writer, batch::ListItem, name_bytes};

/// Elements in one message: an attribute has less than 64 KiB, and no element that this crate writes has more than 300 bytes.
pub(crate) const PER_MESSAGE: usize = 200;

/// A key of a set, or a value to compare with: bytes in network order. Parts of a key begin at multiples of four bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

impl Key {
    /// These bytes.
    pub fn raw(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// An interface's name.
    pub fn name(name: &str) -> Self {
        Self(name_bytes(name).to_vec())
    }

    /// Followed by these bytes.
    #[must_use]
    pub fn and(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Followed by an address.
    #[must_use]
    pub fn and_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.and(&address.octets()),
            IpAddr::V6(address) => self.and(&address.octets()),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The interface's name that it begins with.
    pub fn begins_with_name(&self, name: &str) -> bool {
        self.0.get(..NAME) == Some(&name_bytes(name))
    }

    /// What follows an interface's name.
    pub fn after_name(&self) -> &[u8] {
        self.0.get(NAME..).unwrap_or_default()
    }
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub(crate) key: Key,
    pub(crate) last: Option<Key>,
    pub(crate) end: bool,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) value: Option<Key>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) counter: bool,
}

impl Element {
    /// A key.
    pub fn new(key: Key) -> Self {
        Self { key, last: None, end: false, verdict: None, value: None, timeout: None, counter: false }
    }

    /// All keys from `first` to `last`, part by part, for a set with intervals of joined keys.
    pub fn range(first: Key, last: Key) -> Self {
        Self { last: Some(last), ..Self::new(first) }
    }

    /// All keys from `first` to `last`, both included, for a set with intervals of one part: the elements that the kernel wants for it.
    /// Spans of one set must not touch each other.
    pub fn span(first: Key, last: &Key) -> Vec<Self> {
        let mut behind = last.0.clone();
        for byte in behind.iter_mut().rev() {
            let (next, carry) = byte.overflowing_add(1);
            *byte = next;
            if !carry {
                return vec![Self::new(first), Self { end: true, ..Self::new(Key(behind)) }];
            }
        }
        // Nothing is behind the last key of all.
        vec![Self::new(first)]
    }

    /// True for an element that ends a span instead of being one.
    pub fn is_end(&self) -> bool {
        self.end
    }

    /// The key, or the first of the range.
    pub fn first(&self) -> &Key {
        &self.key
    }

    /// The last of the range.
    pub fn last(&self) -> Option<&Key> {
        self.last.as_ref()
    }

    /// With a verdict, for a map.
    #[must_use]
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// With a value, for a map.
    #[must_use]
    pub fn value(mut self, value: Key) -> Self {
        self.value = Some(value);
        self
    }

    /// That ends after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// That counts the packets which it is found by.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.counter = true;
        self
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const INTERVAL_END: u32 = 1;
        const TIMEOUT: u16 = 4;
        const EXPRESSION: u16 = 7;
        const KEY_END: u16 = 10;
        w.item(|w| {
            w.nested(KEY, |w| w.bytes(1, self.key.bytes()));
            if let Some(last) = &self.last {
                w.nested(KEY_END, |w| w.bytes(1, last.bytes()));
            }
            if self.end {
                w.number(FLAGS, INTERVAL_END);
            }
            if let Some(verdict) = &self.verdict {
                w.nested(DATA, |w| verdict.write(w));
            }
            if let Some(value) = &self.value {
                w.nested(DATA, |w| w.bytes(1, value.bytes()));
            }
            if let Some(timeout) = self.timeout {
                w.large(TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            }
            if self.counter {
                w.nested(EXPRESSION, |w| Expression::Count.write_content(w));
            }
        });
    }
}
