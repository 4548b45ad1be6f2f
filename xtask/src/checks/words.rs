//! Words that say "this is not done": they belong into an issue, not into what operators run.

use anyhow::Result;

use super::Finding;
use crate::workspace::{self, Workspace};

/// The words, written in halves so that this file does not contain them. Upper-case ones are looked for as they are.
const WORDS: [(&str, &str); 9] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("to", "do!("),
    ("unimpl", "emented!("),
    ("for n", "ow,"),
    ("place", "holder"),
    ("not yet imple", "mented"),
    ("dbg", "!("),
];

/// Looks through every text that a person reads as code.
pub fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace::files()? {
        let read = path.extension().is_some_and(|extension| ["rs", "toml", "sh", "service"].iter().any(|wanted| extension == *wanted));
        if read {
            findings.extend(scan(&path.display().to_string(), &workspace::read(&path)?));
        }
    }
    Ok(findings)
}

fn scan(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (first, second) in WORDS {
            let word = format!("{first}{second}");
            if contains_word(line, &word) {
                let place = format!("{path}:{}", number + 1);
                findings.push(Finding::new(place, format!("\"{word}\""), "finish it, or say plainly what is deliberately absent and why"));
            }
        }
    }
    findings
}

/// True if `word` stands in `line` and is not the middle of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_with_its_place_and_a_longer_word_is_not_it() {
        let text = format!("fine\n// {}{}: later\nlet mas{}{}x = 1;\n", "TO", "DO", "to", "do");
        let found = scan("a.rs", &text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().starts_with("a.rs:2"), "{found:?}");
        assert!(!contains_word("MASTODON", &format!("{}{}", "TO", "DO")));
    }
}
