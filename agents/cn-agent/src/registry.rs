//! Which task is done by what.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{History, Params, TaskError, TaskName, task_log::LogLine};

/// A future that a handler returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Does a task. An empty object is the reply of tasks without a result.
pub type Handler = Arc<dyn Fn(TaskContext) -> BoxFuture<Result<Value, TaskError>> + Send + Sync>;

/// What a running task knows.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// What it is.
    pub name: TaskName,
    /// What it was asked.
    pub params: Arc<Params>,
    /// The caller's request id, to be passed on.
    pub request_id: String,
    /// Fires when the reply was given up (time is over) or the agent stops: processes are to be ended and waits to be broken off.
    /// What cannot be broken off may go on; nobody hears of its result.
    pub cancelled: CancellationToken,
    pub(crate) history: Arc<History>,
    pub(crate) id: u64,
    pub(crate) log: LogLine,
}

impl TaskContext {
    /// Records an event.
    pub fn event(&self, name: &str, event: &Value) {
        self.history.event(self.id, name, event);
        self.log.event(name, event);
    }

    /// Records how far the task is, in percent.
    pub fn progress(&self, percent: u32) {
        self.event("progress", &json!({"value": percent}));
    }

    /// Runs one step, recording its beginning, its end and the progress after it (section 2.7).
    ///
    /// # Errors
    /// Those of the step.
    pub async fn step<T>(&self, name: &str, percent: u32, step: impl Future<Output = Result<T, TaskError>>) -> Result<T, TaskError> {
        self.event(&format!("start:{name}"), &json!({}));
        let result = step.await?;
        self.event(&format!("end:{name}"), &json!({}));
        self.progress(percent);
        Ok(result)
    }
}

/// The handlers of an agent. A known task without one answers that it is not available.
#[derive(Clone, Default)]
pub struct Registry(HashMap<TaskName, Handler>);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Registry {
    /// Makes `handler` do `name`, in place of an earlier one.
    pub fn set<F>(&mut self, name: TaskName, handler: impl Fn(TaskContext) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Value, TaskError>> + Send + 'static,
    {
        self.0.insert(name, Arc::new(move |context| Box::pin(handler(context))));
    }

    /// The handler of `name`.
    pub fn get(&self, name: TaskName) -> Option<&Handler> {
        self.0.get(&name)
    }
}
