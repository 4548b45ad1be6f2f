//! Reading back: generation, tables, elements of sets.

use std::{io, time::Duration};

use crate::{
    Family, Key, Nft, NftError,
    attributes::{self, Writer},
    socket,
};

const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = 1;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_SET: u16 = 9;
const GET_SET: u16 = 10;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const NEW_GENERATION: u16 = 15;
const GET_GENERATION: u16 = 16;
const REQUEST: u16 = 0x1;
pub(crate) const DUMP: u16 = 0x300;
/// How often a list is begun anew because it changed while it was read.
const TRIES: usize = 20;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An element as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key, or the first of its range.
    pub key: Key,
    /// The last of its range.
    pub last: Option<Key>,
    /// What it counted, if it counts.
    pub counter: Option<Counter>,
    /// Time until it ends, if it does.
    pub left: Option<Duration>,
    /// It ends a span instead of being an element.
    pub end: bool,
    /// The chain that its verdict names, if it has one that does.
    pub chain: Option<String>,
    /// Its value, if it has one.
    pub value: Option<Key>,
}

impl Stored {
    /// The element, for removing it.
    pub fn element(&self) -> crate::Element {
        match &self.last {
            Some(last) => crate::Element::range(self.key.clone(), last.clone()),
            None => crate::Element { end: self.end, ..crate::Element::new(self.key.clone()) },
        }
    }
}

pub(crate) fn request(kind: u16, flags: u16, family: u8, content: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer(vec![0; 16]);
    out.0.extend_from_slice(&[family, 0, 0, 0]);
    content(&mut out);
    let length = u32::try_from(out.0.len()).unwrap_or(u32::MAX);
    out.0[..4].copy_from_slice(&length.to_ne_bytes());
    out.0[4..6].copy_from_slice(&(SUBSYSTEM | kind).to_ne_bytes());
    out.0[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
    out.0
}

/// Bytes of a key or of a range's end.
fn key(bytes: &[u8]) -> Result<Key, NftError> {
    attributes::find(bytes, 1)?.map(Key::raw).ok_or(NftError::Answer("an element has no key"))
}

pub(crate) fn counter(expression: &[u8]) -> Result<Option<Counter>, NftError> {
    let named = attributes::find(expression, 1)?.is_some_and(|name| attributes::text(name) == "counter");
    let Some(data) = attributes::find(expression, 2)?.filter(|_| named) else { return Ok(None) };
    let number = |kind| attributes::find(data, kind).map(|value| value.map_or(0, attributes::large));
    Ok(Some(Counter { bytes: number(1)?, packets: number(2)? }))
}

fn element(bytes: &[u8]) -> Result<Stored, NftError> {
    let mut stored = Stored { key: Key::default(), last: None, counter: None, left: None, end: false, chain: None, value: None };
    for attribute in attributes::read(bytes) {
        let (kind, value) = attribute?;
        match kind {
            1 => stored.key = key(value)?,
            2 => {
                stored.value = attributes::find(value, 1)?.map(Key::raw);
                if let Some(verdict) = attributes::find(value, 2)? {
                    stored.chain = attributes::find(verdict, 2)?.map(|name| attributes::text(name).to_owned());
                }
            }
            3 => stored.end = attributes::number(value) & 1 != 0,
            5 => stored.left = Some(Duration::from_millis(attributes::large(value))),
            7 => stored.counter = counter(value)?,
            10 => stored.last = Some(key(value)?),
            _ => {}
        }
    }
    Ok(stored)
}

impl Nft {
    /// Changes with every change of any rule.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let mut found = None;
        self.ask(&request(GET_GENERATION, 0, 0, |_| {}), "read the generation of the rules", |kind, payload| {
            if kind == NEW_GENERATION {
                found = attributes::find(payload, 1)?.map(attributes::number);
            }
            Ok(())
        })?;
        found.ok_or(NftError::Answer("the rules have no generation"))
    }

    /// True if the table is there.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn has_table(&mut self, family: Family, table: &str) -> Result<bool, NftError> {
        self.has(&request(GET_TABLE, 0, family.number(), |w| w.text(1, table)), "look for a table")
    }

    /// True if the table and this chain of it are there.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn has_chain(&mut self, family: Family, table: &str, chain: &str) -> Result<bool, NftError> {
        let question = request(GET_CHAIN, 0, family.number(), |w| {
            w.text(1, table);
            w.text(3, chain);
        });
        self.has(&question, "look for a chain")
    }

    /// Number of rules in all chains of a table; none if it is not there.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn count_rules(&mut self, family: Family, table: &str) -> Result<usize, NftError> {
        let question = request(GET_RULE, DUMP, family.number(), |w| w.text(1, table));
        for _ in 0..TRIES {
            let mut count = 0;
            let result = self.ask(&question, "count the rules of a table", |kind, payload| {
                let ours = attributes::find(payload, 1)?.is_some_and(|name| attributes::text(name) == table);
                count += usize::from(kind == NEW_RULE && ours);
                Ok(())
            });
            match result {
                Ok(()) => return Ok(count),
                Err(NftError::Changed) => {}
                Err(error) if error.is_missing() => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Changed)
    }

    /// True if the set is there and has an element of this key. Costs the same however many there are.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn has_element(&mut self, family: Family, table: &str, set: &str, key: &Key) -> Result<bool, NftError> {
        let question = request(GET_ELEMENT, 0, family.number(), |w| {
            w.text(1, table);
            w.text(2, set);
            w.nested(3, |w| crate::Element::new(key.clone()).write(w));
        });
        self.has(&question, "look for an element")
    }

    fn has(&mut self, question: &[u8], what: &str) -> Result<bool, NftError> {
        match self.ask(question, what, |_, _| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names of the chains of a table; none without the table.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>, NftError> {
        self.names(family, table, GET_CHAIN, NEW_CHAIN, 3)
    }

    /// Names of the sets of a table; none without the table.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn sets(&mut self, family: Family, table: &str) -> Result<Vec<String>, NftError> {
        self.names(family, table, GET_SET, NEW_SET, 2)
    }

    fn names(&mut self, family: Family, table: &str, get: u16, new: u16, attribute: u16) -> Result<Vec<String>, NftError> {
        let question = request(get, DUMP, family.number(), |w| w.text(1, table));
        self.list(&question, "list a table", |kind, payload, names| {
            // Older kernels list every table.
            let here = attributes::find(payload, 1)?.is_some_and(|name| attributes::text(name) == table);
            if kind == new
                && here
                && let Some(name) = attributes::find(payload, attribute)?
            {
                names.push(attributes::text(name).to_owned());
            }
            Ok(())
        })
    }

    /// Asks for a list, anew when it changed while it was read.
    pub(crate) fn list<T>(
        &mut self,
        question: &[u8],
        what: &str,
        mut each: impl FnMut(u16, &[u8], &mut Vec<T>) -> Result<(), NftError>,
    ) -> Result<Vec<T>, NftError> {
        for _ in 0..TRIES {
            let mut all = Vec::new();
            match self.ask(question, what, |kind, payload| each(kind, payload, &mut all)) {
                Ok(()) => return Ok(all),
                Err(error) if error.is_missing() && all.is_empty() => return Ok(all),
                Err(NftError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Changed)
    }

    /// The elements of a set.
    ///
    /// # Errors
    /// When the set is not there ([`NftError::is_missing`]).
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Stored>, NftError> {
        let question = request(GET_ELEMENT, DUMP, family.number(), |w| {
            w.text(1, table);
            w.text(2, set);
        });
        for _ in 0..TRIES {
            let mut elements = Vec::new();
            let result = self.ask(&question, "read a set", |kind, payload| {
                if kind == NEW_ELEMENT
                    && let Some(list) = attributes::find(payload, 3)?
                {
                    for item in attributes::read(list) {
                        elements.push(element(item?.1)?);
                    }
                }
                Ok(())
            });
            match result {
                Ok(()) => return Ok(elements),
                Err(NftError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Changed)
    }

    /// Sends a question and reads the whole answer.
    fn ask(&mut self, question: &[u8], what: &str, mut each: impl FnMut(u16, &[u8]) -> Result<(), NftError>) -> Result<(), NftError> {
        while socket::receive(&self.socket, false)?.is_some() {}
        self.send(question)?;
        let many = question.get(6..8).is_some_and(|flags| u16::from_ne_bytes([flags[0], flags[1]]) & DUMP == DUMP);
        let mut interrupted = false;
        loop {
            let Some(datagram) = socket::receive(&self.socket, true)? else { continue };
            let mut answered = false;
            for part in socket::parts(&datagram) {
                let part = part?;
                interrupted |= part.flags & socket::INTERRUPTED != 0;
                match part.kind {
                    socket::DONE => return if interrupted { Err(NftError::Changed) } else { Ok(()) },
                    socket::ERROR => {
                        return match socket::failure(&part) {
                            (0, _) => Ok(()),
                            (libc::EINTR, _) => Err(NftError::Changed),
                            (code, hint) => {
                                Err(NftError::Refused { what: what.to_owned(), hint, source: io::Error::from_raw_os_error(code) })
                            }
                        };
                    }
                    kind if kind & 0xff00 == SUBSYSTEM => {
                        each(kind & 0xff, part.payload.get(socket::GENERIC..).unwrap_or_default())?;
                        answered = true;
                    }
                    _ => {}
                }
            }
            if answered && !many {
                return Ok(());
            }
        }
    }
}
