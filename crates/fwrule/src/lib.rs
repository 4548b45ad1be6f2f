//! The language of Triton's firewall rules (firewaller.md sections 4 and 5): text in, meaning out, and back.
//!
//! Pure: no clock, no files, no packets. Called by `triton-firewall`, by `fwadm` and by the firewall agent; owns nothing.
//! Total: no input makes it panic, and it takes time in proportion to the input, which a test shows with a megabyte.
//!
//! * [`Spec`]: what one line of text says; [`Spec::parse`] reads it with upstream's messages, its `Display` is the normal form.
//! * [`Rule`]: a line with its identity and owner: the JSON object of the wire and of `/var/fw/rules`.
//! * [`VmFacts`] and [`RemoteVm`]: what rules need to know about instances, here and elsewhere.
//! * [`decide()`]: what a set of rules says about one new flow. It is the oracle that compiled tables are compared with, so it
//!   is written for being read and shares nothing with the compiler.

mod address;
mod decide;
mod error;
mod lexer;
mod numbers;
mod object;
mod parser;
mod rule;
mod spec;
mod text;
mod vm;

#[cfg(test)]
mod tests;

pub use address::{Address, Subnet};
pub use decide::{Direction, Flow, Packet, Verdict, Vms, decide};
pub use error::{RuleError, RuleErrors};
pub use object::Options;
pub use rule::Rule;
pub use spec::{Action, IcmpType, IcmpTypes, Limits, PortEntry, Ports, Protocol, Side, Spec, Target};
pub use vm::{RemoteVm, RemoteVmError, Tags, VmFacts, tag_text};
