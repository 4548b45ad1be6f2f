//! A change: messages that the kernel takes together.

use crate::{Element, Rule, SetSpec, attributes::Writer, element::PER_MESSAGE};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
const GENERATION: u16 = 1;
const REQUEST: u16 = 0x1;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;

/// Messages by which tables change.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Message {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    DeleteChain = 5,
    NewRule = 6,
    DeleteRule = 8,
    NewSet = 9,
    DeleteSet = 11,
    NewElement = 12,
    DeleteElement = 14,
}

/// What kind of packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 of the machine itself.
    Inet,
    /// Frames of bridges.
    Bridge,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// Where a chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// When a packet has come in.
    Prerouting,
    /// When it goes up into the machine.
    Input,
    /// When it goes from one port to another.
    Forward,
    /// When the machine has made it.
    Output,
    /// Before it goes out.
    Postrouting,
}

/// A hook and the order among its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHook {
    /// The hook.
    pub hook: Hook,
    /// Lower ones are called first.
    pub priority: i32,
    /// What happens to packets about which the chain says nothing: accepted, or dropped.
    pub accept: bool,
}

/// Writes an item of a list.
pub(crate) trait ListItem {
    fn item(&mut self, content: impl FnOnce(&mut Writer));
}

impl ListItem for Writer {
    fn item(&mut self, content: impl FnOnce(&mut Writer)) {
        self.nested(1, content);
    }
}

/// A change of one table.
#[derive(Debug)]
pub struct Batch {
    family: Family,
    table: String,
    pub(crate) out: Writer,
    /// Where each message begins, and what it is for: the kernel names a failed one by its number.
    pub(crate) messages: Vec<String>,
    sets: u32,
    rules: usize,
}

impl Batch {
    /// An empty change of `table`.
    pub fn new(family: Family, table: &str) -> Self {
        let mut batch = Self { family, table: table.to_owned(), out: Writer::default(), messages: Vec::new(), sets: 0, rules: 0 };
        batch.control(BATCH_BEGIN);
        batch
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Messages so far.
    pub fn len(&self) -> usize {
        self.messages.len().saturating_sub(1)
    }

    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn control(&mut self, kind: u16) {
        self.raw(kind, REQUEST, 0, SUBSYSTEM >> 8, "begin or end a change".to_owned(), |_| {});
    }

    fn raw(&mut self, kind: u16, flags: u16, family: u8, resource: u16, what: String, content: impl FnOnce(&mut Writer)) {
        let begin = self.out.0.len();
        let sequence = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.out.0.extend_from_slice(&[0; HEADER]);
        self.out.0.extend_from_slice(&[family, 0]);
        self.out.0.extend_from_slice(&resource.to_be_bytes());
        content(&mut self.out);
        let length = u32::try_from(self.out.0.len() - begin).unwrap_or(u32::MAX);
        let header = &mut self.out.0[begin..begin + HEADER];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.messages.push(what);
    }

    fn message(&mut self, message: Message, flags: u16, what: String, content: impl FnOnce(&mut Writer)) {
        let table = self.table.clone();
        self.raw(SUBSYSTEM | message as u16, REQUEST | flags, self.family.number(), 0, what, |w| {
            // Every message names the table first.
            w.text(1, &table);
            content(w);
        });
    }

    /// Makes sure that the table is there.
    #[must_use]
    pub fn table_is_there(mut self) -> Self {
        let what = format!("make the table {}", self.table);
        self.message(Message::NewTable, CREATE, what, |_| {});
        self
    }

    /// Removes the table with all it has, whether it is there or not.
    #[must_use]
    pub fn without_table(self) -> Self {
        let mut batch = self.table_is_there();
        let what = format!("remove the table {}", batch.table);
        batch.message(Message::DeleteTable, 0, what, |_| {});
        batch
    }

    /// Adds a chain that others call.
    #[must_use]
    pub fn chain(mut self, name: &str) -> Self {
        self.message(Message::NewChain, CREATE, format!("make the chain {name}"), |w| w.text(3, name));
        self
    }

    /// Adds a chain that the kernel calls.
    #[must_use]
    pub fn base_chain(mut self, name: &str, at: ChainHook) -> Self {
        self.message(Message::NewChain, CREATE, format!("make the chain {name}"), |w| {
            let hook = match at.hook {
                Hook::Prerouting => 0,
                Hook::Input => 1,
                Hook::Forward => 2,
                Hook::Output => 3,
                Hook::Postrouting => 4,
            };
            w.text(3, name);
            w.nested(4, |w| {
                w.number(1, hook);
                w.bytes(2, &at.priority.to_be_bytes());
            });
            w.number(5, u32::from(at.accept));
            w.text(7, "filter");
        });
        self
    }

    /// Removes a chain with its rules. It must be there, and no other rule or element may name it.
    #[must_use]
    pub fn without_chain(mut self, name: &str) -> Self {
        self.message(Message::DeleteChain, 0, format!("remove the chain {name}"), |w| w.text(3, name));
        self
    }

    /// Removes a set with its elements. It must be there, and no rule may name it.
    #[must_use]
    pub fn without_set(mut self, name: &str) -> Self {
        self.message(Message::DeleteSet, 0, format!("remove the set {name}"), |w| w.text(2, name));
        self
    }

    /// Adds a set.
    #[must_use]
    pub fn set(mut self, set: &SetSpec) -> Self {
        self.sets += 1;
        let id = self.sets;
        self.message(Message::NewSet, CREATE, format!("make the set {}", set.name), |w| set.write(w, id));
        self
    }

    /// Adds a rule at the end of a chain.
    #[must_use]
    pub fn rule(mut self, chain: &str, rule: &Rule) -> Self {
        self.rules += 1;
        self.message(Message::NewRule, CREATE | APPEND, format!("add a rule to {chain}"), |w| {
            w.text(2, chain);
            w.nested(4, |w| rule.expressions.iter().for_each(|expression| expression.write(w)));
            if let Some(comment) = &rule.comment {
                // As `nft` keeps comments: a type, a length, the text with its end.
                let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
                let mut data = vec![0, length];
                data.extend_from_slice(comment.as_bytes());
                data.push(0);
                w.bytes(7, &data);
            }
        });
        self
    }

    /// Number of rules that it adds.
    pub fn rules(&self) -> usize {
        self.rules
    }

    /// Removes all rules of a chain.
    #[must_use]
    pub fn without_rules(mut self, chain: &str) -> Self {
        self.message(Message::DeleteRule, 0, format!("remove the rules of {chain}"), |w| w.text(2, chain));
        self
    }

    /// Makes sure that these are in a set. One that is there already stays as it is.
    #[must_use]
    pub fn elements(mut self, set: &str, elements: &[Element]) -> Self {
        self.change_elements(Message::NewElement, CREATE, set, elements);
        self
    }

    /// Makes sure that these are not in a set, whether they are there or not.
    #[must_use]
    pub fn without_elements(mut self, set: &str, elements: &[Element]) -> Self {
        // Removing what is not there fails the change, adding what is there does not.
        self.change_elements(Message::NewElement, CREATE, set, elements);
        self.change_elements(Message::DeleteElement, 0, set, elements);
        self
    }

    /// Removes elements that were read from a set and must still be there: else the change fails.
    #[must_use]
    pub fn remove_elements(mut self, set: &str, elements: &[Element]) -> Self {
        self.change_elements(Message::DeleteElement, 0, set, elements);
        self
    }

    fn change_elements(&mut self, message: Message, flags: u16, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(PER_MESSAGE) {
            self.message(message, flags, format!("change {} elements of {set}", chunk.len()), |w| {
                w.text(2, set);
                w.nested(3, |w| chunk.iter().for_each(|element| element.write(w)));
            });
        }
    }

    /// The whole as it is sent, on condition that the rules are still of this generation.
    pub(crate) fn finish(mut self, generation: Option<u32>) -> (Vec<u8>, Vec<String>) {
        self.control(BATCH_END);
        if let Some(generation) = generation {
            let begin = HEADER + 4;
            let mut attribute = Writer::default();
            attribute.number(GENERATION, generation);
            let more = attribute.0.len();
            self.out.0.splice(begin..begin, attribute.0);
            let length = u32::try_from(begin + more).unwrap_or(u32::MAX);
            self.out.0[..4].copy_from_slice(&length.to_ne_bytes());
        }
        (self.out.0, self.messages)
    }
}
