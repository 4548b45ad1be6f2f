//! PUT, DELETE and KEYS: the numbered cases of metadata.md section 12, with values in memory.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use std::sync::atomic::Ordering;

use common::{Bed, failure, fast, fixture, not_found, success};
use metadata_agent::Limits;
use triton_mdata::Frame;

/// metadata cases 50, 51, 58 and 59
#[tokio::test]
async fn a_value_is_stored_as_it_is_and_only_when_it_is_another() {
    let bed = Bed::new();
    let mut client = bed.connect();
    assert_eq!(client.put("a", "1").await, success("OK"));
    assert_eq!((client.get("a").await, &bed.store.stored("customer_metadata")["a"]), (success("1"), &"1".into()));
    assert_eq!(client.put("  kk  ", "  vv \n").await, success("OK"));
    assert_eq!(bed.store.stored("customer_metadata")["kk"], "  vv \n");
    let writes = bed.store.writes.load(Ordering::Relaxed);
    assert_eq!((client.put("a", "1").await, client.delete("none").await), (success("OK"), success("OK")));
    assert_eq!(bed.store.writes.load(Ordering::Relaxed), writes, "nothing changed, so nothing is written");
    assert_eq!((client.delete(" a ").await, client.get("a").await), (success("OK"), not_found()));
}

/// metadata cases 52 and 53
#[tokio::test]
async fn a_put_needs_a_key_and_a_value_and_an_empty_value_removes() {
    let bed = Bed::new();
    let mut client = bed.connect();
    client.put("a", "1").await;
    assert_eq!(client.put("a", "").await, failure("Invalid PUT Request"));
    assert_eq!(client.get("a").await, success("1"));
    let mut raw = async |argument: &str| {
        let line = client.lines(Frame::new("7", "PUT", Some(argument.as_bytes())).encode(), 1).await;
        Frame::parse(line.trim_end()).unwrap().text()
    };
    for argument in [" ", "YQ==", "YQ== YQ== YQ==", "ICA= YQ==", "!! YQ=="] {
        assert_eq!(raw(argument).await, "Invalid PUT Request", "{argument}");
    }
    assert_eq!(raw("YQ== =").await, "OK");
    assert_eq!(client.get("a").await, not_found());
}

/// metadata cases 54, 55 and 57; attack case 22
#[tokio::test]
async fn the_hosts_and_the_operators_keys_are_refused_however_they_are_written() {
    let bed = Bed::new();
    let mut client = bed.connect();
    let internal = bed.store.stored("internal_metadata");
    for key in ["sdc:uuid", " sdc:x", "\u{a0}sdc:x", "\u{feff}sdc:x"] {
        assert_eq!(client.put(key, "x").await, failure("Cannot update the \"sdc\" Namespace."), "{key}");
        assert_eq!(client.delete(key).await, failure("Cannot update the \"sdc\" Namespace."), "{key}");
    }
    for key in ["foo:qux", "foo:", " foo:bar", "\u{2003}foo:bar", "foo::bar", "foo:x_pw"] {
        assert_eq!(client.put(key, "x").await, failure("Cannot update the \"foo\" Namespace."), "{key}");
        assert_eq!(client.delete(key).await, failure("Cannot update the \"foo\" Namespace."), "{key}");
    }
    for key in ["operator-script", " operator-script "] {
        assert_eq!(client.put(key, "x").await, failure("Cannot update the \"operator-script\" Namespace."));
        assert_eq!(client.delete(key).await, failure("Cannot update the \"operator-script\" Namespace."));
    }
    assert_eq!(bed.store.stored("internal_metadata"), internal);
    for key in ["foo", "quux:qux", "Foo:bar"] {
        assert_eq!(client.put(key, "x").await, success("OK"), "{key}");
        assert_eq!(bed.store.stored("customer_metadata")[key], "x");
    }
}

/// metadata case 57; ruling 31: upstream's behaviour is there for those who name it.
#[tokio::test]
async fn the_compatibility_switches_are_off_until_an_operator_sets_them() {
    let bed = Bed::new();
    assert_eq!(bed.connect().get("sdc:customer_metadata.num").await, not_found());
    let limits: Limits = serde_json::from_str(r#"{"sdc_customer_metadata": true, "guest_operator_script": true}"#).unwrap();
    let bed = Bed::with(Limits { reads: fast().reads, writes: fast().writes, ..limits });
    let mut client = bed.connect();
    assert_eq!(client.get("sdc:customer_metadata.num").await, success("5"));
    assert_eq!(client.get("sdc:internal_metadata.hidden").await, not_found(), "no switch opens this");
    assert_eq!(client.put("operator-script", "#!/bin/sh\n").await, success("OK"));
    assert_eq!(client.get("sdc:operator-script").await, success("#!/bin/sh\n"));
    assert_eq!(client.delete("operator-script").await, success("OK"));
    assert_eq!(client.get("sdc:operator-script").await, not_found());
}

/// metadata case 56
#[tokio::test]
async fn passwords_are_kept_with_the_internal_metadata_and_are_the_guests() {
    let bed = Bed::new();
    let mut client = bed.connect();
    assert_eq!(client.put("user_pw", "s3").await, success("OK"));
    assert_eq!(bed.store.stored("internal_metadata")["user_pw"], "s3");
    assert!(!bed.store.stored("customer_metadata").contains_key("user_pw"));
    assert_eq!(client.get("user_pw").await, success("s3"));
    assert!(client.keys().await.contains(&"user_pw".to_owned()));
    assert_eq!((client.delete("user_pw").await, client.get("user_pw").await), (success("OK"), not_found()));
}

/// metadata cases 60 to 62
#[tokio::test]
async fn the_list_is_in_order_and_has_nothing_that_is_hidden() {
    let bed = Bed::new();
    let mut client = bed.connect();
    let keys = client.keys().await;
    assert_eq!(keys, ["bar:foo", "user-script", "dots", "num", "bool", "empty", "u8", "sp key", "null", "foo:bar", "root_pw"]);
    let empty = serde_json::json!({});
    bed.store.vm.lock().unwrap()["customer_metadata"] = empty.clone();
    bed.store.vm.lock().unwrap()["internal_metadata"] = empty;
    let raw = client.lines(Frame::new("7f3a9c01", "KEYS", None).encode(), 1).await;
    assert_eq!(raw, "V2 16 a11c33e3 7f3a9c01 SUCCESS\n");
    assert_ne!(fixture(), *bed.store.vm.lock().unwrap());
}

/// metadata case 63, in memory; with files in the scenario of the node
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_lose_nothing() {
    let bed = Bed::with(Limits { keys: 2000, ..fast() });
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..10 {
        let mut client = bed.connect();
        writers.spawn(async move {
            for key in 0..100 {
                assert_eq!(client.put(&format!("w{writer}.{key}"), "v").await, success("OK"));
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let stored = bed.store.stored("customer_metadata");
    assert_eq!(stored.keys().filter(|key| key.starts_with('w')).count(), 1000);
}

/// A GET that follows a PUT on the same connection sees it, though both were sent at once.
#[tokio::test]
async fn a_connection_is_served_strictly_in_order() {
    let bed = Bed::new();
    let mut client = bed.connect();
    let ask = |key: &str, value: u32| {
        let put = triton_mdata::client::Ask::Put(key.to_owned(), value.to_string().into_bytes()).encode(value);
        put + &triton_mdata::client::Ask::Get(key.to_owned()).encode(value)
    };
    let all: String = (1..50).map(|value| ask("k", value)).collect();
    let answers = client.lines(all, 98).await;
    for (value, pair) in (1_u32..50).zip(answers.lines().collect::<Vec<_>>().chunks(2)) {
        assert_eq!(Frame::parse(pair[1]).unwrap().text(), value.to_string());
    }
}
