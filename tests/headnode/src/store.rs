//! The database: one table of JSON documents by kind and identity.
//!
//! Calls block for the time of a small SQLite statement; they are made from async handlers on purpose, since a stand-in serves a
//! handful of agents.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde_json::Value;

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Task,
    Vm,
    Job,
    Nic,
    Network,
    NicTag,
    Aggregation,
    FwRule,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Task => "task",
            Self::Vm => "vm",
            Self::Job => "job",
            Self::Nic => "nic",
            Self::Network => "network",
            Self::NicTag => "nic_tag",
            Self::Aggregation => "aggregation",
            Self::FwRule => "fw_rule",
        }
    }
}

/// How long a database may be busy when it is opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most documents of a kind; the oldest beyond it are forgotten.
const MOST: i64 = 20_000;

#[derive(Debug)]
pub(crate) struct Store(Mutex<Connection>);

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

impl Store {
    /// Opens the database in `file`, or one in memory.
    ///
    /// A stand-in that ended a moment ago may still be closing its own connection, which no busy handler waits for.
    pub(crate) fn open(file: Option<&Path>) -> rusqlite::Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::open_now(file) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }

    fn open_now(file: Option<&Path>) -> rusqlite::Result<Self> {
        let connection = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS documents (
                 number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));",
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, kind: Kind, id: &str) -> rusqlite::Result<Option<Value>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT body FROM documents WHERE kind = ?1 AND id = ?2")?;
        statement.query_row(params![kind.word(), id], |row| Ok(parse(&row.get::<_, String>(0)?))).optional()
    }

    /// In the order of first insertion.
    pub(crate) fn list(&self, kind: Kind) -> rusqlite::Result<Vec<Value>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT body FROM documents WHERE kind = ?1 ORDER BY number")?;
        let rows = statement.query_map(params![kind.word()], |row| Ok(parse(&row.get::<_, String>(0)?)))?;
        rows.collect()
    }

    /// Stores what `change` makes of the document (`None`: there is none yet); nothing happens when it returns `None`.
    /// No other change comes between.
    pub(crate) fn update(
        &self,
        kind: Kind,
        id: &str,
        change: impl FnOnce(Option<Value>) -> Option<Value>,
    ) -> rusqlite::Result<Option<Value>> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let old: Option<String> = transaction
            .query_row("SELECT body FROM documents WHERE kind = ?1 AND id = ?2", params![kind.word(), id], |row| row.get(0))
            .optional()?;
        let Some(new) = change(old.as_deref().map(parse)) else { return Ok(None) };
        transaction.execute(
            "INSERT INTO documents (kind, id, body) VALUES (?1, ?2, ?3) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            params![kind.word(), id, new.to_string()],
        )?;
        if old.is_none() {
            transaction.execute(
                "DELETE FROM documents WHERE kind = ?1 AND number <= (SELECT max(number) FROM documents WHERE kind = ?1) - ?2",
                params![kind.word(), MOST],
            )?;
        }
        transaction.commit()?;
        Ok(Some(new))
    }

    pub(crate) fn put(&self, kind: Kind, id: &str, value: Value) -> rusqlite::Result<()> {
        self.update(kind, id, |_| Some(value)).map(drop)
    }

    pub(crate) fn delete(&self, kind: Kind, id: &str) -> rusqlite::Result<bool> {
        Ok(self.connection().execute("DELETE FROM documents WHERE kind = ?1 AND id = ?2", params![kind.word(), id])? > 0)
    }
}
