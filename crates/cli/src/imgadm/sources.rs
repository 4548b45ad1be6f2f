//! `imgadm sources`.

use std::{
    io::{Seek, Write},
    process::Command,
};

use triton_agent::chain;
use triton_files::Layout;
use triton_image::{ImageError, Images, ImportOptions, Remote, Source};

use super::{
    Failure, args,
    output::{print_json, say},
    table,
};

pub(super) fn run(layout: &Layout, args: &args::Sources) -> Result<(), Failure> {
    if let Some(url) = &args.add {
        return add(layout, args, url);
    }
    if let Some(url) = &args.delete {
        return match Images::delete_source(layout, url)? {
            true => say(&format!("Deleted \"imgapi\" image source \"{url}\"")),
            false => say(&format!("Do not have image source \"{url}\", no change")),
        };
    }
    let sources = Images::sources(layout)?;
    if args.edit {
        return edit(layout, &sources);
    }
    if args.check {
        return check(&sources);
    }
    if args.json {
        return print_json(&sources);
    }
    if args.verbose {
        let row = |source: &Source| vec![source.url.clone(), source.kind.clone(), source.insecure.to_string()];
        let rows: Vec<_> = sources.iter().map(row).collect();
        return say(table::render(&["url", "type", "insecure"], &rows).trim_end());
    }
    sources.iter().try_for_each(|source| say(&source.url))
}

fn add(layout: &Layout, args: &args::Sources, url: &str) -> Result<(), Failure> {
    if args.kind != "imgapi" {
        return Err(Failure::usage(format!("unsupported type of image source: {:?}; only \"imgapi\" is known", args.kind)));
    }
    let source = Source { insecure: args.insecure, ..Source::new(url)? };
    let url = source.url.clone();
    let known = Images::sources(layout)?.iter().any(|known| known.url == url);
    if !known && !args.force {
        let answers = Remote::open(std::slice::from_ref(&source), &ImportOptions::default().http)?.ping()?;
        let problems: Vec<_> = answers.into_iter().filter_map(|ping| ping.problem).collect();
        if !problems.is_empty() {
            return Err(ImageError::Sources(problems).into());
        }
    }
    match Images::add_source(layout, source)? {
        true => say(&format!("Added \"imgapi\" image source \"{url}\"")),
        false => say(&format!("Already have \"imgapi\" image source \"{url}\", no change")),
    }
}

fn check(sources: &[Source]) -> Result<(), Failure> {
    let answers = Remote::open(sources, &ImportOptions::default().http)?.ping()?;
    let mut broken = 0;
    let mut rows = Vec::new();
    for ping in answers {
        let status = match &ping.problem {
            None => "ok".to_owned(),
            Some(problem) => {
                broken += 1;
                chain(&problem.error).to_string()
            }
        };
        rows.push(vec![ping.source, "imgapi".to_owned(), status]);
    }
    say(table::render(&["url", "type", "status"], &rows).trim_end())?;
    match broken {
        0 => Ok(()),
        count => Err(Failure::new("SourcePing", format!("{count} of {} image sources did not answer", rows.len()))),
    }
}

/// Lets the operator change the list in an editor. Nothing changes when the text is not a list of sources.
fn edit(layout: &Layout, sources: &[Source]) -> Result<(), Failure> {
    let trouble = |error: std::io::Error| Failure::new("InternalError", format!("could not edit the image sources: {error}"));
    let mut file = tempfile::Builder::new().prefix("imgadm-sources-").suffix(".json").tempfile().map_err(trouble)?;
    let text = serde_json::to_string_pretty(sources).map_err(|error| Failure::new("InternalError", error.to_string()))?;
    writeln!(file, "{text}").and_then(|()| file.rewind()).map_err(trouble)?;
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // The variable may hold arguments (`emacs -nw`), as for git and visudo.
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or("vi")).args(words).arg(file.path()).status().map_err(trouble)?;
    if !status.success() {
        return Err(Failure::new("InternalError", format!("the editor {editor:?} ended with {status}, no change")));
    }
    let text = std::fs::read_to_string(file.path()).map_err(trouble)?;
    let edited: Vec<Source> = serde_json::from_str(&text)
        .map_err(|error| Failure::new("ConfigError", format!("this is not a list of image sources, no change: {error}")))?;
    let checked = edited.into_iter().map(|source| Ok(Source { url: Source::new(&source.url)?.url, ..source }));
    let checked = checked.collect::<Result<Vec<_>, ImageError>>()?;
    match Images::replace_sources(layout, checked)? {
        true => say("Changed the image sources"),
        false => say("No change"),
    }
}
