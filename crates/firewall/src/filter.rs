//! The table in the kernel: brought to what it should be in one transaction, under its lock (ruling 13, section 12.6).

use std::{borrow::Cow, collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use triton_files::{Layout, Lock, steps};
use triton_fwrule::Direction;
use triton_nft::{Batch, Content, Counter, Family, Nft, NftError, StoredRule, Watch};
use triton_types::InstanceUuid;

use crate::{
    Backend, Compiler, Desired, FirewallError,
    desired::Touched,
    names,
    plan::{self, Present},
    table::{self, TABLE},
    whole,
};

/// How long a change waits for another.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a change is begun anew because somebody changed rules meanwhile.
const TRIES: usize = 10;

/// The table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Filter {
    nft: Nft,
    lock: PathBuf,
    /// What there is since the last change by this one.
    last: Option<Remembered>,
    /// Tells whether that is still so when others changed other tables; there once something is remembered.
    watch: Option<Watch>,
    /// The network namespace of the table.
    namespace: Option<(u64, u64)>,
    readings: usize,
}

/// What there is, the generation of the rules that it is of, and which state of a compiler that was ([`Touched::since`]).
#[derive(Debug)]
struct Remembered {
    generation: u32,
    present: Present,
    state: u64,
}

/// What a change did, and the instances that were not judged before.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) applied: Applied,
    pub(crate) unjudged: BTreeSet<InstanceUuid>,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Messages of the transaction: 0 when all was as it should be.
    pub messages: usize,
    /// The table was not there, or another version's, and was made.
    pub made: bool,
}

/// What a line of an instance's chain counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Which packets.
    pub direction: Direction,
    /// UUID of the rule; none for what no rule allowed.
    pub rule: Option<String>,
    /// Packets and bytes since the chain was made.
    pub counter: Counter,
}

impl Filter {
    /// Opens the table of the calling thread's network namespace. Nothing is changed.
    ///
    /// # Errors
    /// Without the right to change rules, or on a kernel without nf_tables.
    pub fn open(layout: &Layout) -> Result<Self, FirewallError> {
        let (nft, lock) = (Nft::open()?, layout.at("/run/triton/firewall.lock"));
        Ok(Self { nft, lock, last: None, watch: None, namespace: namespace(), readings: 0 })
    }

    /// How connections are known, if the table is there with the rules of this version.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn backend(&mut self) -> Result<Option<Backend>, FirewallError> {
        for backend in [Backend::Native, Backend::Marks] {
            if self.nft.has_chain(Family::Bridge, TABLE, backend.version())? {
                let whole = backend == Backend::Native || self.nft.has_chain(Family::Inet, table::MARKS, table::MARKS_CHAIN)?;
                return Ok(whole.then_some(backend));
            }
        }
        Ok(None)
    }

    /// Makes the table what it should be. Without instances to filter there is no table.
    ///
    /// # Errors
    /// What was in force still is.
    pub fn apply(&mut self, desired: &Desired) -> Result<Applied, FirewallError> {
        let _lock = Lock::take(&self.lock, "change the firewall", PATIENCE)?;
        Ok(self.apply_locked(desired, None, false)?.applied)
    }

    /// As [`Filter::apply`], and makes the table anew when it has not exactly the lines that it was made with.
    ///
    /// # Errors
    /// What was in force still is.
    pub fn repair(&mut self, desired: &Desired) -> Result<Applied, FirewallError> {
        let _lock = Lock::take(&self.lock, "repair the firewall", PATIENCE)?;
        Ok(self.apply_locked(desired, None, true)?.applied)
    }

    /// As [`Filter::apply`] with what the compiler has; looks only at what the compiler touched since the last time, if nobody else changed the
    /// table meanwhile. `closely`: as [`Filter::repair`].
    ///
    /// # Errors
    /// What was in force still is, and the next call compares everything.
    pub fn follow(&mut self, compiler: &mut Compiler, closely: bool) -> Result<Applied, FirewallError> {
        Ok(self.followed(compiler, closely)?.applied)
    }

    /// [`Filter::follow`] with all that is to be told of it.
    pub(crate) fn followed(&mut self, compiler: &mut Compiler, closely: bool) -> Result<Outcome, FirewallError> {
        let _lock = Lock::take(&self.lock, "change the firewall", PATIENCE)?;
        let outcome = self.apply_locked(compiler.desired(), Some(compiler.touched()), closely)?;
        let state = compiler.settle();
        if let Some(last) = &mut self.last {
            last.state = state;
        }
        Ok(outcome)
    }

    /// How often the whole table was read so far.
    pub fn readings(&self) -> usize {
        self.readings
    }

    fn apply_locked(&mut self, desired: &Desired, touched: Option<&Touched>, closely: bool) -> Result<Outcome, FirewallError> {
        for _ in 0..TRIES {
            let mut generation = self.nft.generation()?;
            let last = self.last.take().filter(|_| !closely);
            let last = last.filter(|last| last.generation == generation || self.is_untouched(last.generation, generation));
            let backend = self.backend()?;
            if desired.is_empty() {
                return self.remove(backend.is_some());
            }
            let (desired, batch, present, made, unjudged) = match backend {
                Some(backend) => {
                    let native = backend == Backend::Native;
                    // What is not known may be of anything.
                    let known = touched.filter(|_| desired.unknown == Default::default());
                    let scope = known.filter(|touched| last.as_ref().is_some_and(|last| last.state == touched.since));
                    let (present, desired, whole) = match self.present(desired, backend, last.map(|last| last.present), closely) {
                        // Somebody emptied the table meanwhile.
                        Err(error) if error.is_missing() => continue,
                        result => result?,
                    };
                    let unjudged = plan::unjudged(&present, &desired, scope);
                    if whole {
                        let (batch, present) = plan::between(present, &desired, scope, Batch::new(Family::Bridge, TABLE));
                        (desired, batch, present, false, unjudged)
                    } else {
                        let fresh = Present { zones_before: present.zones.unwrap_or_default(), ..Present::fresh(native) };
                        let (batch, present) = plan::between(fresh, &desired, None, table::build(backend, self.turn()?));
                        (desired, batch, present, true, unjudged)
                    }
                }
                None => {
                    let backend = self.probe()?;
                    generation = self.nft.generation()?;
                    let unjudged = desired.instances().difference(&self.instances()?).copied().collect();
                    let anew = table::build(backend, self.turn()?);
                    let (batch, present) = plan::between(Present::fresh(backend == Backend::Native), desired, None, anew);
                    (Cow::Borrowed(desired), batch, present, true, unjudged)
                }
            };
            let messages = batch.len();
            steps::reached("firewall.before-commit");
            // Under the generation that was read: a change by somebody else begins this one anew.
            match self.nft.commit_if(batch, Some(generation)) {
                Err(NftError::Changed) => {}
                result => {
                    result?;
                    steps::reached("firewall.committed");
                    self.remember(&desired, generation.wrapping_add(u32::from(messages > 0)), present)?;
                    return Ok(Outcome { applied: Applied { messages, made }, unjudged });
                }
            }
        }
        Err(NftError::Changed.into())
    }

    /// The next change need not read what nobody but this one changed.
    fn remember(&mut self, desired: &Desired, generation: u32, present: Present) -> Result<(), FirewallError> {
        let mut followed = self.watch.is_some();
        if !followed {
            // Another thread may be in another namespace.
            let here = self.namespace.is_some() && self.namespace == namespace();
            self.watch = here.then(|| Watch::open(TABLE).ok()).flatten();
            // What was changed before it was open, nobody told.
            followed = self.nft.generation()? == generation;
        }
        // What is not known is looked for in the table each time.
        if followed && desired.unknown == Default::default() {
            self.last = Some(Remembered { generation, present, state: 0 });
        }
        Ok(())
    }

    fn is_untouched(&mut self, since: u32, now: u32) -> bool {
        let asked = self.watch.as_mut().map(|watch| watch.is_untouched(since, now));
        matches!(asked, Some(Ok(true)))
    }

    /// What there is, what should be with regard to what is not known, and whether every line is as it was made.
    fn present<'a>(
        &mut self,
        desired: &'a Desired,
        backend: Backend,
        last: Option<Present>,
        closely: bool,
    ) -> Result<(Present, Cow<'a, Desired>, bool), NftError> {
        let present = match last {
            Some(present) => present,
            None => {
                self.readings += 1;
                Present::read(&mut self.nft, desired, backend == Backend::Native)?
            }
        };
        let desired = if desired.unknown.rules.is_empty() {
            Cow::Borrowed(desired)
        } else {
            // What a rule that cannot be read says is known by its lines alone: their chains stay.
            let of_unknown = |rule: StoredRule, _: Content<'_>| {
                let uuid = rule.comment?.parse().ok()?;
                desired.unknown.rules.contains(&uuid).then_some(rule.chain)
            };
            let kept = self.nft.all_rules(Family::Bridge, TABLE, of_unknown)?;
            Cow::Owned(desired.keeping(&kept.into_iter().flatten().collect()))
        };
        let whole = !closely || whole::is_whole(&mut self.nft, backend, &present, &desired)?;
        Ok((present, desired, whole))
    }

    /// Where the hooks of a table are that takes the place of this one.
    fn turn(&mut self) -> Result<i32, NftError> {
        let chains = self.nft.all_chains(Family::Bridge, TABLE)?;
        Ok(table::behind(chains.iter().find(|chain| chain.name == "forward").and_then(|chain| chain.priority)))
    }

    fn remove(&mut self, there: bool) -> Result<Outcome, FirewallError> {
        let removed = |messages| Outcome { applied: Applied { messages, made: false }, unjudged: BTreeSet::new() };
        if !there && !self.nft.has_table(Family::Bridge, TABLE)? {
            return Ok(removed(0));
        }
        if self.nft.has_table(Family::Inet, table::MARKS)? {
            self.nft.commit(Batch::new(Family::Inet, table::MARKS).without_table())?;
        }
        let batch = Batch::new(Family::Bridge, TABLE).without_table();
        let messages = batch.len();
        self.nft.commit(batch)?;
        Ok(removed(messages))
    }

    /// Finds out how connections can be known on this kernel; prepares what it takes.
    fn probe(&mut self) -> Result<Backend, FirewallError> {
        match self.nft.commit(table::probe()) {
            Ok(()) => {
                if bridges_call_ip() {
                    tracing::error!("packets of bridges pass the hooks of IP too (bridge-nf-call-iptables): it must be 0 on a node");
                }
                Ok(Backend::Native)
            }
            Err(NftError::Refused { what, .. }) => {
                tracing::warn!(what, "bridges of this kernel track no connections: packets are marked where IP tracks them");
                if !self.nft.has_chain(Family::Inet, table::MARKS, table::MARKS_CHAIN)? {
                    self.nft.commit(table::marks())?;
                }
                for family in ["iptables", "ip6tables"] {
                    let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                    if let Err(error) = fs::write(&path, "1") {
                        tracing::warn!(path, %error, "answers to what guests ask will not be known");
                    }
                }
                Ok(Backend::Marks)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// True if the packets of this link are judged, by chains of its instance.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn covers(&mut self, links: &[String]) -> Result<bool, FirewallError> {
        if self.backend()?.is_none() {
            return Ok(false);
        }
        for map in [names::EGRESS, names::INGRESS] {
            let stored = self.nft.elements(Family::Bridge, TABLE, map)?;
            if !links.iter().all(|link| stored.iter().any(|stored| stored.key.begins_with_name(link))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Instances whose packets are judged.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn instances(&mut self) -> Result<BTreeSet<InstanceUuid>, FirewallError> {
        Ok(self.nft.chains(Family::Bridge, TABLE)?.iter().filter_map(|name| names::vm_of(name)).collect())
    }

    /// What the lines of an instance's chains counted, in their order; `None` when it is not filtered.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn hits(&mut self, vm: InstanceUuid) -> Result<Option<Vec<Hits>>, FirewallError> {
        let chains: Vec<String> =
            self.nft.chains(Family::Bridge, TABLE)?.into_iter().filter(|name| names::vm_of(name) == Some(vm)).collect();
        if chains.is_empty() {
            return Ok(None);
        }
        let mut hits = Vec::new();
        for chain in chains {
            let direction = if chain.starts_with("in_") { Direction::In } else { Direction::Out };
            for rule in self.nft.rules(Family::Bridge, TABLE, &chain)? {
                hits.push(Hits { direction, rule: rule.comment, counter: rule.counter.unwrap_or_default() });
            }
        }
        Ok(Some(hits))
    }
}

/// Which network namespace the calling thread is in.
fn namespace() -> Option<(u64, u64)> {
    fs::metadata("/proc/thread-self/ns/net").ok().map(|namespace| (namespace.dev(), namespace.ino()))
}

fn bridges_call_ip() -> bool {
    fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|text| text.trim() == "1")
}
