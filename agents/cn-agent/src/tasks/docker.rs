//! What the docker tasks share (cn-agent.md section 3.13): each answers with a port of the admin address, at which the first caller gets
//! a stream, and nobody after it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use triton_types::InstanceUuid;

use super::{Model, prefixed};
use crate::{GuestPlace, TaskContext, TaskError};

/// Streams at once; each has a process.
pub(super) const MOST_SESSIONS: usize = 128;
/// How long a caller is waited for.
const CALL: Duration = Duration::from_secs(60);

/// An instance and where it is.
pub(super) struct Guest {
    /// The VM object.
    pub vm: Value,
    pub place: GuestPlace,
}

impl Guest {
    /// The instance that the task names.
    pub(super) async fn of(model: &Model, context: &TaskContext) -> Result<Self, TaskError> {
        let uuid: InstanceUuid = context.params.id("uuid")?;
        let found = model.read(context, move |model| {
            let vm = model.machines.load(uuid, true)?;
            Ok(Self { vm, place: model.machines.place(uuid)? })
        });
        found.await?.map_err(|error| prefixed("vmadm.load error", &error))
    }

    /// Refuses one that does not run, as docker's own words go.
    pub(super) fn must_run(&self, context: &TaskContext) -> Result<(), TaskError> {
        if self.place.init.is_some() {
            return Ok(());
        }
        let message = format!("{}: VM is not running", context.name);
        Err(TaskError::Failed { message, rest_code: Some("VmNotRunning".to_owned()) })
    }
}

/// Listens for one caller on `host` and has `serve` serve it; gives the task's reply.
pub(super) async fn offer<F>(model: &Model, serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> Result<Value, TaskError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let host: IpAddr = model.admin_ip;
    let permit = model.sessions.clone().try_acquire_owned();
    let permit = permit.map_err(|_| TaskError::failed(format!("{MOST_SESSIONS} docker streams are open: no more are opened")))?;
    let failed = |error: std::io::Error| TaskError::failed(format!("could not listen on {host}: {error}"));
    let listener = TcpListener::bind(SocketAddr::new(host, 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    tokio::spawn(async move {
        let _permit = permit;
        match tokio::time::timeout(CALL, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                drop(listener);
                serve(stream).await;
            }
            Ok(Err(error)) => tracing::warn!(%error, port, "nobody can call for a docker stream"),
            Err(_) => tracing::info!(port, "nobody called for a docker stream"),
        }
    });
    Ok(json!({"host": host, "port": port}))
}

/// Building images is not what a compute node does: the words say where to go.
pub(super) async fn docker_build(_model: Model, _context: TaskContext) -> Result<Value, TaskError> {
    Err(TaskError::failed(
        "docker_build is not available on Linux compute nodes: build the image elsewhere and import it (imgadm import-oci)",
    ))
}
