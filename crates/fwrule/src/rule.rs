//! A rule with its identity: what FWAPI sends and what `/var/fw/rules` holds.

use triton_types::{InstanceUuid, OwnerUuid, RuleUuid};

use crate::{Direction, Side, Spec, Tags, Target};

/// A firewall rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Identity, also its file's name.
    pub uuid: RuleUuid,
    /// Opaque; changes whenever the rule does. Absent until somebody gives it one ([`Rule::new_version`]).
    pub version: Option<String>,
    /// Whose instances it is about; absent for a global rule, which is about everybody's.
    pub owner: Option<OwnerUuid>,
    /// Whether it has any effect.
    pub enabled: bool,
    /// Whether connections should be logged. Kept and sent back, without effect here (firewaller.md section 5.5).
    pub log: bool,
    /// Free text, at most 255 UTF-16 units.
    pub description: Option<String>,
    /// Who made it: `fwapi` for rules that came from FWAPI; other or absent for those made on this node.
    pub created_by: Option<String>,
    /// What it says.
    pub spec: Spec,
}

impl Rule {
    /// The value of `created_by` of rules that came from FWAPI.
    pub const FWAPI: &'static str = "fwapi";

    /// Whether it is about everybody's instances.
    pub fn is_global(&self) -> bool {
        self.owner.is_none()
    }

    /// Whether FWAPI knows it, so that it may be dropped when FWAPI no longer sends it.
    pub fn is_from_fwapi(&self) -> bool {
        self.created_by.as_deref() == Some(Self::FWAPI)
    }

    /// A version in upstream's form: milliseconds since the epoch, and who made it.
    pub fn new_version(epoch_ms: u64, process: u32) -> String {
        format!("{epoch_ms}.{:06}", process % 1_000_000)
    }

    /// The side that names the instances whose packets in this direction are filtered.
    pub fn subjects(&self, direction: Direction) -> &Side {
        match direction {
            Direction::In => &self.spec.to,
            Direction::Out => &self.spec.from,
        }
    }

    /// The other side: what the packets' remote address is compared with.
    pub fn peers(&self, direction: Direction) -> &Side {
        match direction {
            Direction::In => &self.spec.from,
            Direction::Out => &self.spec.to,
        }
    }

    /// Whether an instance's packets in this direction are filtered by this rule: it is named on the subjects' side and, when
    /// the rule has an owner, is that owner's (firewaller.md section 5.1). Neither `enabled` nor the instance's firewall count.
    pub fn concerns(&self, direction: Direction, uuid: InstanceUuid, owner: Option<OwnerUuid>, tags: &Tags) -> bool {
        (self.owner.is_none() || self.owner == owner) && self.subjects(direction).names(uuid, tags)
    }

    /// Whether an instance's addresses belong to the peers of this rule: it is named there, and not somebody else's. An
    /// instance without an owner is a peer of every rule (section 5.2).
    pub fn admits(&self, direction: Direction, uuid: InstanceUuid, owner: Option<OwnerUuid>, tags: &Tags) -> bool {
        (self.owner.is_none() || owner.is_none() || self.owner == owner) && self.peers(direction).names(uuid, tags)
    }

    /// Whether the rule changes anything in this direction: at priority 0 an inbound BLOCK and an outbound ALLOW only say
    /// what holds anyway (section 5.4).
    pub fn has_effect(&self, direction: Direction) -> bool {
        let default = match direction {
            Direction::In => crate::Action::Block,
            Direction::Out => crate::Action::Allow,
        };
        self.spec.priority > 0 || self.spec.action != default
    }
}

impl Side {
    /// Whether a target of this side names the instance: by uuid, by a tag, or as one of all.
    pub fn names(&self, uuid: InstanceUuid, tags: &Tags) -> bool {
        self.targets().iter().any(|target| match target {
            Target::AllVms => true,
            Target::Vm(named) => *named == uuid,
            Target::Tag { key, value } => tags.get(key).is_some_and(|has| value.as_ref().is_none_or(|wanted| wanted == has)),
            Target::Any | Target::Ip(_) | Target::Subnet(_) => false,
        })
    }
}
