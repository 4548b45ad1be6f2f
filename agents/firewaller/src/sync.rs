//! The full comparison with FWAPI (firewaller.md section 8.3, ruling 7).

use std::collections::BTreeSet;

use tracing::{info, warn};
use triton_agent::chain;
use triton_fwrule::Rule;
use triton_headnode::Question;
use triton_types::{InstanceUuid, RuleUuid};

use crate::{
    Edit, Services, TaskError,
    backend::on,
    want::{questions, without},
};

/// A comparison that is not complete. Nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Some owners' rules could not be had; those of the others are in force.
    #[error("failed to sync all firewall rules: {failed} of {owners} owners")]
    Owners {
        /// Owners without an answer.
        failed: usize,
        /// Owners of filtered instances here.
        owners: usize,
    },
    /// Rules made on this node could not be given to FWAPI.
    #[error("failed to sync all local firewall rules to FWAPI: {0} of them")]
    Local(usize),
    /// The node's own part.
    #[error(transparent)]
    Node(#[from] TaskError),
}

/// What a comparison remembers for the next one.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Rules that the last comparison would have deleted, and did not since they were so many.
    doubtful: BTreeSet<RuleUuid>,
}

/// What FWAPI and VMAPI have for this node.
#[derive(Debug, Default)]
struct Wanted {
    rules: BTreeSet<RuleUuid>,
    remotes: BTreeSet<InstanceUuid>,
}

impl Services {
    /// Compares. What FWAPI has is stored, what it no longer has is deleted: unless any part of the answer is missing, or it would be
    /// more than half of the rules and the comparison before did not say so too.
    pub(crate) async fn sync(&self, memory: &mut Memory, req_id: &str) -> Result<(), SyncError> {
        let locals = on(&self.backend, |backend| backend.locals()).await.map_err(TaskError::from)?;
        let questions = questions(&locals);
        let mut wanted = Wanted::default();
        let mut failed = 0;
        for question in &questions {
            if let Err(error) = self.owner(question, &locals, &mut wanted, req_id).await {
                failed += 1;
                warn!(owner_uuid = %question.owner_uuid, error = %chain(&error), "the rules of an owner cannot be had: what is in force stays");
            }
        }
        if failed > 0 {
            return Err(SyncError::Owners { failed, owners: questions.len() });
        }
        self.give(&mut wanted, req_id).await?;

        let stored = self.stored().await?;
        let from_fwapi = stored.rules.values().filter(|rule| rule.is_from_fwapi()).map(|rule| rule.uuid);
        let delete_rules = without(from_fwapi, &wanted.rules);
        let delete_remotes = without(stored.remotes.keys().copied(), &wanted.remotes);
        let many = delete_rules.len() * 2 > stored.rules.len();
        if many && !delete_rules.iter().all(|uuid| memory.doubtful.contains(uuid)) {
            warn!(
                rules = stored.rules.len(),
                deleted = delete_rules.len(),
                "FWAPI has no longer more than half of this node's rules: they stay until the next comparison says so too"
            );
            memory.doubtful = delete_rules.into_iter().collect();
            self.numbers.doubtful(memory.doubtful.len());
            return Ok(());
        }
        memory.doubtful.clear();
        self.numbers.doubtful(0);
        info!(owners = questions.len(), rules = wanted.rules.len(), deleted = delete_rules.len(), "compared with FWAPI");
        self.change(Edit { delete_rules, delete_remotes, ..Edit::default() }).await?;
        on(&self.backend, |backend| backend.converge()).await.map_err(TaskError::from)?;
        Ok(())
    }

    /// Stores what FWAPI has of one owner.
    async fn owner(
        &self,
        question: &Question,
        locals: &[triton_fwrule::VmFacts],
        wanted: &mut Wanted,
        req_id: &str,
    ) -> Result<(), TaskError> {
        let answer = self.fwapi.resolve(question, req_id).await?;
        let (mut rules, bad) = self.readable(&answer.rules);
        let mut remotes = self.fetch(question.owner_uuid, &answer.peers, locals, req_id).await?;
        wanted.rules.extend(rules.iter().map(|rule| rule.uuid).chain(bad));
        wanted.remotes.extend(remotes.iter().map(|vm| vm.uuid));
        let stored = self.stored().await?;
        rules.retain(|rule| stored.rules.get(&rule.uuid) != Some(rule));
        remotes.retain(|vm| stored.remotes.get(&vm.uuid) != Some(vm));
        self.change(Edit { rules, remotes, ..Edit::default() }).await
    }

    /// Gives FWAPI the rules that were made on this node.
    async fn give(&self, wanted: &mut Wanted, req_id: &str) -> Result<(), SyncError> {
        let stored = self.stored().await?;
        let mut failed = 0;
        for rule in stored.rules.values().filter(|rule| !rule.is_from_fwapi()) {
            match self.fwapi.create_rule(&rule.to_json(), req_id).await {
                Ok(_) => {
                    let rule = Rule { created_by: Some(Rule::FWAPI.to_owned()), ..rule.clone() };
                    wanted.rules.insert(rule.uuid);
                    self.change(Edit { rules: vec![rule], ..Edit::default() }).await?;
                }
                Err(error) => {
                    failed += 1;
                    warn!(rule = %rule.uuid, error = %chain(&error), "FWAPI does not take a rule of this node");
                }
            }
        }
        if failed == 0 { Ok(()) } else { Err(SyncError::Local(failed)) }
    }
}
