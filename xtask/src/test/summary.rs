//! What a tier's run came to, read from the words of the test runners.

use std::fmt;

/// Tests that passed and that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed, timed out, or could not be started.
    pub failed: usize,
}

/// How a tier ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It ran.
    Ran(Counts),
    /// It ran, except for those of its tests that could not run on this machine, for this reason.
    Partly(Counts, String),
    /// It could not run on this machine, for this reason.
    NotRun(String),
    /// It is not part of this run, for this reason: no failure anywhere.
    Absent(&'static str),
}

impl Report {
    /// Its part of the total; a tier that could not run is a failure in CI.
    pub fn counts(&self, ci: bool) -> Counts {
        match self {
            Self::Ran(counts) => *counts,
            Self::Partly(counts, _) => Counts { failed: counts.failed + usize::from(ci), ..*counts },
            Self::NotRun(_) => Counts { passed: 0, failed: usize::from(ci) },
            Self::Absent(_) => Counts::default(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran(Counts { passed, failed }) => write!(f, "{passed} passed, {failed} failed"),
            Self::Partly(Counts { passed, failed }, reason) => write!(f, "{passed} passed, {failed} failed, some not run: {reason}"),
            Self::NotRun(reason) => write!(f, "not run: {reason}"),
            Self::Absent(reason) => write!(f, "absent: {reason}"),
        }
    }
}

/// Adds up every summary in the output of `cargo nextest run` or `cargo test`; `None` if there is none.
pub fn read(output: &str) -> Option<Counts> {
    let mut found = None;
    for line in output.lines().map(plain) {
        let line = line.trim();
        if !line.starts_with("Summary [") && !line.starts_with("test result:") {
            continue;
        }
        let counts = found.get_or_insert_with(Counts::default);
        counts.passed += number_before(line, "passed");
        counts.failed += ["failed", "timed out", "exec failed"].iter().map(|word| number_before(line, word)).sum::<usize>();
    }
    found
}

/// The number that stands right before `word` in a list such as `12 passed (1 slow), 1 failed`.
fn number_before(line: &str, word: &str) -> usize {
    line.split([',', ';', ':', '.'])
        .filter_map(|part| {
            let (number, rest) = part.trim().split_once(' ')?;
            let rest = rest.split(" (").next().unwrap_or(rest).trim();
            (rest == word).then(|| number.parse::<usize>().ok())?
        })
        .sum()
}

/// `line` without the colours of a terminal.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            for inner in characters.by_ref() {
                if inner.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_nextest_are_read_in_every_form() {
        for (line, passed, failed) in [
            ("     Summary [   0.123s] 12 tests run: 12 passed, 3 skipped", 12, 0),
            ("     Summary [   9.2s] 12/20 tests run: 8 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 1 exec failed, 3 skipped", 8, 4),
            ("\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m2\x1b[0m tests run: \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m", 2, 0),
            ("     Summary [   0.000s] 0 tests run: 0 passed, 7 skipped", 0, 0),
            ("     Summary [   0.1s] 1 test run: 0 passed, 1 failed (due to being leaky), 0 skipped", 0, 1),
        ] {
            assert_eq!(read(line), Some(Counts { passed, failed }), "{line}");
        }
        assert_eq!(read("error: could not compile"), None);
    }

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s\n\
                    test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(read(text), Some(Counts { passed: 7, failed: 2 }));
    }

    #[test]
    fn a_tier_that_could_not_run_fails_ci_and_one_that_was_not_asked_for_does_not() {
        assert_eq!(Report::Absent("later").counts(true), Counts::default());
        assert_eq!(Report::NotRun("no root".to_owned()).counts(true).failed, 1);
        assert_eq!(Report::NotRun("no root".to_owned()).counts(false).failed, 0);
    }
}
