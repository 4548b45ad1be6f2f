//! Who is meant by a target, by owner: indexes over all instances (sections 5.2 and 5.6).

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use triton_fwrule::{RemoteVm, Tags, Target, VmFacts};
use triton_types::{InstanceUuid, OwnerUuid};

/// An instance that rules can name, here or elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) uuid: InstanceUuid,
    pub(crate) owner: Option<OwnerUuid>,
    pub(crate) tags: &'a Tags,
    pub(crate) ips: &'a BTreeSet<IpAddr>,
}

impl<'a> Member<'a> {
    pub(crate) fn local(vm: &'a VmFacts) -> Self {
        Self { uuid: vm.uuid, owner: vm.owner, tags: &vm.tags, ips: &vm.ips }
    }

    pub(crate) fn remote(vm: &'a RemoteVm) -> Self {
        Self { uuid: vm.uuid, owner: vm.owner, tags: &vm.tags, ips: &vm.ips }
    }
}

/// Instances by what names them.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    all: Vec<Member<'a>>,
    by_uuid: HashMap<InstanceUuid, usize>,
    by_tag: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(members: impl IntoIterator<Item = Member<'a>>) -> Self {
        let mut index = Self { all: Vec::new(), by_uuid: HashMap::new(), by_tag: HashMap::new() };
        for member in members {
            let at = index.all.len();
            index.all.push(member);
            index.by_uuid.insert(member.uuid, at);
            for key in member.tags.keys() {
                index.by_tag.entry(key).or_default().push(at);
            }
        }
        index
    }

    /// Those that a target names, whoever they belong to. Targets that name no instances name none.
    pub(crate) fn named(&self, target: &Target) -> Box<dyn Iterator<Item = &Member<'a>> + '_> {
        match target {
            Target::AllVms => Box::new(self.all.iter()),
            Target::Vm(uuid) => Box::new(self.by_uuid.get(uuid).map(|at| &self.all[*at]).into_iter()),
            Target::Tag { key, value } => {
                let value = value.clone();
                let key = key.clone();
                let having = self.by_tag.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
                let fits = move |member: &&Member<'a>| value.as_ref().is_none_or(|wanted| member.tags.get(&key) == Some(wanted));
                Box::new(having.iter().map(|at| &self.all[*at]).filter(fits))
            }
            Target::Any | Target::Ip(_) | Target::Subnet(_) => Box::new(std::iter::empty()),
        }
    }

    /// Addresses of those that a target names in the rules of `owner`: everybody's in a rule without one, and those of instances
    /// without one in every rule.
    pub(crate) fn addresses(&self, owner: Option<OwnerUuid>, target: &Target) -> BTreeSet<IpAddr> {
        let admitted = |member: &&Member<'a>| owner.is_none() || member.owner.is_none() || member.owner == owner;
        self.named(target).filter(admitted).flat_map(|member| member.ips.iter().copied()).collect()
    }
}
