use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::{error, info, info_span};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn records(body: impl FnOnce()) -> Vec<Value> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let layer = Bunyan::new("cn-agent", Box::new(move |line| sink.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap())));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body);
    let lines = lines.lock().unwrap();
    lines
        .iter()
        .map(|line| {
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
            serde_json::from_str(line).unwrap()
        })
        .collect()
}

#[test]
fn a_record_has_bunyans_fields_and_those_of_its_spans() {
    let records = records(|| {
        let _span = info_span!("request", req_id = "7a", task = tracing::field::Empty).entered();
        tracing::Span::current().record("task", "nop");
        error!(uuid = "u1", count = 3, "could not start");
    });
    let record = &records[0];
    assert_eq!((record["v"].as_i64(), record["level"].as_i64()), (Some(0), Some(50)));
    assert_eq!((&record["name"], &record["msg"], &record["req_id"]), (&"cn-agent".into(), &"could not start".into(), &"7a".into()));
    assert_eq!((&record["task"], &record["uuid"], &record["count"]), (&"nop".into(), &"u1".into(), &3.into()));
    assert_eq!(record["pid"], std::process::id());
    assert!(record["time"].as_str().unwrap().parse::<triton_types::Timestamp>().is_ok());
    assert!(!record["hostname"].as_str().unwrap().is_empty());
}

#[test]
fn hostile_text_stays_on_its_line_and_is_cut() {
    let long = "x".repeat(100_000);
    let records = records(|| info!(alias = "a\nb\u{1b}[2J", long, "{}", "evil\n{\"v\":0}"));
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["alias"], "a\nb\u{1b}[2J");
    assert_eq!(records[0]["msg"], "evil\n{\"v\":0}");
    assert!(records[0]["long"].as_str().unwrap().len() < 9000);
}

#[test]
fn secrets_are_not_written_and_reserved_names_are_not_overwritten() {
    let records = records(|| info!(root_pw = "hunter2", api_token = "hunter2", name = "guest", level = 7, "x"));
    assert!(!records[0].to_string().contains("hunter2"));
    assert_eq!((&records[0]["name"], &records[0]["name_"], &records[0]["level"]), (&"cn-agent".into(), &"guest".into(), &30.into()));
}

#[test]
fn an_error_is_written_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("could not read")]
    struct Read(#[source] std::io::Error);
    let problem = Read(std::io::Error::other("disk on fire"));
    let records = records(|| error!(err = &problem as &(dyn std::error::Error + 'static), "x"));
    assert_eq!(records[0]["err"], "could not read: disk on fire");
}

#[test]
fn levels_are_words_or_numbers_of_bunyan() {
    assert_eq!(parse_level("DEBUG"), LevelFilter::DEBUG);
    assert_eq!(parse_level("fatal"), LevelFilter::ERROR);
    assert_eq!(parse_level("20"), LevelFilter::DEBUG);
    assert_eq!(parse_level("nonsense"), LevelFilter::INFO);
}
