//! What an answer of NAPI's means, and what others may know of a NIC.

use super::*;

impl Nic {
    pub(super) fn answer(&mut self, answer: Answer, me: &Me, now: Instant) {
        let Some(call) = self.working.take() else { return };
        self.heard = Some(now);
        match (call, answer) {
            (call, Answer::Is(remote)) => {
                self.refused = self.not_taken(call, &remote);
                self.settle(remote, me, now);
            }
            (Call::Get | Call::Update(_), Answer::NotFound) => self.missing(me, now),
            (Call::Delete { .. }, Answer::Deleted | Answer::NotFound) => self.side = Side::Absent,
            (Call::Delete { .. }, Answer::OtherVersion) => self.stale = true,
            // It may have been made all the same.
            (Call::Create(_), _) => self.side = Side::Unasked,
            (Call::Get, _) => self.stale = true,
            (Call::Update(_) | Call::Delete { .. }, _) => {}
        }
    }

    /// What NAPI was told and has otherwise all the same: repeating it is no use.
    fn not_taken(&self, call: Call, remote: &Remote) -> Option<JsonMap> {
        let (Call::Update(mut told), Intent::Keep(local)) = (call, &self.intent) else { return None };
        told.remove("check_owner");
        let left = self.differences(local, remote);
        (left == told).then_some(left)
    }

    fn settle(&mut self, remote: Remote, me: &Me, now: Instant) {
        if let Intent::Keep(local) = &self.intent {
            if !remote.belongs_to(&local.owner) && !remote.is_claimable(me, &local.owner) {
                return self.doubt(remote, Doubt::Foreign, me, now);
            }
            self.tags_changed &= remote.object.unpack().get(TAGS_PROVIDED) != local.tags_provided().as_ref();
        }
        self.side = Side::Has(remote);
    }

    fn missing(&mut self, me: &Me, now: Instant) {
        let last = match &self.side {
            Side::Has(last) | Side::Doubted { last, .. } if matches!(self.intent, Intent::Keep(_)) => last.clone(),
            Side::Disowned(_) => return self.side = Side::Disowned(Doubt::Missing),
            _ => return self.side = Side::Absent,
        };
        self.doubt(last, Doubt::Missing, me, now);
    }

    /// Whose it is here.
    pub fn owner(&self) -> Option<&Owner> {
        match &self.intent {
            Intent::Keep(local) => Some(&local.owner),
            _ => None,
        }
    }

    /// This one has it, or had it and NAPI is still to forget that.
    pub fn concerns(&self, owner: &Owner) -> bool {
        match &self.intent {
            Intent::Keep(local) => local.owner == *owner,
            Intent::Release { owner: old } => old == owner,
            Intent::Await { .. } | Intent::Forget => false,
        }
    }

    /// Nobody here has it, or had it.
    pub fn is_awaited(&self) -> bool {
        matches!(self.intent, Intent::Await { .. })
    }

    /// The last that NAPI said of it, if it is here.
    pub fn told(&self) -> Option<JsonMap> {
        self.last().map(|remote| remote.object.unpack())
    }

    fn last(&self) -> Option<&Remote> {
        match (&self.intent, &self.side) {
            (Intent::Keep(_), Side::Has(remote) | Side::Doubted { last: remote, .. }) => Some(remote),
            _ => None,
        }
    }

    /// What NAPI wants to be otherwise here: fields of `update_nics` without the `mac`. Empty if nothing.
    pub fn wanted_here(&self) -> JsonMap {
        match (&self.intent, &self.side) {
            (Intent::Keep(local), Side::Has(remote)) if remote.belongs_to(&local.owner) => {
                to_guest(&local.body.unpack(), &local.ips, &remote.object.unpack())
            }
            _ => JsonMap::new(),
        }
    }

    /// NAPI said twice that it is not ours.
    pub fn disowned(&self) -> Option<Doubt> {
        match (&self.intent, &self.side) {
            (Intent::Keep(_), Side::Disowned(why)) => Some(*why),
            _ => None,
        }
    }

    /// NAPI said that it is not ours, once or more.
    pub fn is_doubted(&self) -> bool {
        matches!((&self.intent, &self.side), (Intent::Keep(_), Side::Doubted { .. } | Side::Disowned(_)))
    }

    /// Both sides know the same.
    pub fn is_in_step(&self, me: &Me, now: Instant) -> bool {
        matches!(self.intent, Intent::Keep(_))
            && matches!(self.side, Side::Has(_))
            && self.want(me, now) == Next::Rest
            && self.working.is_none()
    }

    /// The network that NAPI has it on.
    pub fn network(&self) -> Option<NetworkUuid> {
        self.last().and_then(|remote| remote.network)
    }
}
