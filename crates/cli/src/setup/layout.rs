//! How disks become a pool.

use clap::ValueEnum;

/// A layout of a pool; each disk is in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolLayout {
    /// One disk without a second copy of anything
    Single,
    /// Pairs; one disk of each pair may fail
    Mirror,
    /// One disk may fail
    Raidz1,
    /// Two disks may fail
    Raidz2,
    /// Three disks may fail
    Raidz3,
}

impl PoolLayout {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Mirror => "mirror",
            Self::Raidz1 => "raidz1",
            Self::Raidz2 => "raidz2",
            Self::Raidz3 => "raidz3",
        }
    }

    /// What is used for so many disks if nothing is asked for. None: it has to be asked for.
    pub(crate) fn default_for(disks: usize) -> Option<Self> {
        match disks {
            1 => Some(Self::Single),
            2 => Some(Self::Mirror),
            3..=4 => Some(Self::Raidz1),
            5..=12 => Some(Self::Raidz2),
            _ => None,
        }
    }

    /// The groups of a pool of so many disks, as numbers of disks.
    ///
    /// # Errors
    /// Why that many disks do not make this layout.
    pub(crate) fn groups(self, disks: usize) -> Result<Vec<usize>, String> {
        let wrong = |wanted: &str| Err(format!("{} wants {wanted}, not {disks}", self.name()));
        let raidz = |parity: usize| {
            if (parity + 2..=20).contains(&disks) { Ok(vec![disks]) } else { wrong(&format!("{} to 20 disks", parity + 2)) }
        };
        match self {
            Self::Single if disks == 1 => Ok(vec![1]),
            Self::Single => wrong("one disk"),
            Self::Mirror if disks >= 2 && disks.is_multiple_of(2) => Ok(vec![2; disks / 2]),
            Self::Mirror => wrong("an even number of disks"),
            Self::Raidz1 => raidz(1),
            Self::Raidz2 => raidz(2),
            Self::Raidz3 => raidz(3),
        }
    }

    /// Words of `zpool create` for these devices.
    ///
    /// # Errors
    /// As [`PoolLayout::groups`].
    pub(crate) fn words(self, devices: &[String]) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        let mut rest = devices;
        for count in self.groups(devices.len())? {
            let (group, others) = rest.split_at(count);
            if self != Self::Single {
                words.push(self.name().to_owned());
            }
            words.extend(group.iter().cloned());
            rest = others;
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::PoolLayout::{self, Mirror, Raidz1, Raidz2, Raidz3, Single};

    fn devices(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("d{number}")).collect()
    }

    #[test]
    fn the_number_of_disks_decides_unless_it_is_large() {
        let chosen: Vec<_> = [0, 1, 2, 3, 4, 5, 12, 13].map(PoolLayout::default_for).into();
        let expected = [None, Some(Single), Some(Mirror), Some(Raidz1), Some(Raidz1), Some(Raidz2), Some(Raidz2), None];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn every_disk_is_in_one_group_and_wrong_numbers_are_named() {
        assert_eq!(Single.words(&devices(1)).unwrap(), ["d0"]);
        assert_eq!(Mirror.words(&devices(4)).unwrap(), ["mirror", "d0", "d1", "mirror", "d2", "d3"]);
        assert_eq!(Raidz2.words(&devices(5)).unwrap(), ["raidz2", "d0", "d1", "d2", "d3", "d4"]);
        for (layout, disks) in [(Single, 2), (Mirror, 1), (Mirror, 3), (Raidz1, 2), (Raidz2, 3), (Raidz3, 4), (Raidz3, 21)] {
            let error = layout.words(&devices(disks)).unwrap_err();
            assert!(error.contains(layout.name()) && error.ends_with(&format!("not {disks}")), "{error}");
        }
    }
}
