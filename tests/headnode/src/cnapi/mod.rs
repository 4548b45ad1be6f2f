//! CNAPI: servers, what their agents report, and the tasks that are sent to them.

mod endpoints;
mod servers;
mod tasks;

use std::sync::Arc;

use axum::Router;
use serde_json::Value;

pub(crate) use tasks::fail_interrupted;

use crate::{error::ApiError, shared::Shared, store::Kind};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().merge(servers::routes()).merge(endpoints::routes()).merge(tasks::routes()).with_state(shared)
}

impl Shared {
    /// The record of a server with its present status, or 404.
    pub(crate) fn server(&self, uuid: &str) -> Result<Value, ApiError> {
        let missing = || ApiError::not_found(format!("Server {uuid} not found"));
        let id = crate::call::uuid(uuid).ok_or_else(missing)?;
        let mut server = self.store.get(Kind::Server, &id.to_string())?.ok_or_else(missing)?;
        self.overlay(&mut server);
        Ok(server)
    }

    /// All servers, in the order in which they registered.
    pub(crate) fn servers(&self) -> Result<Vec<Value>, ApiError> {
        let mut servers = self.store.list(Kind::Server)?;
        servers.iter_mut().for_each(|server| self.overlay(server));
        Ok(servers)
    }

    /// `running` within 11 s of a heartbeat, else `unknown` (cn-agent.md section 5.1).
    fn overlay(&self, server: &mut Value) {
        let id = server["uuid"].as_str().and_then(crate::call::uuid);
        let heard = id.and_then(|id| Shared::lock(&self.heartbeats).get(&id).copied());
        let stale = i64::try_from(self.limits.stale.as_millis()).unwrap_or(i64::MAX);
        let running = heard.is_some_and(|heard| self.clock.now() - heard <= stale);
        server["status"] = Value::from(if running { "running" } else { "unknown" });
        if let Some(heard) = heard {
            server["last_heartbeat"] = Value::from(crate::clock::iso(heard));
        }
    }

    /// Whether the allocator would put a Linux instance here, and why not.
    pub(crate) fn not_placeable(server: &Value) -> Option<String> {
        let count = |key: &str| server["standin"][key].as_u64().unwrap_or(0);
        if server["setup"] != true {
            Some("it is not set up".to_owned())
        } else if server["status"] != "running" {
            Some("its status is not running".to_owned())
        } else if server["headnode"] == true || server["reserved"] == true {
            Some("it is the headnode, or reserved".to_owned())
        } else if server["sysinfo"]["System Type"] != "Linux" {
            Some("its System Type is not Linux".to_owned())
        } else if server["standin"]["status_seen"] != true {
            Some("it has posted no status".to_owned())
        } else if count("sysinfo_problems") + count("status_problems") > 0 {
            Some(format!("{} violations in its sysinfo, {} in its status", count("sysinfo_problems"), count("status_problems")))
        } else {
            None
        }
    }
}
