//! Agents come and go (cn-agent.md section 3.11).
//!
//! This agent cannot replace itself: its service would end in the middle. So a twin, the same program as another service on another
//! port, installs it, proves that the new program starts, answers, and only then restarts the service; when the new agent does not
//! answer, the old one is put back.

use std::{net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use triton_agent::chain;
use triton_files::Lock;
use triton_headnode::{BaseUrl, Call, HttpClient, HttpFailure, HttpOptions};
use triton_types::ImageUuid;

use super::{Model, agent_image, agent_image::AgentFile, execution::Ended, execution::Execution};
use crate::{NAME, TaskContext, TaskError, packages::Installed, packages::Packages};

/// What a service manager's answer is awaited as.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The services of this agent and of its twin.
pub trait Services: Send + Sync + 'static {
    /// Starts the twin.
    fn start_twin(&self) -> Pending<'_>;
    /// Stops the twin.
    fn stop_twin(&self) -> Pending<'_>;
    /// Restarts the agent, with what is installed now.
    fn restart_agent(&self) -> Pending<'_>;
}

/// How long things may take; tests use shorter times.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two attempts to fetch an image.
    pub fetch: Duration,
    /// Until a service answers.
    pub answer: Duration,
    /// Between the twin's reply and what it does to the agent's service.
    pub after_reply: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { fetch: Duration::from_secs(10), answer: Duration::from_secs(90), after_reply: Duration::from_secs(5) }
    }
}

/// All that installations need to know.
#[derive(Clone)]
pub struct AgentHost {
    /// Installed agents.
    pub packages: Packages,
    /// IMGAPI, or why it is not known.
    pub imgapi: Result<BaseUrl, String>,
    /// The services of this agent.
    pub services: Arc<dyn Services>,
    /// Where the agent answers.
    pub agent: SocketAddr,
    /// Where the twin answers.
    pub twin: SocketAddr,
    /// True in the twin.
    pub is_twin: bool,
    /// Times.
    pub patience: Patience,
}

fn failed(error: impl std::fmt::Display) -> TaskError {
    TaskError::failed(format!("AgentInstall error: {error}"))
}

/// A failure of a step, in the words of the task.
fn in_words(error: TaskError) -> TaskError {
    match error {
        TaskError::Failed { message, .. } => failed(message),
        other => other,
    }
}

/// Installs the agent of an image.
pub(super) async fn agent_install(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let host = model.agents.clone().ok_or_else(|| failed("this agent does not know where agents are installed"))?;
    let image: ImageUuid = context.params.id("image_uuid").map_err(in_words)?;
    let file = match given_file(&host, &context) {
        Some(file) => file,
        None => {
            let imgapi = host.imgapi.as_ref().map_err(failed)?;
            let fetched = agent_image::fetch(imgapi, image, host.packages.scratch(), host.patience.fetch, &context);
            context.step("fetch_image", 30, fetched).await.map_err(in_words)?
        }
    };
    if file.name == NAME && !host.is_twin {
        return delegate(&host, &context, image, &file).await;
    }
    // Held until the new agent is proven, or the old one is back.
    let claim = if file.name == NAME { Some(host.packages.claim().await.map_err(|error| failed(chain(&error)))?) } else { None };
    let install = async {
        let installed = host.packages.install(&file.path, &file.name, &image.to_string(), &context.cancelled).await;
        installed.map_err(|error| failed(chain(&error)))
    };
    let installed = context.step("install", 80, install).await?;
    if file.name == NAME {
        if let Err(error) = prove(&host, &installed, &context.cancelled).await {
            undo(&host, &installed).await;
            return Err(failed(error));
        }
        // The reply comes first: who asked waits for it at the agent that is restarted.
        tokio::spawn(take_over(host, installed, claim));
    } else {
        let kept = host.packages.keep(&installed).await;
        model.refresh_agents.notify_one();
        kept.map_err(|error| failed(chain(&error)))?;
    }
    Ok(json!({}))
}

/// The file that the agent has fetched for its twin. Only the twin takes one, only from the agents' own directory.
fn given_file(host: &AgentHost, context: &TaskContext) -> Option<AgentFile> {
    let (name, path) = (context.params.text("package_name")?, PathBuf::from(context.params.text("package_file")?));
    let own = path.parent() == Some(host.packages.scratch()) && path.is_file();
    (host.is_twin && own).then(|| AgentFile { path, name: name.to_owned() })
}

/// Has the twin do it.
async fn delegate(host: &AgentHost, context: &TaskContext, image: ImageUuid, file: &AgentFile) -> Result<Value, TaskError> {
    host.services.start_twin().await.map_err(|error| failed(format!("the service that updates cn-agent could not be started: {error}")))?;
    let result = async {
        answers(host.twin, host.patience.answer).await.map_err(|error| failed(format!("the service that updates cn-agent: {error}")))?;
        let params = json!({"image_uuid": image, "package_name": file.name, "package_file": file.path});
        post(host.twin, &json!({"task": "agent_install", "params": params}), &context.request_id).await.map_err(TaskError::failed)
    };
    let result = tokio::select! {
        result = result => result,
        () = context.cancelled.cancelled() => Err(TaskError::Cancelled),
    };
    if result.is_err()
        && let Err(error) = host.services.stop_twin().await
    {
        tracing::warn!(error, "the service that updates cn-agent could not be stopped");
    }
    result.map(|()| json!({}))
}

/// Proves that the installed program is one for this machine: it says its version.
async fn prove(host: &AgentHost, installed: &Installed, cancelled: &CancellationToken) -> Result<(), String> {
    let directory = host.packages.directory(NAME);
    let program = directory.join("bin").join(NAME);
    if !program.is_file() {
        return Err(format!("cn-agent {} has no bin/{NAME}", installed.version));
    }
    let execution = Execution { args: vec!["--version".to_owned()], timeout: Some(Duration::from_secs(30)), ..Execution::default() };
    let ran = execution.run_program(&program, &directory, cancelled).await;
    match ran.ended {
        Ended::Exited(status) if status.success() => Ok(()),
        other => Err(format!("cn-agent {} does not run on this machine: {other:?}", installed.version)),
    }
}

async fn undo(host: &AgentHost, installed: &Installed) {
    if let Err(error) = host.packages.put_back(installed).await {
        tracing::error!(error = %chain(&error), agent = installed.name, "the agent before it could not be put back");
    }
}

/// Restarts the agent with what is installed, and puts back what was installed before if that does not answer. At the end the agent
/// stops this twin.
async fn take_over(host: AgentHost, installed: Installed, claim: Option<Lock>) {
    tokio::time::sleep(host.patience.after_reply).await;
    let restarted = async {
        host.services.restart_agent().await?;
        answers(host.agent, host.patience.answer).await
    };
    match restarted.await {
        Ok(()) => {
            if let Err(error) = host.packages.keep(&installed).await {
                tracing::error!(error = %chain(&error), version = installed.version, "the new cn-agent answers, but is not safe from being undone");
            }
        }
        Err(error) => {
            tracing::error!(error, version = installed.version, "the new cn-agent does not answer: the one before it is put back");
            undo(&host, &installed).await;
            let again = async {
                host.services.restart_agent().await?;
                answers(host.agent, host.patience.answer).await
            };
            if let Err(error) = again.await {
                tracing::error!(error, "cn-agent does not answer");
            }
        }
    }
    drop(claim);
    let stop = json!({"task": "shutdown_cn_agent_update", "params": {}});
    // It accepts tasks only after it has registered with CNAPI, which may take long: then the twin is left, and ended by the next one.
    let mut last = String::new();
    for _ in 0..60 {
        match post(host.agent, &stop, "cn-agent-update").await {
            Ok(()) => return,
            Err(error) => last = error,
        }
        tokio::time::sleep(host.patience.after_reply).await;
    }
    tracing::warn!(error = last, "the agent could not be asked to end this service: it ends itself");
    let _ = host.services.stop_twin().await;
}

fn base(address: SocketAddr) -> Result<BaseUrl, String> {
    format!("http://{address}").parse().map_err(|error| format!("{error}"))
}

/// Waits until an agent answers at `address`.
async fn answers(address: SocketAddr, patience: Duration) -> Result<(), String> {
    let (client, base) = (HttpClient::new(HttpOptions::new(NAME)), base(address)?);
    let asking = async {
        loop {
            // A service that is being stopped may still answer for a moment.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if client.call(&base, Call::new(Method::GET, "/ping")).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(patience, asking).await.map_err(|_| format!("nothing answers at {address} after {} seconds", patience.as_secs()))
}

/// Sends a task to an agent, and gives its error in words.
async fn post(address: SocketAddr, task: &Value, request_id: &str) -> Result<(), String> {
    let options = HttpOptions { request_timeout: Duration::from_secs(3600), ..HttpOptions::new(NAME) };
    let call =
        Call { body: Some(Bytes::from(task.to_string())), request_id: Some(request_id.to_owned()), ..Call::new(Method::POST, "/tasks") };
    HttpClient::new(options).call(&base(address)?, call).await.map(drop).map_err(|error| match &*error.source {
        HttpFailure::Status { message, .. } if !message.is_empty() => message.clone(),
        _ => chain(&error).to_string(),
    })
}

/// Removes agents. One that is not installed is removed already; all of them are tried.
pub(super) async fn agents_uninstall(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let failed = |message: String| TaskError::failed(format!("AgentsUninstallTask error: {message}"));
    let host = model.agents.clone().ok_or_else(|| failed("this agent does not know where agents are installed".to_owned()))?;
    let names: Option<Vec<String>> = context
        .params
        .get("agents")
        .and_then(Value::as_array)
        .and_then(|list| list.iter().map(|name| Some(name.as_str()?.to_owned())).collect());
    let names = names.ok_or(TaskError::Crashed(context.name))?;
    let mut errors = Vec::new();
    for name in &names {
        if let Err(error) = host.packages.uninstall(name, &context.cancelled).await {
            errors.push(format!("{name}: {}", chain(&error)));
        }
    }
    model.refresh_agents.notify_one();
    if errors.is_empty() { Ok(json!({})) } else { Err(failed(errors.join("; "))) }
}

/// Ends the twin of this agent that updates it.
pub(super) async fn shutdown_cn_agent_update(model: Model, _context: TaskContext) -> Result<Value, TaskError> {
    if let Some(host) = model.agents.as_ref().filter(|host| !host.is_twin) {
        host.services.stop_twin().await.map_err(TaskError::failed)?;
    }
    Ok(json!({}))
}
