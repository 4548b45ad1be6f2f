//! What each name does, and how it ends (metadata.md section 6.1): 0 success, 1 not found, 2 failure, 3 usage.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
};

use triton_mdata::client::{Ask, Told};

use crate::transport::Server;

/// Bytes of a value that are read from standard input: the service takes fewer.
const MAX_VALUE: u64 = 16 << 20;

const NOT_FOUND: u8 = 1;
const FAILED: u8 = 2;
const USAGE: u8 = 3;

/// A name of the program.
struct Verb {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
}

const VERBS: [Verb; 4] = [
    Verb { name: "mdata-get", arguments: "KEY", about: "print the value of a key of this instance's metadata" },
    Verb { name: "mdata-list", arguments: "", about: "print the names of all keys, one per line" },
    Verb { name: "mdata-put", arguments: "KEY [VALUE]", about: "set a key; without VALUE, to what is read from standard input" },
    Verb { name: "mdata-delete", arguments: "KEY", about: "remove a key" },
];

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn help(verb: &Verb) -> String {
    let usage = format!("usage: {} {}", verb.name, verb.arguments);
    format!(
        "{}\n\n{}: {}.\n\nexit status: 0 success, 1 there is no such key, 2 failure, 3 wrong usage\nfiles: /.zonecontrol/metadata.sock, \
         /native/.zonecontrol/metadata.sock, /dev/ttyS1\n",
        usage.trim_end(),
        verb.name,
        verb.about
    )
}

/// Runs the program under one of its names.
pub(crate) fn run(name: &str, words: &[OsString]) -> ExitCode {
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        for verb in &VERBS {
            say(format!("usage: {} {}", verb.name, verb.arguments).trim_end());
        }
        return ExitCode::from(USAGE);
    };
    if words.first().is_some_and(|word| word == "-h" || word == "--help") {
        let _ = write!(io::stdout(), "{}", help(verb));
        return ExitCode::SUCCESS;
    }
    let usage = || {
        say(format!("usage: {} {}", verb.name, verb.arguments).trim_end());
        ExitCode::from(USAGE)
    };
    let mut texts = Vec::new();
    for word in words {
        match word.to_str() {
            Some(text) => texts.push(text.to_owned()),
            None => {
                say(&format!("{}: {word:?} is not UTF-8", verb.name));
                return ExitCode::from(USAGE);
            }
        }
    }
    let ask = match (verb.name, texts.as_slice()) {
        ("mdata-get", [key]) => Ask::Get(key.clone()),
        ("mdata-delete", [key]) => Ask::Delete(key.clone()),
        ("mdata-list", []) => Ask::Keys,
        ("mdata-put", [key, value]) => Ask::Put(key.clone(), value.clone().into_bytes()),
        ("mdata-put", [key]) if !io::stdin().is_terminal() => {
            let mut value = Vec::new();
            if let Err(error) = io::stdin().lock().take(MAX_VALUE).read_to_end(&mut value) {
                say(&format!("ERROR: could not read the value: {error}"));
                return ExitCode::from(FAILED);
            }
            Ask::Put(key.clone(), value)
        }
        _ => return usage(),
    };
    match Server::find().and_then(|mut server| server.ask(&ask)) {
        Err(error) => {
            say(&format!("ERROR: {error}"));
            ExitCode::from(FAILED)
        }
        Ok(told) => end(&ask, told),
    }
}

fn end(ask: &Ask, told: Told) -> ExitCode {
    match (ask, told) {
        (Ask::Get(key), Told::NotFound) => {
            say(&format!("No metadata for '{key}'"));
            ExitCode::from(NOT_FOUND)
        }
        (_, Told::NotFound) => {
            say("ERROR: the service does not know what was asked");
            ExitCode::from(FAILED)
        }
        (_, Told::Failure(reason)) => {
            say(&format!("ERROR: {}", if reason.is_empty() { "the service refused" } else { &reason }));
            ExitCode::from(FAILED)
        }
        (Ask::Get(_), Told::Success(value)) => print(&value, true),
        (Ask::Keys, Told::Success(value)) => print(&value, !value.is_empty()),
        (Ask::Put(..) | Ask::Delete(_), Told::Success(_)) => ExitCode::SUCCESS,
    }
}

/// Prints a value, and ends its last line.
fn print(value: &[u8], end: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let ending: &[u8] = if end && value.last() != Some(&b'\n') { b"\n" } else { b"" };
    match out.write_all(value).and_then(|()| out.write_all(ending)).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("ERROR: could not write: {error}"));
            ExitCode::from(FAILED)
        }
    }
}
