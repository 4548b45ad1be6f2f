//! What an event makes of what is stored (firewaller.md section 8). Every handler may run twice: events may come twice.

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use triton_fwrule::{Options, RemoteVm, Rule, RuleErrors, VmFacts};
use triton_headnode::{HttpError, HttpFailure, Peers};
use triton_types::{InstanceUuid, OwnerUuid, RuleUuid};

use crate::{
    Edit, Services, Stored,
    backend::on,
    want::{concerns_any, instance, names_remote, peers_of, predicate, question, remotes, updated},
};

type Object = Map<String, Value>;

/// A task that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The node's own part.
    #[error("{0}")]
    Node(String),
    /// FWAPI or VMAPI.
    #[error(transparent)]
    Headnode(#[from] HttpError),
    /// The rule is none.
    #[error("the rule is not valid: {0}")]
    Rule(#[from] RuleErrors),
}

impl TaskError {
    /// True when FWAPI or VMAPI as a whole does not answer.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Headnode(error) if matches!(&*error.source, HttpFailure::Connect(_) | HttpFailure::Timeout(_)))
    }
}

impl From<String> for TaskError {
    fn from(reason: String) -> Self {
        Self::Node(reason)
    }
}

fn ignored(what: &str) -> Result<(), TaskError> {
    warn!("{what}: ignored");
    Ok(())
}

/// Reads a rule of FWAPI's; it is FWAPI's from then on.
fn rule_of(object: &Object) -> Result<Rule, RuleErrors> {
    let mut rule = Rule::parse(object, &Options { enforce_global: true, ..Options::default() })?;
    rule.created_by = Some(Rule::FWAPI.to_owned());
    Ok(rule)
}

impl Services {
    async fn locals(&self) -> Result<Vec<VmFacts>, TaskError> {
        Ok(on(&self.backend, |backend| backend.locals()).await?)
    }

    pub(crate) async fn stored(&self) -> Result<Stored, TaskError> {
        Ok(on(&self.backend, |backend| backend.stored()).await?)
    }

    pub(crate) async fn change(&self, edit: Edit) -> Result<(), TaskError> {
        if edit.is_empty() {
            return Ok(());
        }
        Ok(on(&self.backend, move |backend| backend.change(&edit)).await?)
    }

    pub(crate) async fn converge(&self) -> Result<(), TaskError> {
        Ok(on(&self.backend, |backend| backend.converge()).await?)
    }

    /// The instances elsewhere that are wanted of an owner.
    pub(crate) async fn fetch(
        &self,
        owner: OwnerUuid,
        peers: &Peers,
        locals: &[VmFacts],
        req_id: &str,
    ) -> Result<Vec<RemoteVm>, HttpError> {
        match predicate(owner, self.server, peers) {
            None => Ok(Vec::new()),
            Some(predicate) => {
                let found = self.vmapi.matching(&predicate, req_id).await?;
                Ok(remotes(found.values(), self.server, locals, peers))
            }
        }
    }

    /// Does what an event asks for.
    pub(crate) async fn event(&self, name: &str, value: &Object, req_id: &str) -> Result<(), TaskError> {
        match name {
            "fw.add_rule" => self.add_rule(value, false, req_id).await.map(drop),
            "fw.update_rule" => self.update_rule(value, req_id).await,
            "fw.del_rule" => match value.get("uuid").and_then(|uuid| uuid.as_str()?.parse::<RuleUuid>().ok()) {
                Some(uuid) => self.change(Edit { delete_rules: vec![uuid], ..Edit::default() }).await,
                None => ignored("a rule without a uuid is to be deleted"),
            },
            "vm.add" | "vm.update" | "vm.delete" => match instance(value) {
                Some(uuid) => self.vm(name, uuid, value, req_id).await,
                None => ignored("an event names no instance"),
            },
            "ping" => {
                let id = value.get("ping_id").and_then(Value::as_str).unwrap_or_default();
                info!(ping_id = id.chars().take(64).collect::<String>(), "FWAPI asks for a sign of life");
                Ok(())
            }
            _ => ignored("an event is of an unknown kind"),
        }
    }

    /// Stores a rule if it is about an instance here, or in any case when it is forced. Returns it if it is stored.
    pub(crate) async fn add_rule(&self, value: &Object, force: bool, req_id: &str) -> Result<Option<Rule>, TaskError> {
        let rule = rule_of(value)?;
        if !rule.enabled && !force {
            return Ok(None);
        }
        let locals = self.locals().await?;
        if !force && !concerns_any(&rule, &locals) {
            return Ok(None);
        }
        self.put_rule(rule, &locals, req_id).await.map(Some)
    }

    async fn put_rule(&self, rule: Rule, locals: &[VmFacts], req_id: &str) -> Result<Rule, TaskError> {
        let remotes = match rule.owner {
            Some(owner) if rule.enabled => self.fetch(owner, &peers_of(&rule, locals), locals, req_id).await?,
            _ => Vec::new(),
        };
        self.change(Edit { rules: vec![rule.clone()], remotes, ..Edit::default() }).await?;
        Ok(rule)
    }

    async fn update_rule(&self, value: &Object, req_id: &str) -> Result<(), TaskError> {
        let uuid = value.get("uuid").and_then(|uuid| uuid.as_str()?.parse::<RuleUuid>().ok());
        let stored = self.stored().await?;
        let known = uuid.and_then(|uuid| stored.rules.get(&uuid));
        let mut merged = known.and_then(|rule| rule.to_json().as_object().cloned()).unwrap_or_default();
        if value.contains_key("owner_uuid") {
            merged.remove("global");
        } else if value.get("global") == Some(&Value::Bool(true)) {
            merged.remove("owner_uuid");
        }
        merged.extend(value.clone());
        let rule = rule_of(&merged)?;
        let locals = self.locals().await?;
        if concerns_any(&rule, &locals) {
            self.put_rule(rule, &locals, req_id).await.map(drop)
        } else if known.is_some() {
            self.change(Edit { rules: vec![rule], ..Edit::default() }).await
        } else {
            Ok(())
        }
    }

    async fn vm(&self, name: &str, uuid: InstanceUuid, value: &Object, req_id: &str) -> Result<(), TaskError> {
        if name == "vm.delete" {
            return self.change(Edit { delete_remotes: vec![uuid], ..Edit::default() }).await;
        }
        let locals = self.locals().await?;
        if let Some(vm) = locals.iter().find(|vm| vm.uuid == uuid) {
            return self.local(name, vm, &locals, req_id).await;
        }
        let stored = self.stored().await?;
        match (name, stored.remotes.get(&uuid)) {
            ("vm.update", Some(known)) => self.known_remote(known, value, &stored, req_id).await,
            ("vm.update", None) => self.unknown_remote(uuid, value, &stored, req_id).await,
            _ => self.store_remote(RemoteVm::from_vmapi(value), &stored).await,
        }
    }

    /// An instance of this node came or changed: whatever rules are about it now are wanted.
    async fn local(&self, name: &str, vm: &VmFacts, locals: &[VmFacts], req_id: &str) -> Result<(), TaskError> {
        let filtered = vm.firewall_enabled && vm.state != "failed";
        if let Some(owner) = vm.owner.filter(|_| filtered) {
            let answer = self.fwapi.resolve(&question(owner, std::iter::once(vm)), req_id).await?;
            let rules = self.readable(&answer.rules).0;
            let remotes = self.fetch(owner, &answer.peers, locals, req_id).await?;
            self.change(Edit { rules, remotes, ..Edit::default() }).await?;
        }
        if name == "vm.update" || filtered { self.converge().await } else { Ok(()) }
    }

    /// Those of FWAPI's rules that can be read, and the uuids of the others: one bad rule does not stop the rest.
    pub(crate) fn readable(&self, rules: &[Object]) -> (Vec<Rule>, Vec<RuleUuid>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for object in rules {
            match rule_of(object) {
                Ok(rule) => good.push(rule),
                Err(error) => {
                    self.numbers.bad_rule();
                    let uuid = object.get("uuid").and_then(Value::as_str).unwrap_or_default();
                    warn!(rule = uuid.chars().take(64).collect::<String>(), %error, "a rule of FWAPI cannot be used: the others are");
                    bad.extend(uuid.parse::<RuleUuid>().ok());
                }
            }
        }
        (good, bad)
    }

    async fn known_remote(&self, known: &RemoteVm, value: &Object, stored: &Stored, req_id: &str) -> Result<(), TaskError> {
        let base = match self.vmapi.get(known.uuid, req_id).await {
            Ok(Some(object)) => RemoteVm::from_vmapi(&object).unwrap_or_else(|| RemoteVm { ips: Default::default(), ..known.clone() }),
            Ok(None) => return self.change(Edit { delete_remotes: vec![known.uuid], ..Edit::default() }).await,
            Err(error) => {
                warn!(error = %triton_agent::chain(&error), vm_uuid = %known.uuid, "VMAPI does not show an instance: what the event says counts");
                known.clone()
            }
        };
        let vm = updated(base, value);
        if vm.ips.is_empty() {
            return self.change(Edit { delete_remotes: vec![vm.uuid], ..Edit::default() }).await;
        }
        if stored.has_remote(&vm) {
            return Ok(());
        }
        self.change(Edit { remotes: vec![vm], ..Edit::default() }).await
    }

    async fn unknown_remote(&self, uuid: InstanceUuid, value: &Object, stored: &Stored, req_id: &str) -> Result<(), TaskError> {
        if let Some(owner) = value.get("owner_uuid") {
            let tags = value.get("set_tags").or_else(|| value.get("tags"));
            let partial = json!({"uuid": uuid, "owner_uuid": owner, "tags": tags});
            let partial = partial.as_object().and_then(|object| RemoteVm::parse(object).ok());
            if !partial.is_some_and(|vm| stored.rules.values().any(|rule| names_remote(rule, &vm))) {
                return Ok(());
            }
        }
        let vm = self.vmapi.get(uuid, req_id).await?.and_then(|object| RemoteVm::from_vmapi(&object)).map(|vm| updated(vm, value));
        self.store_remote(vm, stored).await
    }

    /// Stores a remote instance if a rule of its owner names it.
    async fn store_remote(&self, vm: Option<RemoteVm>, stored: &Stored) -> Result<(), TaskError> {
        match vm {
            Some(vm) if !vm.ips.is_empty() && stored.rules.values().any(|rule| names_remote(rule, &vm)) => {
                self.change(Edit { remotes: vec![vm], ..Edit::default() }).await
            }
            _ => Ok(()),
        }
    }
}
