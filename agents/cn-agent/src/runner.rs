//! Running tasks: admission, order, time limit, record. What a task does is its handler's matter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::{History, Numbers, Params, Registry, TaskContext, TaskError, TaskLog, TaskName, error::Seconds, history::Status, locks::Order};

/// Limits of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a task may take, from its acceptance on (section 2.5).
    pub task_timeout: Duration,
    /// Most tasks that run or wait at once.
    pub tasks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { task_timeout: Duration::from_secs(3600), tasks: 512 }
    }
}

/// Whether a task may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The startup is not done: nobody is registered for tasks.
    Starting,
    /// Paused by CNAPI.
    Paused,
    /// The agent is stopping.
    Stopping,
    /// Too many tasks run.
    Full,
    /// Yes.
    Open,
}

/// Runs tasks. Shared by the HTTP server and the agent's start and stop.
#[derive(Debug)]
pub struct Runner {
    registry: Registry,
    limits: Limits,
    history: Arc<History>,
    log: TaskLog,
    order: Order,
    numbers: Numbers,
    ready: AtomicBool,
    paused: AtomicBool,
    stopping: AtomicBool,
    /// Number of tasks that work, those included whose reply was given up.
    working: watch::Sender<usize>,
    cancel: CancellationToken,
    altered: Arc<Notify>,
}

/// Counts one working task until it is dropped, at the end or in a panic.
struct Working(Arc<Runner>);

impl Working {
    fn new(runner: &Arc<Runner>) -> Self {
        runner.working.send_modify(|count| *count += 1);
        Self(runner.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_modify(|count| *count -= 1);
    }
}

impl Runner {
    /// A runner that does not accept tasks until [`Runner::open`].
    pub fn new(registry: Registry, limits: Limits, log: TaskLog, numbers: Numbers) -> Arc<Self> {
        Arc::new(Self {
            registry,
            limits,
            history: Arc::default(),
            log,
            order: Order::default(),
            numbers,
            ready: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            working: watch::Sender::new(0),
            cancel: CancellationToken::new(),
            altered: Arc::default(),
        })
    }

    /// The startup is done: tasks are accepted.
    pub fn open(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Stops or resumes accepting. Running tasks are not affected; does not survive a restart.
    pub fn set_paused(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::AcqRel) != paused {
            info!(paused, "accepting tasks was switched");
        }
    }

    /// True while paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether a task may be sent now.
    pub fn admission(&self) -> Admission {
        if self.stopping.load(Ordering::Acquire) {
            Admission::Stopping
        } else if !self.ready.load(Ordering::Acquire) {
            Admission::Starting
        } else if self.is_paused() {
            Admission::Paused
        } else if self.working() >= self.limits.tasks {
            Admission::Full
        } else {
            Admission::Open
        }
    }

    /// The last tasks.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Number of tasks that run or wait for their turn.
    pub fn working(&self) -> usize {
        *self.working.borrow()
    }

    /// Notified after each task that may have altered sysinfo.
    pub fn altered(&self) -> Arc<Notify> {
        self.altered.clone()
    }

    /// Runs a task to its end or to the end of its time. It goes on when the caller's connection breaks.
    ///
    /// # Errors
    /// What the task failed with.
    pub async fn run(self: &Arc<Self>, name: TaskName, params: Value, request_id: String) -> Result<Value, TaskError> {
        let working = Working::new(self);
        let (reply, result) = oneshot::channel();
        let runner = self.clone();
        let span = info_span!("task", task = name.as_str(), req_id = %request_id);
        tokio::spawn(
            async move {
                let _ = reply.send(runner.drive(name, Params::new(params), request_id, working).await);
            }
            .instrument(span),
        );
        result.await.unwrap_or(Err(TaskError::Crashed(name)))
    }

    async fn drive(self: Arc<Self>, name: TaskName, params: Params, request_id: String, working: Working) -> Result<Value, TaskError> {
        let begin = Instant::now();
        let id = self.history.begin(name, &params);
        let context = TaskContext {
            name,
            log: self.log.task(name, &request_id),
            params: Arc::new(params),
            request_id,
            cancelled: self.cancel.child_token(),
            history: self.history.clone(),
            id,
        };
        self.note_begin(&context);
        // A task of its own: a panic in it is seen as an error here, and it may outlive its time limit, with its locks, without a reply.
        let mut work = tokio::spawn(self.clone().work(context.clone(), working).in_current_span());
        let result = tokio::select! {
            biased;
            ended = &mut work => ended.unwrap_or(Err(TaskError::Crashed(name))),
            () = tokio::time::sleep(self.limits.task_timeout) => {
                context.cancelled.cancel();
                Err(TaskError::TimedOut(Seconds(begin.elapsed().as_millis())))
            }
        };
        self.note_end(&context, &result, begin.elapsed());
        result
    }

    async fn work(self: Arc<Self>, context: TaskContext, working: Working) -> Result<Value, TaskError> {
        let _working = working;
        let Some(handler) = self.registry.get(context.name) else { return Err(TaskError::failed(context.name.unavailable())) };
        let _turn = tokio::select! {
            biased;
            () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
            turn = self.order.turn(context.name, &context.params) => turn?,
        };
        let result = handler(context.clone()).await;
        if context.name.alters_sysinfo() {
            self.altered.notify_one();
        }
        result
    }

    fn note_begin(&self, context: &TaskContext) {
        let params = Value::Object(context.params.as_map().clone());
        let recorded = if context.name.queue().records_params() { &params } else { &Value::Null };
        context.log.write(30, "the task begins", recorded);
        context.progress(0);
        context.event("start", &json!({}));
    }

    fn note_end(&self, context: &TaskContext, result: &Result<Value, TaskError>, elapsed: Duration) {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.numbers.task(context.name, result.is_ok());
        let status = match result {
            Ok(value) => {
                context.progress(100);
                context.event("finish", value);
                Status::Finished
            }
            Err(error) => {
                context.event("error", &json!({"error": {"message": error.to_string()}}));
                context.progress(100);
                context.log.write(50, "the task failed", &json!({"error": error.to_string(), "millis": millis}));
                warn!(%error, millis, "a task failed");
                match error {
                    TaskError::Failed { .. } => {
                        context.event("finish", &json!({}));
                        Status::Finished
                    }
                    TaskError::Crashed(_) | TaskError::TimedOut(_) | TaskError::Cancelled => Status::Failed,
                }
            }
        };
        self.history.finish(context.id, status, result.is_err());
    }

    /// Refuses new tasks, waits at most `grace` for the others, then breaks off what can be broken off. Gives the number of tasks that
    /// still work; guests are not affected by any of it.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.stopping.store(true, Ordering::Release);
        let mut working = self.working.subscribe();
        if tokio::time::timeout(grace, working.wait_for(|count| *count == 0)).await.is_err() {
            self.cancel.cancel();
            // Killed processes have to be reaped and guard files removed.
            let _ = tokio::time::timeout(Duration::from_secs(2), working.wait_for(|count| *count == 0)).await;
        }
        self.working()
    }
}
