//! What the agent needs of its node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use triton_fwrule::{RemoteVm, Rule, VmFacts};
use triton_types::{InstanceUuid, RuleUuid};

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Rules.
    pub rules: BTreeMap<RuleUuid, Rule>,
    /// Instances of other nodes.
    pub remotes: BTreeMap<InstanceUuid, RemoteVm>,
    /// Those of the rules whose files cannot be used: what they say is remembered, and not stored.
    pub damaged_rules: BTreeSet<RuleUuid>,
    /// The same, of instances of other nodes.
    pub damaged_remotes: BTreeSet<InstanceUuid>,
}

impl Stored {
    /// Whether a rule is stored, as it is.
    pub fn has_rule(&self, rule: &Rule) -> bool {
        self.rules.get(&rule.uuid) == Some(rule) && !self.damaged_rules.contains(&rule.uuid)
    }

    /// Whether an instance of another node is stored, as it is.
    pub fn has_remote(&self, vm: &RemoteVm) -> bool {
        self.remotes.get(&vm.uuid) == Some(vm) && !self.damaged_remotes.contains(&vm.uuid)
    }
}

/// A change of what is stored: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// Added, or put in the place of those with the same uuid.
    pub rules: Vec<Rule>,
    /// The same, of instances of other nodes.
    pub remotes: Vec<RemoteVm>,
    /// Gone; unknown ones are gone already.
    pub delete_rules: Vec<RuleUuid>,
    /// The same, of instances of other nodes.
    pub delete_remotes: Vec<InstanceUuid>,
}

impl Edit {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.remotes.is_empty() && self.delete_rules.is_empty() && self.delete_remotes.is_empty()
    }
}

/// The node's firewall. Calls block; errors are sentences for the log.
pub trait Backend: Send + Sync + 'static {
    /// The instances of this node.
    ///
    /// # Errors
    /// When the list is not known to be complete: an empty list is not the same.
    fn locals(&self) -> Result<Vec<VmFacts>, String>;

    /// What is stored.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn stored(&self) -> Result<Stored, String>;

    /// One stored rule as an object.
    ///
    /// # Errors
    /// As [`Backend::stored`].
    fn rule(&self, uuid: RuleUuid) -> Result<Option<Value>, String> {
        Ok(self.stored()?.rules.get(&uuid).map(Rule::to_json))
    }

    /// One stored instance of another node as an object.
    ///
    /// # Errors
    /// As [`Backend::stored`].
    fn remote(&self, uuid: InstanceUuid) -> Result<Option<Value>, String> {
        Ok(self.stored()?.remotes.get(&uuid).map(RemoteVm::to_json))
    }

    /// Makes a change, durable first and then in force, for every instance that the old or the new concerns.
    ///
    /// # Errors
    /// What was in force still is.
    fn change(&self, edit: &Edit) -> Result<(), String>;

    /// Brings what is in force to what is stored and to the instances as they are now.
    ///
    /// # Errors
    /// What was in force still is.
    fn converge(&self) -> Result<(), String>;

    /// Whether this instance's packets are filtered now.
    ///
    /// # Errors
    /// When it cannot be read.
    fn is_filtered(&self, uuid: InstanceUuid) -> Result<bool, String>;
}

/// Calls the backend from a thread for that.
pub(crate) async fn on<T: Send + 'static>(
    backend: &Arc<dyn Backend>,
    call: impl FnOnce(&dyn Backend) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let backend = Arc::clone(backend);
    tokio::task::spawn_blocking(move || call(&*backend)).await.unwrap_or_else(|error| Err(format!("the call ended by itself: {error}")))
}
