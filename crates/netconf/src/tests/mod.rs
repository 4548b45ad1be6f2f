//! Documents as booter writes them, and broken ones; the files that come of each are kept beside the tests.

mod golden;
mod rules;
mod wild;

use crate::{Facts, File, Networking, NodeSettings, Plan, Problem, plan, render};

/// The plan, files and problems of a document on a machine whose NICs are not known.
pub(crate) fn made_of(text: &str) -> (Plan, Vec<File>, Vec<Problem>) {
    made_with(text, &Facts::default())
}

pub(crate) fn made_with(text: &str, facts: &Facts) -> (Plan, Vec<File>, Vec<Problem>) {
    let (networking, mut problems) = Networking::parse(text.as_bytes());
    let (plan, more) = plan(networking.as_ref(), facts);
    problems.extend(more);
    let files = render(&plan);
    (plan, files, problems)
}

pub(crate) fn settings(text: &str) -> Facts {
    Facts { settings: NodeSettings::parse(text), ..Facts::default() }
}

/// The text of the file whose path ends so.
pub(crate) fn file<'a>(files: &'a [File], end: &str) -> &'a str {
    let found = files.iter().find(|file| file.path.ends_with(end));
    &found.unwrap_or_else(|| panic!("{end} among {:?}", files.iter().map(|file| &file.path).collect::<Vec<_>>())).text
}
