//! Reading the rules of a chain: what they counted, and the words about them.

use crate::{
    Family, Nft, NftError, attributes,
    read::{Counter, DUMP, counter, request},
};

const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

/// A rule as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// The word about it ([`crate::Rule::comment`]).
    pub comment: Option<String>,
    /// What it counted, if it counts.
    pub counter: Option<Counter>,
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
        self.list(&question, "read a chain", |kind, payload, rules| {
            let named = |attribute, name: &str| {
                attributes::find(payload, attribute).map(|found| found.is_some_and(|text| attributes::text(text) == name))
            };
            if kind == NEW_RULE && named(1, table)? && named(2, chain)? {
                rules.push(rule(payload)?);
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
    Ok(StoredRule { comment: attributes::find(payload, 7)?.and_then(comment), counter: counted })
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
