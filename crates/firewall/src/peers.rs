//! Who is meant by a target, by owner: indexes that are made for one question about many instances (sections 5.2 and 5.6).

use std::collections::HashMap;

use triton_fwrule::{Direction, RemoteVm, Rule, Tags, Target, VmFacts};
use triton_types::{InstanceUuid, OwnerUuid};

/// An instance that rules can name, here or elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) uuid: InstanceUuid,
    pub(crate) owner: Option<OwnerUuid>,
    pub(crate) tags: &'a Tags,
}

impl<'a> Member<'a> {
    pub(crate) fn local(vm: &'a VmFacts) -> Self {
        Self { uuid: vm.uuid, owner: vm.owner, tags: &vm.tags }
    }

    pub(crate) fn remote(vm: &'a RemoteVm) -> Self {
        Self { uuid: vm.uuid, owner: vm.owner, tags: &vm.tags }
    }
}

/// Instances by their owner and by what names them: most rules are of one owner, and most owners have few instances.
#[derive(Debug)]
pub(crate) struct Index<'a>(HashMap<Option<OwnerUuid>, Group<'a>>);

/// The instances of one owner, or of nobody.
#[derive(Debug, Default)]
struct Group<'a> {
    all: Vec<Member<'a>>,
    by_uuid: HashMap<InstanceUuid, usize>,
    by_tag: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(members: impl IntoIterator<Item = Member<'a>>) -> Self {
        let mut groups: HashMap<Option<OwnerUuid>, Group<'a>> = HashMap::new();
        for member in members {
            let group = groups.entry(member.owner).or_default();
            let at = group.all.len();
            group.all.push(member);
            group.by_uuid.insert(member.uuid, at);
            for key in member.tags.keys() {
                group.by_tag.entry(key).or_default().push(at);
            }
        }
        Self(groups)
    }

    /// Whom a rule filters in a direction: those of its owner, of everybody without one. An instance may come twice.
    pub(crate) fn subjects<'b>(&'b self, rule: &'b Rule, direction: Direction) -> impl Iterator<Item = Member<'a>> + 'b {
        let targets = move || rule.subjects(direction).targets().iter();
        self.groups(rule.owner, false).flat_map(move |group| targets().flat_map(move |target| group.named(target)))
    }

    /// Whom a target means in the rules of `owner`: everybody in a rule without one, and those without an owner in every rule.
    pub(crate) fn peers<'b>(&'b self, owner: Option<OwnerUuid>, target: &'b Target) -> impl Iterator<Item = Member<'a>> + 'b {
        self.groups(owner, true).flat_map(move |group| group.named(target))
    }

    fn groups(&self, owner: Option<OwnerUuid>, nobodys: bool) -> impl Iterator<Item = &Group<'a>> {
        let own = owner.map(|owner| [self.0.get(&Some(owner)), self.0.get(&None).filter(|_| nobodys)]);
        let all = owner.is_none().then(|| self.0.values());
        own.into_iter().flatten().flatten().chain(all.into_iter().flatten())
    }
}

impl<'a> Group<'a> {
    /// Those that a target names. Targets that name no instances name none.
    fn named<'b>(&'b self, target: &'b Target) -> Box<dyn Iterator<Item = Member<'a>> + 'b> {
        match target {
            Target::AllVms => Box::new(self.all.iter().copied()),
            Target::Vm(uuid) => Box::new(self.by_uuid.get(uuid).map(|at| self.all[*at]).into_iter()),
            Target::Tag { key, value } => {
                let having = self.by_tag.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
                let fits = move |member: &Member<'a>| value.as_ref().is_none_or(|wanted| member.tags.get(key) == Some(wanted));
                Box::new(having.iter().map(|at| self.all[*at]).filter(fits))
            }
            Target::Any | Target::Ip(_) | Target::Subnet(_) => Box::new(std::iter::empty()),
        }
    }
}
