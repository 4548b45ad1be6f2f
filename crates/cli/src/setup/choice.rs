//! Which of the disks become the pool.

use std::path::Path;

use super::{
    args::Setup,
    disks::{self, Disk, State},
    layout::PoolLayout,
};

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The disks, by name.
    pub(crate) disks: Vec<Disk>,
    /// The layout.
    pub(crate) layout: PoolLayout,
}

impl Choice {
    /// Disks whose data is destroyed.
    pub(crate) fn erased(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().filter(|disk| matches!(disk.state, State::Holds(_)))
    }

    /// Chooses among the machine's disks.
    ///
    /// # Errors
    /// Every reason why what was asked for cannot be had.
    pub(crate) fn of(all: &[Disk], wanted: &Setup) -> Result<Self, Vec<String>> {
        let disks = if wanted.disk.is_empty() && wanted.erase.is_empty() { every_empty(all)? } else { named(all, wanted, &wanted.dev)? };
        let layout = match wanted.layout {
            Some(layout) => layout,
            None => PoolLayout::default_for(disks.len())
                .ok_or_else(|| vec![format!("{} disks: say with --layout what they should become", disks.len())])?,
        };
        layout.groups(disks.len()).map_err(|error| vec![error])?;
        Ok(Self { disks, layout })
    }
}

fn every_empty(all: &[Disk]) -> Result<Vec<Disk>, Vec<String>> {
    let disks: Vec<Disk> = all.iter().filter(|disk| disk.state == State::Empty).cloned().collect();
    if !disks.is_empty() {
        return Ok(disks);
    }
    let mut reasons = vec!["no disk is empty and free".to_owned()];
    reasons.extend(all.iter().map(|disk| format!("{}: {}", disk.name, disk.state.why(&disk.name))));
    Err(reasons)
}

fn named(all: &[Disk], wanted: &Setup, dev: &Path) -> Result<Vec<Disk>, Vec<String>> {
    let (mut chosen, mut reasons): (Vec<Disk>, Vec<String>) = (Vec::new(), Vec::new());
    let words = wanted.disk.iter().map(|word| (word, false)).chain(wanted.erase.iter().map(|word| (word, true)));
    for (word, erase) in words {
        let name = disks::kernel_name(dev, word);
        let Some(disk) = all.iter().find(|disk| disk.name == name) else {
            let known: Vec<&str> = all.iter().map(|disk| disk.name.as_str()).collect();
            reasons.push(format!("{word:?} is no disk of this machine (it has: {})", known.join(", ")));
            continue;
        };
        let by_name = disk.state == State::Unfit("it is removable".to_owned());
        match &disk.state {
            State::Empty => {}
            State::Holds(_) if erase || wanted.erase.iter().any(|other| disks::kernel_name(dev, other) == name) => {}
            _ if by_name && erase => {}
            state => {
                reasons.push(format!("{name}: {}", state.why(&name)));
                continue;
            }
        }
        if !chosen.iter().any(|known| known.name == name) {
            chosen.push(disk.clone());
        }
    }
    chosen.sort_by(|one, other| one.name.cmp(&other.name));
    if reasons.is_empty() { Ok(chosen) } else { Err(reasons) }
}

impl State {
    /// For the operator.
    pub(crate) fn why(&self, name: &str) -> String {
        match self {
            Self::Empty => "is empty".to_owned(),
            Self::Holds(what) => format!("holds {what}: left alone; --erase {name} would destroy it"),
            Self::InUse(who) => format!("is in use: {who}"),
            Self::Unfit(why) => format!("cannot be used: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, state: State) -> Disk {
        Disk { name: name.to_owned(), path: format!("/dev/{name}").into(), size: 1 << 34, model: String::new(), state }
    }

    fn machine() -> Vec<Disk> {
        vec![
            disk("sda", State::InUse("sda1 is mounted".to_owned())),
            disk("sdb", State::Empty),
            disk("sdc", State::Holds("zfs_member \"tank\"".to_owned())),
            disk("sdd", State::Empty),
            disk("sde", State::Unfit("it is removable".to_owned())),
        ]
    }

    fn choose(disk: &[&str], erase: &[&str], layout: Option<PoolLayout>) -> Result<(Vec<String>, PoolLayout), Vec<String>> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let wanted = Setup { disk: own(disk), erase: own(erase), layout, dev: "/nonexistent".into(), ..Setup::default() };
        Choice::of(&machine(), &wanted).map(|choice| (choice.disks.into_iter().map(|disk| disk.name).collect(), choice.layout))
    }

    #[test]
    fn without_names_only_empty_disks_are_taken() {
        assert_eq!(choose(&[], &[], None).unwrap(), (vec!["sdb".to_owned(), "sdd".to_owned()], PoolLayout::Mirror));
    }

    #[test]
    fn data_is_destroyed_only_on_disks_that_are_named_for_it() {
        let refused = choose(&["sdc"], &[], None).unwrap_err();
        assert!(refused[0].contains("zfs_member \"tank\"") && refused[0].contains("--erase sdc"), "{refused:?}");
        assert_eq!(choose(&[], &["sdc"], None).unwrap().0, ["sdc"]);
        assert_eq!(choose(&["sdc", "sdb"], &["sdc"], None).unwrap().0, ["sdb", "sdc"], "named twice is one disk");
    }

    /// platform case 28: what is in use is excluded, even by name
    #[test]
    fn a_disk_in_use_is_refused_even_by_name() {
        let refused = choose(&["sdb"], &["sda"], None).unwrap_err();
        assert_eq!(refused, ["sda: is in use: sda1 is mounted"]);
    }

    #[test]
    fn every_bad_name_is_told_at_once() {
        let refused = choose(&["sdx", "sde"], &["sda"], None).unwrap_err();
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[0].contains("\"sdx\" is no disk") && refused[0].contains("sdb, sdc"), "{refused:?}");
        assert_eq!(choose(&[], &["sde"], None).unwrap().0, ["sde"], "a removable disk by name");
    }

    #[test]
    fn a_layout_that_does_not_fit_is_refused() {
        assert!(choose(&["sdb"], &[], Some(PoolLayout::Mirror)).unwrap_err()[0].contains("mirror wants"));
    }
}
