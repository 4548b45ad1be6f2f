//! Faults on command: the next requests that match are failed, stalled, dropped, lied to, cut short or damaged.

use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Api;

/// What is done to a request that matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// Answer with a status and a body, without doing anything.
    Fail {
        /// HTTP status.
        status: u16,
        /// JSON body, none when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Value>,
    },
    /// Wait so many milliseconds (at most an hour), then go on as usual.
    StallMs(u64),
    /// Close the connection without an answer, without doing anything.
    Drop,
    /// Answer 200 with this JSON body, without doing anything.
    Lie(Value),
    /// Do it, but close the connection after so many bytes of the body.
    TruncateAfter(u64),
    /// Do it, but change the byte at this place of the body.
    CorruptAt(u64),
}

/// Which requests, and what is done to them. The first rule that matches counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Regular expression that the method must match; every method when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Regular expression that path and query must match; every path when absent. Anchored only where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is done.
    pub action: FaultAction,
    /// For so many requests; for all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

impl FaultRule {
    /// A rule for every method of the paths that match `path`.
    pub fn on(path: &str, action: FaultAction) -> Self {
        Self { api: None, method: None, path: Some(path.to_owned()), action, count: None }
    }

    /// The rule for the next `count` requests only.
    pub fn times(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Not a regular expression.
    #[error("a fault rule's pattern is no regular expression")]
    Pattern(#[from] regex::Error),
    /// Not an HTTP status.
    #[error("{0} is no HTTP status")]
    Status(u16),
    /// Too many rules.
    #[error("at most {MOST} fault rules")]
    TooMany,
}

const MOST: usize = 256;

#[derive(Debug)]
struct Armed {
    rule: FaultRule,
    method: Option<Regex>,
    path: Option<Regex>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Armed>>);

impl Faults {
    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, rule: FaultRule) -> Result<(), FaultError> {
        if let FaultAction::Fail { status, .. } = rule.action
            && !(200..600).contains(&status)
        {
            return Err(FaultError::Status(status));
        }
        let compile = |pattern: &Option<String>| pattern.as_deref().map(Regex::new).transpose();
        let armed = Armed { method: compile(&rule.method)?, path: compile(&rule.path)?, rule };
        let mut rules = self.rules();
        if rules.len() == MOST {
            return Err(FaultError::TooMany);
        }
        rules.push(armed);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.rules().clear();
    }

    pub(crate) fn list(&self) -> Vec<FaultRule> {
        self.rules().iter().map(|armed| armed.rule.clone()).collect()
    }

    /// What to do to this request; uses up one of the rule's times.
    pub(crate) fn take(&self, api: Api, method: &str, path: &str) -> Option<FaultAction> {
        let mut rules = self.rules();
        let place = rules.iter().position(|armed| {
            armed.rule.api.is_none_or(|only| only == api)
                && armed.method.as_ref().is_none_or(|pattern| pattern.is_match(method))
                && armed.path.as_ref().is_none_or(|pattern| pattern.is_match(path))
                && armed.rule.count != Some(0)
        })?;
        let action = rules[place].rule.action.clone();
        if let Some(count) = rules[place].rule.count.as_mut() {
            *count -= 1;
            if *count == 0 {
                rules.remove(place);
            }
        }
        Some(action)
    }
}
