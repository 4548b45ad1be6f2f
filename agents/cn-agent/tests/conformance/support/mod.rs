//! A world of its own for each test: directory, agent, CNAPI, firewaller, instances and images.

mod agent;
mod agent_image;
mod cnapi;
mod fake;
mod raw;

pub use agent::{Bed, Builder};
pub use agent_image::AgentImage;
pub use cnapi::{Answer, Recorder};
pub use fake::FakeNode;
pub use raw::{Reply, send};

use std::time::Duration;

/// Generous: only a broken agent reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` gives a value; says what was missing if it never does.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => panic!("never happened: {what}"),
    }
}

/// Removes the control groups that the program made for scripts on the node below `root`.
pub fn remove_control_groups(root: &std::path::Path) {
    let layout = triton_files::Layout::new(root);
    let Ok(cgroups) = triton_cgroup::Cgroups::probe() else { return };
    // Only of a node that has an identity: one is not made for this.
    if layout.identity().exists()
        && let Ok(identity) = triton_files::Identity::load_or_create(&layout)
    {
        let _ = cgroups.kill(&identity.prefix);
        let _ = cgroups.remove(&identity.prefix);
    }
}
