//! Reading rules: what they counted, the words about them, and the numbers by which the kernel knows them.

use crate::{
    Family, Nft, NftError, Rule,
    attributes::{self, Writer},
    read::{Counter, DUMP, counter, request},
};

const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

/// A chain as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChain {
    /// Its name.
    pub name: String,
    /// Its number ([`StoredRule::handle`]).
    pub handle: u64,
    /// The order among the chains of its hook, if the kernel calls it.
    pub priority: Option<i32>,
}

/// A rule as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// Its chain.
    pub chain: String,
    /// Its number. Chains, sets and rules of a table are numbered in the order in which they are made, and keep their numbers: what is
    /// made in one batch has numbers that follow each other, and whatever is made later has others.
    pub handle: u64,
    /// The word about it ([`crate::Rule::comment`]).
    pub comment: Option<String>,
    /// What it counted, if it counts.
    pub counter: Option<Counter>,
}

/// What a rule in the kernel compares and does.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a>(&'a [u8]);

impl Content<'_> {
    /// Whether this is what `rule` was written as, whatever it counted.
    pub fn is_of(&self, rule: &Rule) -> bool {
        let mut written = Writer::default();
        rule.expressions.iter().for_each(|expression| expression.write(&mut written));
        let (mut theirs, mut ours) = (attributes::read(self.0), attributes::read(&written.0));
        loop {
            match (theirs.next(), ours.next()) {
                (None, None) => return true,
                (Some(Ok((_, theirs))), Some(Ok((_, ours)))) if is_same(theirs, ours) => {}
                _ => return false,
            }
        }
    }
}

/// Whether two expressions are the same, but for counters. The kernel adds attributes that were not given, and names registers in its own way.
fn is_same(theirs: &[u8], ours: &[u8]) -> bool {
    const NAME: u16 = 1;
    let name = |bytes| attributes::find(bytes, NAME).ok().flatten().map(attributes::text);
    name(theirs) == name(ours) && (name(ours) == Some("counter") || holds(theirs, ours))
}

/// Whether `theirs` has all attributes of `ours`.
fn holds(theirs: &[u8], ours: &[u8]) -> bool {
    let same = |kind: u16, own: &[u8]| {
        let Ok(Some(found)) = attributes::find(theirs, kind) else { return false };
        found == own || register(found).is_some_and(|number| Some(number) == register(own)) || (own.len() > 4 && holds(found, own))
    };
    attributes::read(ours).all(|attribute| attribute.is_ok_and(|(kind, value)| same(kind, value)))
}

/// The number of a register that both ways of counting know: four of four bytes are one of sixteen.
fn register(bytes: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(bytes.try_into().ok()?);
    match number {
        1..=4 => Some(number),
        8..=23 if number % 4 == 0 => Some((number - 8) / 4 + 1),
        _ => None,
    }
}

impl Nft {
    /// The rules of a chain, in order; none without the chain.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn rules(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<StoredRule>, NftError> {
        let question = request(GET_RULE, DUMP, family.number(), |w| {
            w.text(1, table);
            w.text(2, chain);
        });
        let mut rules = self.stored_rules(&question, table, |rule, _| rule)?;
        rules.retain(|rule| rule.chain == chain);
        Ok(rules)
    }

    /// What `look` makes of the rules of all chains of a table, those of a chain in order, with what they compare and do; none without
    /// the table.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn all_rules<T>(&mut self, family: Family, table: &str, look: impl Fn(StoredRule, Content<'_>) -> T) -> Result<Vec<T>, NftError> {
        let question = request(GET_RULE, DUMP, family.number(), |w| w.text(1, table));
        self.stored_rules(&question, table, look)
    }

    fn stored_rules<T>(&mut self, question: &[u8], table: &str, look: impl Fn(StoredRule, Content<'_>) -> T) -> Result<Vec<T>, NftError> {
        self.list(question, "read rules", |kind, payload, rules| {
            // Older kernels list every table.
            if kind == NEW_RULE && attributes::find(payload, 1)?.is_some_and(|name| attributes::text(name) == table) {
                rules.push(look(rule(payload)?, Content(attributes::find(payload, 4)?.unwrap_or_default())));
            }
            Ok(())
        })
    }

    /// The chains of a table; none without the table.
    ///
    /// # Errors
    /// When the kernel does not answer as it should.
    pub fn all_chains(&mut self, family: Family, table: &str) -> Result<Vec<StoredChain>, NftError> {
        let question = request(GET_CHAIN, DUMP, family.number(), |w| w.text(1, table));
        self.list(&question, "list chains", |kind, payload, chains| {
            if kind == NEW_CHAIN && attributes::find(payload, 1)?.is_some_and(|name| attributes::text(name) == table) {
                let name = attributes::find(payload, 3)?.map(attributes::text).unwrap_or_default().to_owned();
                let hook = attributes::find(payload, 4)?.unwrap_or_default();
                let priority = attributes::find(hook, 2)?.map(|bytes| attributes::number(bytes).cast_signed());
                chains.push(StoredChain { name, handle: attributes::find(payload, 2)?.map_or(0, attributes::large), priority });
            }
            Ok(())
        })
    }
}

fn rule(payload: &[u8]) -> Result<StoredRule, NftError> {
    let mut counted = None;
    for expression in attributes::read(attributes::find(payload, 4)?.unwrap_or_default()) {
        counted = counted.or(counter(expression?.1)?);
    }
    Ok(StoredRule {
        chain: attributes::find(payload, 2)?.map(attributes::text).unwrap_or_default().to_owned(),
        handle: attributes::find(payload, 3)?.map_or(0, attributes::large),
        comment: attributes::find(payload, 7)?.and_then(comment),
        counter: counted,
    })
}

/// The comment among what `nft` keeps with a rule: types, lengths, values.
fn comment(mut data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(attributes::text(value).to_owned());
        }
        data = &rest[usize::from(*length)..];
    }
    None
}
