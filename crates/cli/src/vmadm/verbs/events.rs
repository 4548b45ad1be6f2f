//! `vmadm events` (instances.md section 4.5).

use std::{
    io::{self, Write},
    os::fd::AsFd,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use triton_instance::{Event, EventKind, Events, InstanceError, Instances};
use triton_types::{InstanceUuid, JsonMap, Timestamp};

use super::super::{Failure, args};

/// How often it is checked whether somebody still reads, when nothing happens.
const LOOK_AT_READER: Duration = Duration::from_secs(2);
/// An alias that is longer than this is cut in text lines.
const ALIAS_MAX: usize = 30;

pub(super) fn events(instances: &Instances, arguments: &args::Events) -> Result<(), Failure> {
    let mut stream = Events::open(instances, arguments.uuid).map_err(|error| match (error, arguments.uuid) {
        (InstanceError::NotFound { .. }, Some(uuid)) => Failure::Failed(format!("VM {uuid} not found")),
        (error, _) => error.into(),
    })?;
    let writer = Writer { json: arguments.json, full: arguments.full };
    if arguments.ready {
        writer.ready(&stream)?;
    }
    loop {
        // What was said of one that is gone by now: the text line has its alias.
        let aliases: Vec<(InstanceUuid, String)> = stream.told().iter().map(|(uuid, vm)| (*uuid, alias(vm))).collect();
        for event in stream.wait(LOOK_AT_READER)? {
            writer.event(&event, &aliases)?;
        }
        if nobody_reads() {
            return Ok(());
        }
    }
}

struct Writer {
    json: bool,
    full: bool,
}

impl Writer {
    fn ready(&self, stream: &Events<'_>) -> Result<(), Failure> {
        let now = Timestamp::now();
        let uuid = InstanceUuid::random();
        if !self.json {
            return line(&format!("{} - ready", self.head(now, uuid)));
        }
        let vms: JsonMap = stream.told().iter().map(|(uuid, vm)| (uuid.to_string(), Value::Object(vm.clone()))).collect();
        line(&json!({"type": "ready", "date": now, "uuid": uuid, "vms": vms}).to_string())
    }

    fn event(&self, event: &Event, aliases: &[(InstanceUuid, String)]) -> Result<(), Failure> {
        let (now, uuid) = (Timestamp::now(), event.uuid);
        if self.json {
            return line(&object(event, now).to_string());
        }
        let alias = match &event.kind {
            EventKind::Create(vm) | EventKind::Modify(vm, _) => alias(vm),
            EventKind::Delete => aliases.iter().find(|(known, _)| *known == uuid).map_or("-".to_owned(), |(_, alias)| alias.clone()),
        };
        let head = format!("{} {alias}", self.head(now, uuid));
        match &event.kind {
            EventKind::Create(_) => line(&format!("{head} create")),
            EventKind::Delete => line(&format!("{head} delete")),
            EventKind::Modify(_, changes) => changes.iter().try_for_each(|change| {
                let text = |value: &Option<Value>| value.as_ref().map_or("undefined".to_owned(), Value::to_string);
                let (old, new) = (text(&change.old_value), text(&change.new_value));
                line(&format!("{head} modify {} {} :: {old} -> {new}", change.pretty_path, change.action.word()))
            }),
        }
    }

    /// Time and uuid; the time of day and the first part unless both are wanted whole.
    fn head(&self, time: Timestamp, uuid: InstanceUuid) -> String {
        let (time, uuid) = (time.to_string(), uuid.to_string());
        if self.full {
            return format!("[{time}] {uuid}");
        }
        let time = time.split_once('T').map_or(time.as_str(), |(_, of_day)| of_day);
        format!("[{time}] {}", uuid.split('-').next().unwrap_or(&uuid))
    }
}

fn object(event: &Event, date: Timestamp) -> Value {
    let uuid = event.uuid;
    let head = |kind: &str| json!({"type": kind, "date": date, "zonename": uuid, "uuid": uuid});
    let (mut value, vm, changes) = match &event.kind {
        EventKind::Create(vm) => (head("create"), Some(vm), None),
        EventKind::Modify(vm, changes) => (head("modify"), Some(vm), Some(changes)),
        EventKind::Delete => (head("delete"), None, None),
    };
    if let Some(vm) = vm {
        value["vm"] = Value::Object(vm.clone());
    }
    if let Some(changes) = changes {
        value["changes"] = json!(changes);
    }
    value
}

/// An instance's alias for a line of text: cut when long, and without what would be acted on by a terminal.
fn alias(vm: &JsonMap) -> String {
    let alias = vm.get("alias").and_then(Value::as_str).filter(|alias| !alias.is_empty()).unwrap_or("-");
    let clean: String = alias.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.chars().count() <= ALIAS_MAX { clean } else { clean.chars().take(ALIAS_MAX - 3).chain("...".chars()).collect() }
}

fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Whether the other end of standard output is closed.
fn nobody_reads() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents().is_some_and(|events| events.intersects(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_cut_and_harmless() {
        let of = |alias: &str| super::alias(json!({"alias": alias}).as_object().unwrap());
        assert_eq!(of(&"x".repeat(30)), "x".repeat(30));
        assert_eq!(of(&"x".repeat(31)), format!("{}...", "x".repeat(27)));
        assert_eq!(of("a\u{1b}[2J"), "a?[2J");
        assert_eq!(of(""), "-");
    }
}
