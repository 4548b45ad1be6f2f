//! Sets of the addresses of who is meant by a target, kept up to date with the instances (section 12.3).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    net::IpAddr,
};

use triton_types::OwnerUuid;

use crate::{
    desired::Touched,
    index::{Index, Key, Member, Name},
};

/// The set that a line needs: its name, and whom it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerSet {
    pub(crate) set: String,
    pub(crate) owner: Option<OwnerUuid>,
    pub(crate) name: Name,
    pub(crate) ipv6: bool,
}

/// The addresses of each set that a line needs, by the set's name.
pub(crate) type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// All instances, and the sets of them that lines need.
#[derive(Debug, Default)]
pub(crate) struct PeerSets {
    members: Index,
    pairs: HashMap<(Option<OwnerUuid>, Name), Pair>,
}

/// The sets of both families of one target of an owner's rules.
#[derive(Debug, Default)]
struct Pair {
    /// Parts of rules that need the set of this family, and its name while there are any.
    users: [usize; 2],
    sets: [Option<String>; 2],
    /// How many of its instances have an address: several may have the same.
    counts: BTreeMap<IpAddr, usize>,
}

impl Pair {
    fn add(&mut self, ips: &[IpAddr], addresses: &mut Addresses, touched: &mut Touched) {
        for ip in ips {
            let count = self.counts.entry(*ip).or_default();
            *count += 1;
            if *count == 1
                && let Some(set) = &self.sets[usize::from(ip.is_ipv6())]
                && let Some(all) = addresses.get_mut(set)
            {
                all.insert(*ip);
                touched.sets.insert(set.clone());
            }
        }
    }

    fn remove(&mut self, ips: &[IpAddr], addresses: &mut Addresses, touched: &mut Touched) {
        for ip in ips {
            let Entry::Occupied(mut count) = self.counts.entry(*ip) else { continue };
            *count.get_mut() -= 1;
            if *count.get() > 0 {
                continue;
            }
            count.remove();
            if let Some(set) = &self.sets[usize::from(ip.is_ipv6())]
                && let Some(all) = addresses.get_mut(set)
            {
                all.remove(ip);
                touched.sets.insert(set.clone());
            }
        }
    }
}

impl PeerSets {
    /// The instances.
    pub(crate) fn members(&self) -> &Index {
        &self.members
    }

    /// An instance is so now, or gone.
    pub(crate) fn put(&mut self, key: Key, member: Option<&Member>, addresses: &mut Addresses, touched: &mut Touched) {
        if self.members.get(&key) == member {
            return;
        }
        let before = self.members.put(key, member.cloned());
        if let Some(before) = &before {
            self.each_pair(key, before, |pair| pair.remove(&before.ips, addresses, touched));
        }
        if let Some(member) = member {
            self.each_pair(key, member, |pair| pair.add(&member.ips, addresses, touched));
        }
    }

    /// The sets that an instance belongs to: those of its owner's rules and of rules without one, of all rules if it has no owner.
    fn each_pair(&mut self, key: Key, member: &Member, mut each: impl FnMut(&mut Pair)) {
        let names: BTreeSet<Name> = member.names(key.1).collect();
        if member.owner.is_none() {
            self.pairs.iter_mut().filter(|((_, name), _)| names.contains(name)).for_each(|(_, pair)| each(pair));
            return;
        }
        for name in names {
            let mut place = (member.owner, name);
            for owner in [member.owner, None] {
                place.0 = owner;
                if let Some(pair) = self.pairs.get_mut(&place) {
                    each(pair);
                }
            }
        }
    }

    /// A part of a rule needs this set.
    pub(crate) fn acquire(&mut self, needed: &PeerSet, addresses: &mut Addresses, touched: &mut Touched) {
        let pair = self.pairs.entry((needed.owner, needed.name.clone())).or_insert_with(|| {
            let mut pair = Pair::default();
            for key in self.members.named(needed.owner, true, &needed.name) {
                for ip in self.members.get(&key).iter().flat_map(|member| &member.ips) {
                    *pair.counts.entry(*ip).or_default() += 1;
                }
            }
            pair
        });
        let family = usize::from(needed.ipv6);
        pair.users[family] += 1;
        if pair.users[family] == 1 {
            pair.sets[family] = Some(needed.set.clone());
            addresses.insert(needed.set.clone(), pair.counts.keys().filter(|ip| ip.is_ipv6() == needed.ipv6).copied().collect());
            touched.sets.insert(needed.set.clone());
        }
    }

    /// A part of a rule that needed this set is gone.
    pub(crate) fn release(&mut self, needed: &PeerSet, addresses: &mut Addresses, touched: &mut Touched) {
        let place = (needed.owner, needed.name.clone());
        let Some(pair) = self.pairs.get_mut(&place) else { return };
        let family = usize::from(needed.ipv6);
        pair.users[family] = pair.users[family].saturating_sub(1);
        if pair.users[family] == 0 {
            pair.sets[family] = None;
            addresses.remove(&needed.set);
            touched.sets.insert(needed.set.clone());
        }
        if pair.users == [0; 2] {
            self.pairs.remove(&place);
        }
    }
}
