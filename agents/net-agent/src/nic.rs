//! One NIC: what this node wants of it, what NAPI has of it, and what is asked of NAPI next (net-agent.md section 4). Pure.
//!
//! A NIC has at most one request under way. [`Nic::observe`] takes what happened and says what to do; requests come from it only when it
//! is given a turn, so that whoever makes them decides how many there are at a time. A failed request is repeated by its owner: the
//! machine then asks for what is right by that time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use triton_types::{JsonMap, Mac, NetworkUuid, Packed};

use crate::{
    compare::{to_guest, to_napi},
    local::{Local, Me, Owner, TAGS_PROVIDED},
};

/// How long a NIC that NAPI announced may lack an instance here.
const AWAITED: Duration = Duration::from_secs(3600);

/// What NAPI has of a NIC.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    pub(crate) object: Packed,
    version: Version,
    /// Of the object: looked for among thousands.
    network: Option<NetworkUuid>,
}

/// The version of what NAPI has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// It came in a list, which has none: to be asked for.
    Unasked,
    /// It came by itself and without one.
    Unknown,
    /// This one.
    Tag(String),
}

fn text<'a>(object: &'a JsonMap, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Remote {
    pub(crate) fn new(object: &JsonMap, version: Version) -> Self {
        Self { object: Packed::from(object), version, network: text(object, "network_uuid").parse().ok() }
    }

    /// Checks that an answer is a NIC, that of `mac` if given.
    ///
    /// # Errors
    /// Names the field that makes it none.
    pub fn of(mac: Option<Mac>, object: &JsonMap, version: Version) -> Result<Self, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let theirs = text("mac").and_then(|mac| mac.parse::<Mac>().ok());
        if theirs.is_none() || mac.is_some_and(|mac| theirs != Some(mac)) {
            return Err(format!("mac is {}", object.get("mac").unwrap_or(&Value::Null)));
        }
        match ["belongs_to_uuid", "belongs_to_type", "state"].into_iter().find(|key| text(key).is_none()) {
            Some(key) => Err(format!("{key} is {}", object.get(key).unwrap_or(&Value::Null))),
            None => Ok(Self::new(object, version)),
        }
    }

    fn belongs_to(&self, owner: &Owner) -> bool {
        text(&self.object.unpack(), "belongs_to_uuid") == owner.uuid()
    }

    /// A NIC that the boot server made for this machine, and that nobody claimed yet.
    fn is_claimable(&self, me: &Me, owner: &Owner) -> bool {
        let object = self.object.unpack();
        let admins = me.admin.as_deref().is_some_and(|admin| text(&object, "owner_uuid") == admin);
        matches!(owner, Owner::Server(_)) && text(&object, "belongs_to_type") == "other" && admins
    }
}

/// Why a NIC is not ours any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// NAPI has no such NIC.
    Missing,
    /// NAPI says that it is somebody else's.
    Foreign,
}

/// What is known of NAPI's side.
#[derive(Clone, Debug, PartialEq)]
enum Side {
    /// NAPI was not asked.
    Unasked,
    /// It has none, and had none since this node knows the NIC.
    Absent,
    /// It has this.
    Has(Remote),
    /// It had one of ours, and said at this time first that it has not. To be asked again before anything follows.
    Doubted { last: Remote, why: Doubt, since: Instant, asked: Instant },
    /// It said so again.
    Disowned(Doubt),
}

/// What this node wants of the NIC.
#[derive(Clone, Debug, PartialEq)]
enum Intent {
    /// NAPI says that it is to come here.
    Await { since: Instant },
    /// It is here.
    Keep(Local),
    /// It went, and NAPI is to forget it if it is still this one's.
    Release { owner: Owner },
    /// It is nobody's business any more.
    Forget,
}

/// A request of NAPI's.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// What is it?
    Get,
    /// Make it.
    Create(JsonMap),
    /// Change these fields.
    Update(JsonMap),
    /// Delete exactly this version.
    Delete {
        /// The version.
        etag: String,
    },
}

/// What NAPI answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The NIC as it is now.
    Is(Remote),
    /// It is deleted.
    Deleted,
    /// There is no such NIC.
    NotFound,
    /// It is another version.
    OtherVersion,
    /// No answer, or one that says nothing of the NIC.
    Failed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The NIC is here, and is this now.
    Local(Local),
    /// This owner does not have it any more. NAPI hears of it, or not (`do_not_inventory`).
    Gone {
        /// Whose it was.
        owner: Owner,
        /// Whether NAPI is to delete it.
        release: bool,
    },
    /// NAPI's may have changed.
    Refresh,
    /// NAPI's list, asked for at this time, has it so, or has it not.
    Listed {
        /// What the list says.
        object: Option<JsonMap>,
        /// When it was asked for.
        asked: Instant,
    },
    /// A request may be made now.
    Turn,
    /// The answer to the request.
    Answer(Answer),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Make this request, and tell the answer.
    Call(Call),
    /// Give it a turn.
    Look,
    /// Give it a turn at this time.
    At(Instant),
    /// Nothing.
    Rest,
    /// Forget the NIC.
    Over,
}

/// The machine of one NIC.
#[derive(Clone, Debug, PartialEq)]
pub struct Nic {
    mac: Mac,
    intent: Intent,
    side: Side,
    /// NAPI is to be asked again, whatever it said.
    stale: bool,
    working: Option<Call>,
    /// When NAPI was last asked or answered.
    heard: Option<Instant>,
    /// What NAPI was told and did not do: not to be told again until something changes.
    refused: Option<JsonMap>,
    /// The tags that a NIC of the machine provides changed while it was watched.
    tags_changed: bool,
}

impl Nic {
    /// A NIC of which nothing is known but that NAPI says it is this node's.
    pub fn awaited(mac: Mac, now: Instant) -> Self {
        Self {
            mac,
            intent: Intent::Await { since: now },
            side: Side::Unasked,
            stale: false,
            working: None,
            heard: None,
            refused: None,
            tags_changed: false,
        }
    }

    /// A NIC that NAPI has and that is not here any more.
    pub fn leftover(mac: Mac, owner: Owner, now: Instant) -> Self {
        Self { intent: Intent::Release { owner }, ..Self::awaited(mac, now) }
    }

    /// Takes what happened.
    pub fn observe(&mut self, event: Event, me: &Me, now: Instant) -> Next {
        match event {
            Event::Local(local) => self.local(local, me, now),
            Event::Gone { owner, release } => match &self.intent {
                Intent::Keep(local) if local.owner == owner => {
                    self.intent = if release { Intent::Release { owner } } else { Intent::Forget };
                }
                Intent::Release { owner: old } if *old == owner && !release => self.intent = Intent::Forget,
                _ => {}
            },
            Event::Refresh => self.stale = true,
            Event::Listed { object, asked } => self.listed(object, asked, me, now),
            Event::Turn => return self.turn(me, now),
            Event::Answer(answer) => self.answer(answer, me, now),
        }
        match self.want(me, now) {
            _ if self.working.is_some() => Next::Rest,
            Next::Call(_) => Next::Look,
            next => next,
        }
    }

    fn local(&mut self, local: Local, me: &Me, now: Instant) {
        match &self.intent {
            Intent::Keep(old) if *old == local => return,
            Intent::Keep(old) => self.tags_changed |= old.tags_provided() != local.tags_provided(),
            // What happened to it meanwhile is not known.
            Intent::Release { .. } | Intent::Forget => self.stale = true,
            Intent::Await { .. } => {}
        }
        self.refused = None;
        self.intent = Intent::Keep(local);
        self.judge(me, now);
    }

    /// Holds what NAPI has against what is here.
    fn judge(&mut self, me: &Me, now: Instant) {
        let Intent::Keep(local) = &self.intent else { return };
        let Side::Has(remote) = &self.side else { return };
        if !remote.belongs_to(&local.owner) && !remote.is_claimable(me, &local.owner) {
            let last = remote.clone();
            self.doubt(last, Doubt::Foreign, me, now);
        }
    }

    fn doubt(&mut self, last: Remote, why: Doubt, me: &Me, now: Instant) {
        let machine = matches!(&self.intent, Intent::Keep(Local { owner: Owner::Server(_), .. }));
        self.side = match &self.side {
            // Nothing is ever taken from the machine: it is left alone.
            _ if machine => Side::Disowned(why),
            Side::Doubted { since, .. } if now >= *since + me.pace.certain_after => Side::Disowned(why),
            Side::Doubted { since, .. } => Side::Doubted { last, why, since: *since, asked: now },
            Side::Disowned(_) => Side::Disowned(why),
            _ => Side::Doubted { last, why, since: now, asked: now },
        };
    }

    fn listed(&mut self, object: Option<JsonMap>, asked: Instant, me: &Me, now: Instant) {
        if self.working.is_some() || self.heard.is_some_and(|heard| heard >= asked) {
            return;
        }
        // An entry without what its network says is half of the truth.
        let whole =
            |object: &JsonMap| !object.contains_key("ip") || ["network_uuid", "nic_tag"].iter().all(|key| object.contains_key(*key));
        let listed = object.filter(whole).and_then(|object| Remote::of(Some(self.mac), &object, Version::Unasked).ok());
        match (listed, &self.side) {
            (Some(_), Side::Doubted { .. } | Side::Disowned(_)) | (None, _) => self.stale = true,
            (Some(new), Side::Has(old)) if new.object == old.object => self.heard = Some(now),
            (Some(new), _) => {
                self.heard = Some(now);
                self.refused = None;
                self.side = Side::Has(new);
                self.judge(me, now);
            }
        }
    }

    fn turn(&mut self, me: &Me, now: Instant) -> Next {
        if self.working.is_some() {
            return Next::Rest;
        }
        let next = self.want(me, now);
        if let Next::Call(call) = &next {
            if *call == Call::Get {
                self.stale = false;
            }
            self.heard = Some(now);
            self.working = Some(call.clone());
        }
        next
    }

    /// What is right to do now.
    fn want(&self, me: &Me, now: Instant) -> Next {
        let ask = Next::Call(Call::Get);
        match (&self.intent, &self.side) {
            (Intent::Forget, _) => Next::Over,
            (_, Side::Unasked) => ask,
            (Intent::Release { .. }, Side::Absent | Side::Disowned(_) | Side::Doubted { .. }) => Next::Over,
            (Intent::Await { .. }, Side::Absent | Side::Disowned(_) | Side::Doubted { .. }) => Next::Over,
            _ if self.stale => ask,
            (Intent::Await { since }, Side::Has(_)) if now >= *since + AWAITED => Next::Over,
            (Intent::Await { since }, Side::Has(_)) => Next::At(*since + AWAITED),
            (Intent::Keep(local), Side::Absent) => Next::Call(Call::Create(local.to_create(self.mac))),
            (Intent::Keep(local), Side::Has(remote)) => match self.differences(local, remote) {
                told if told.is_empty() || self.refused.as_ref() == Some(&told) => Next::Rest,
                mut told => {
                    told.insert("check_owner".to_owned(), json!(false));
                    Next::Call(Call::Update(told))
                }
            },
            (Intent::Keep(_), Side::Doubted { asked, .. }) if now >= *asked + me.pace.certain_after => ask,
            (Intent::Keep(_), Side::Doubted { asked, .. }) => Next::At(*asked + me.pace.certain_after),
            (Intent::Keep(_), Side::Disowned(_)) => Next::Rest,
            (Intent::Release { owner }, Side::Has(remote)) => {
                let settled = ["running", "stopped"].contains(&text(&remote.object.unpack(), "state"));
                match &remote.version {
                    _ if !remote.belongs_to(owner) || !settled => Next::Over,
                    Version::Tag(etag) => Next::Call(Call::Delete { etag: etag.clone() }),
                    Version::Unasked => ask,
                    Version::Unknown => Next::Over,
                }
            }
        }
    }

    fn differences(&self, local: &Local, remote: &Remote) -> JsonMap {
        let (here, there) = (local.body.unpack(), remote.object.unpack());
        let mut told = to_napi(&here, &there);
        if self.tags_changed
            && let Some(tags) = here.get(TAGS_PROVIDED).filter(|tags| there.get(TAGS_PROVIDED) != Some(tags))
        {
            told.insert(TAGS_PROVIDED.to_owned(), tags.clone());
        }
        told
    }
}

mod answer;
#[cfg(test)]
mod tests;
