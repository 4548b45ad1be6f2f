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

/// What documents are found by without reading all of them: a node of thousands of instances has as many NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Ip,
    BelongsTo,
}

impl Field {
    const ALL: [Self; 2] = [Self::Ip, Self::BelongsTo];

    /// As it stands in statements: an index is used where its very words are.
    fn words(self) -> &'static str {
        match self {
            Self::Ip => "json_extract(body, '$.ip')",
            Self::BelongsTo => "json_extract(body, '$.belongs_to_uuid')",
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
        for field in Field::ALL {
            let words = field.words();
            connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS by_{field:?} ON documents (kind, {words});"))?;
        }
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

    /// Those of which `field` is `text`, in the order of first insertion.
    pub(crate) fn with(&self, kind: Kind, field: Field, text: &str) -> rusqlite::Result<Vec<Value>> {
        let connection = self.connection();
        let words = field.words();
        let sql = format!("SELECT body FROM documents WHERE kind = ?1 AND {words} = ?2 ORDER BY number");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![kind.word(), text], |row| Ok(parse(&row.get::<_, String>(0)?)))?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_found_by_a_field_through_its_index() {
        let store = Store::open(None).unwrap();
        let nic = |ip: &str, owner: &str| json!({"ip": ip, "belongs_to_uuid": owner});
        for (id, body) in [("b", nic("10.0.0.1", "x")), ("a", nic("10.0.0.2", "x")), ("c", nic("10.0.0.1", "y")), ("d", json!({}))] {
            store.put(Kind::Nic, id, body).unwrap();
        }
        store.put(Kind::Network, "n", nic("10.0.0.1", "x")).unwrap();
        assert_eq!(store.with(Kind::Nic, Field::Ip, "10.0.0.1").unwrap(), [nic("10.0.0.1", "x"), nic("10.0.0.1", "y")]);
        assert_eq!(store.with(Kind::Nic, Field::BelongsTo, "x").unwrap(), [nic("10.0.0.1", "x"), nic("10.0.0.2", "x")]);
        assert!(store.with(Kind::Nic, Field::BelongsTo, "").unwrap().is_empty());
        store.put(Kind::Nic, "a", nic("10.0.0.9", "x")).unwrap();
        assert!(store.with(Kind::Nic, Field::Ip, "10.0.0.2").unwrap().is_empty(), "it has another one now");
        for field in Field::ALL {
            let plan = format!("EXPLAIN QUERY PLAN SELECT body FROM documents WHERE kind = 'nic' AND {} = 'x'", field.words());
            let plan: String = store.connection().query_row(&plan, [], |row| row.get(3)).unwrap();
            assert!(plan.contains(&format!("by_{field:?}")), "{plan}");
        }
    }
}
