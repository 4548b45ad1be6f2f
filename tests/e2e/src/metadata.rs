//! The metadata service of a node, and what guests ask it.

use std::process::Child;

use crate::{Node, Outcome, until};

/// The running service of a node; ended when it is dropped.
#[derive(Debug)]
pub struct MetadataService<'a> {
    node: &'a Node,
    child: Child,
}

impl<'a> MetadataService<'a> {
    /// Starts it and waits until it answers its operator.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(node: &'a Node) -> Self {
        Self::with(node, &[])
    }

    /// As [`MetadataService::start`], with further environment.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn with(node: &'a Node, environment: &[(&str, &str)]) -> Self {
        let service = Self { node, child: node.spawn("metadata-agent", &[], environment) };
        service.await_ready();
        service
    }

    /// Starts it by this command, which runs it in its own place.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn of(node: &'a Node, mut command: std::process::Command) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(node.layout().at("/var/log/metadata-agent.log")).expect("disk");
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let service = Self { node, child: command.spawn().expect("the service can be run") };
        service.await_ready();
        service
    }

    /// Waits until it answers its operator.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_ready(&self) {
        until("the metadata service answers its operator", || self.node.run("metadata-agent", &["status"]).code == Some(0));
    }

    /// What it says of itself.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn status(&self) -> serde_json::Value {
        self.node.run("metadata-agent", &["status", "--json"]).ok().json()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True once its process has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it and starts another one.
    pub fn restart(&mut self) {
        self.kill();
        self.child = self.node.spawn("metadata-agent", &[], &[]);
    }
}

impl Drop for MetadataService<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs one of the guest's tools in a guest: `get KEY` is `mdata-get KEY`.
///
/// # Panics
/// When the guest does not run.
#[track_caller]
pub fn mdata(node: &Node, uuid: &str, command: &str) -> Outcome {
    node.try_guest(uuid, &format!("/native/usr/sbin/mdata-{command}"))
}
