//! The full comparison with FWAPI (firewaller.md section 8.3, ruling 7).

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};
use triton_agent::chain;
use triton_fwrule::{RemoteVm, Rule, VmFacts};
use triton_headnode::Question;
use triton_types::{InstanceUuid, RuleUuid};

use crate::{
    Edit, Services, Stored, TaskError,
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
    rules: BTreeMap<RuleUuid, Rule>,
    remotes: BTreeMap<InstanceUuid, RemoteVm>,
    /// Rules that FWAPI has and that cannot be read.
    kept: BTreeSet<RuleUuid>,
}

impl Services {
    /// Compares. What FWAPI has is stored, what it no longer has is deleted: unless any part of the answer is missing, or it would be
    /// more than half of the rules and the comparison before did not say so too.
    pub(crate) async fn sync(&self, memory: &mut Memory, req_id: &str) -> Result<(), SyncError> {
        let locals = on(&self.backend, |backend| backend.locals()).await.map_err(TaskError::from)?;
        let questions = questions(&locals);
        let stored = self.stored().await?;
        let mut wanted = Wanted::default();
        let mut failed = 0;
        for (number, question) in questions.iter().enumerate() {
            self.numbers.beat();
            let Err(error) = self.owner(question, &locals, &mut wanted, req_id).await else { continue };
            failed += 1;
            warn!(owner_uuid = %question.owner_uuid, error = %chain(&error), "the rules of an owner cannot be had: what is in force stays");
            if error.is_outage() {
                // The others would wait as long for nothing.
                failed += questions.len() - number - 1;
                break;
            }
        }
        let given = if failed == 0 { self.give(&stored, &mut wanted, req_id).await } else { Ok(()) };
        // All of it in one change: the table is made once, not once for each owner.
        let Wanted { rules, remotes, kept } = wanted;
        let keep_rules: BTreeSet<RuleUuid> = rules.keys().copied().chain(kept).collect();
        let keep_remotes: BTreeSet<InstanceUuid> = remotes.keys().copied().collect();
        let put = Edit {
            rules: rules.into_values().filter(|rule| !stored.has_rule(rule)).collect(),
            remotes: remotes.into_values().filter(|vm| !stored.has_remote(vm)).collect(),
            ..Edit::default()
        };
        if failed > 0 {
            self.change(put).await?;
            return Err(SyncError::Owners { failed, owners: questions.len() });
        }
        if let Err(error) = given {
            self.change(put).await?;
            return Err(error);
        }

        let from_fwapi = stored.rules.values().filter(|rule| rule.is_from_fwapi()).map(|rule| rule.uuid);
        let delete_rules = without(from_fwapi, &keep_rules);
        let delete_remotes = without(stored.remotes.keys().copied(), &keep_remotes);
        let many = delete_rules.len() * 2 > stored.rules.len();
        if many && !delete_rules.iter().all(|uuid| memory.doubtful.contains(uuid)) {
            warn!(
                rules = stored.rules.len(),
                deleted = delete_rules.len(),
                "FWAPI has no longer more than half of this node's rules: they stay until the next comparison says so too"
            );
            memory.doubtful = delete_rules.into_iter().collect();
            self.numbers.doubtful(memory.doubtful.len());
            return Ok(self.change(put).await?);
        }
        memory.doubtful.clear();
        self.numbers.doubtful(0);
        info!(
            owners = questions.len(),
            rules = keep_rules.len(),
            new = put.rules.len(),
            deleted = delete_rules.len(),
            "compared with FWAPI"
        );
        let edit = Edit { delete_rules, delete_remotes, ..put };
        if edit.is_empty() {
            self.converge().await?;
        } else {
            self.change(edit).await?;
        }
        Ok(())
    }

    /// Gathers what FWAPI and VMAPI have for one owner.
    async fn owner(&self, question: &Question, locals: &[VmFacts], wanted: &mut Wanted, req_id: &str) -> Result<(), TaskError> {
        let answer = self.fwapi.resolve(question, req_id).await?;
        let (rules, bad) = self.readable(&answer.rules);
        let remotes = self.fetch(question.owner_uuid, &answer.peers, locals, req_id).await?;
        wanted.kept.extend(bad);
        wanted.rules.extend(rules.into_iter().map(|rule| (rule.uuid, rule)));
        wanted.remotes.extend(remotes.into_iter().map(|vm| (vm.uuid, vm)));
        Ok(())
    }

    /// Gives FWAPI the rules that were made on this node.
    async fn give(&self, stored: &Stored, wanted: &mut Wanted, req_id: &str) -> Result<(), SyncError> {
        let mut failed = 0;
        for rule in stored.rules.values().filter(|rule| !rule.is_from_fwapi()) {
            match self.fwapi.create_rule(&rule.to_json(), req_id).await {
                Ok(_) => {
                    let rule = Rule { created_by: Some(Rule::FWAPI.to_owned()), ..rule.clone() };
                    wanted.rules.insert(rule.uuid, rule);
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
