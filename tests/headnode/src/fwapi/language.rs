//! As much of the language of rules as FWAPI's answers need: whom each side names. A reading of its own, by patterns; it takes the
//! normal form, with or without quotes around names.

use std::sync::LazyLock;

use regex::Regex;

/// One side of a rule.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub all: bool,
    /// Name and, where given, value.
    pub tags: Vec<(String, Option<String>)>,
    pub vms: Vec<String>,
}

/// A rule's text, as far as it is understood here.
#[derive(Debug)]
pub(super) struct Text {
    pub from: Side,
    pub to: Side,
    pub allow: bool,
    pub priority: u32,
}

static RULE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^FROM (?<from>.+) TO (?<to>.+?) (?<action>ALLOW|BLOCK) (?:(?:tcp|udp) (?:\(?PORT .+|PORTS .+)|icmp6? \(?TYPE .+|ah|esp)(?: PRIORITY (?<priority>\d+))?$",
    )
    .ok()
});
static TARGET: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r#"("(?:[^"\\]|\\.)*"|[A-Za-z0-9_-]+)"#;
    Regex::new(&format!(r"^(?:tag {name}(?: = {name})?|vm ([0-9a-f-]{{36}})|ip [0-9a-f.:]+|subnet [0-9a-f.:]+/\d+)$")).ok()
});

pub(super) fn read(text: &str) -> Option<Text> {
    let found = RULE.as_ref()?.captures(text)?;
    // The greedy pattern of PORT swallows a priority.
    let priority = text.rsplit_once(" PRIORITY ").and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
    Some(Text { from: side(&found["from"])?, to: side(&found["to"])?, allow: &found["action"] == "ALLOW", priority })
}

fn side(text: &str) -> Option<Side> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    let mut side = Side { all: inner == "all vms", ..Side::default() };
    if side.all || inner == "any" {
        return Some(side);
    }
    for target in inner.split(" OR ") {
        let found = TARGET.as_ref()?.captures(target)?;
        let name = |index: usize| found.get(index).map(|name| name.as_str().trim_matches('"').to_owned());
        if let Some(key) = name(1) {
            side.tags.push((key, name(2)));
        }
        side.vms.extend(name(3));
    }
    Some(side)
}

impl Side {
    /// Whether it names instances at all.
    pub(super) fn names_any(&self) -> bool {
        self.all || !self.tags.is_empty() || !self.vms.is_empty()
    }
}
