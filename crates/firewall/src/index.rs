//! Instances by their owner and by what names them, kept up to date one by one (sections 5.1, 5.2 and 5.6).

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use triton_fwrule::{RemoteVm, Tags, Target, VmFacts};
use triton_types::{InstanceUuid, OwnerUuid};

/// What a target names instances by. Targets that name no instances have none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// All of them.
    All,
    /// One by its uuid.
    Vm(InstanceUuid),
    /// Those with this tag.
    Tag(String),
    /// Those with this tag of this value.
    Tagged(String, String),
}

impl Name {
    /// What a target names instances by.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        match target {
            Target::AllVms => Some(Self::All),
            Target::Vm(uuid) => Some(Self::Vm(*uuid)),
            Target::Tag { key, value: None } => Some(Self::Tag(key.clone())),
            Target::Tag { key, value: Some(value) } => Some(Self::Tagged(key.clone(), value.clone())),
            Target::Any | Target::Ip(_) | Target::Subnet(_) => None,
        }
    }
}

/// An instance that rules can name: where it is (true: on this node), and its uuid. One that moves here is both for a while.
pub(crate) type Key = (bool, InstanceUuid);

/// What rules can name an instance by, and what they admit then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) owner: Option<OwnerUuid>,
    tags: Box<[(Box<str>, Box<str>)]>,
    pub(crate) ips: Box<[IpAddr]>,
}

impl Member {
    fn new<'a>(owner: Option<OwnerUuid>, tags: &Tags, ips: impl IntoIterator<Item = &'a IpAddr>) -> Self {
        let tags = tags.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        Self { owner, tags, ips: ips.into_iter().copied().collect() }
    }

    /// An instance of this node, as a peer.
    pub(crate) fn local(vm: &VmFacts) -> Self {
        Self::new(vm.owner, &vm.tags, &vm.ips)
    }

    /// An instance of this node, as one that is filtered: its addresses do not matter.
    pub(crate) fn subject(vm: &VmFacts) -> Self {
        Self::new(vm.owner, &vm.tags, [])
    }

    /// An instance elsewhere.
    pub(crate) fn remote(vm: &RemoteVm) -> Self {
        Self::new(vm.owner, &vm.tags, &vm.ips)
    }

    /// Everything that it can be named by.
    pub(crate) fn names(&self, uuid: InstanceUuid) -> impl Iterator<Item = Name> {
        let tags = self.tags.iter().flat_map(|(key, value)| {
            let key = key.to_string();
            [Name::Tag(key.clone()), Name::Tagged(key, value.to_string())]
        });
        [Name::All, Name::Vm(uuid)].into_iter().chain(tags)
    }

    fn is_tagged(&self, key: &str, value: &str) -> bool {
        self.tags.iter().any(|(has, with)| &**has == key && &**with == value)
    }
}

/// Instances by owner and name: most rules are of one owner, and most owners have few instances.
#[derive(Debug, Default)]
pub(crate) struct Index {
    members: HashMap<Key, Member>,
    groups: HashMap<Option<OwnerUuid>, Group>,
}

/// The instances of one owner, or of nobody.
#[derive(Debug, Default)]
struct Group {
    all: BTreeSet<Key>,
    by_tag: HashMap<Box<str>, BTreeSet<Key>>,
}

impl Index {
    pub(crate) fn get(&self, key: &Key) -> Option<&Member> {
        self.members.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.members.keys()
    }

    /// Puts an instance in the place of what was known of it, or takes it out; returns what was known.
    pub(crate) fn put(&mut self, key: Key, member: Option<Member>) -> Option<Member> {
        let before = self.members.remove(&key);
        if let Some(before) = &before
            && let Some(group) = self.groups.get_mut(&before.owner)
        {
            group.all.remove(&key);
            for (tag, _) in &before.tags {
                if let Some(tagged) = group.by_tag.get_mut(tag) {
                    tagged.remove(&key);
                    if tagged.is_empty() {
                        group.by_tag.remove(tag);
                    }
                }
            }
            if group.all.is_empty() {
                self.groups.remove(&before.owner);
            }
        }
        if let Some(member) = member {
            let group = self.groups.entry(member.owner).or_default();
            group.all.insert(key);
            for (tag, _) in &member.tags {
                group.by_tag.entry(tag.clone()).or_default().insert(key);
            }
            self.members.insert(key, member);
        }
        before
    }

    /// Whom a name means in the rules of `owner`: everybody in a rule without one. Those without an owner count if `nobodys` does.
    pub(crate) fn named(&self, owner: Option<OwnerUuid>, nobodys: bool, name: &Name) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        match owner {
            None => self.groups.values().for_each(|group| self.add(group, name, &mut found)),
            Some(_) => {
                let groups = [Some(&owner), nobodys.then_some(&None)].into_iter().flatten();
                groups.filter_map(|owner| self.groups.get(owner)).for_each(|group| self.add(group, name, &mut found));
            }
        }
        found
    }

    fn add(&self, group: &Group, name: &Name, found: &mut BTreeSet<Key>) {
        let tagged = |key: &str| group.by_tag.get(key).into_iter().flatten().copied();
        match name {
            Name::All => found.extend(&group.all),
            Name::Vm(uuid) => found.extend([(true, *uuid), (false, *uuid)].iter().filter(|key| group.all.contains(*key))),
            Name::Tag(tag) => found.extend(tagged(tag)),
            Name::Tagged(tag, value) => {
                let has = |key: &Key| self.members.get(key).is_some_and(|member| member.is_tagged(tag, value));
                found.extend(tagged(tag).filter(has));
            }
        }
    }
}
