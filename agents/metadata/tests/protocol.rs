//! The numbered cases of metadata.md section 12 over a connection: what is particular to bytes that come and go.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use common::{Bed, failure, not_found, success};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use triton_mdata::Frame;

const ALIAS: &str = "V2 25 9b100599 7f3a9c01 GET c2RjOmFsaWFz\n";
const ALIAS_ANSWER: &str = "V2 25 1131cc18 7f3a9c01 SUCCESS d2ViMA==\n";

/// metadata cases 1 to 8, 11 and 14
#[tokio::test]
async fn lines_of_version_1_are_answered_in_order_on_one_connection() {
    let mut client = Bed::new().connect();
    for line in ["\n", " \n", "\r\n", "GET\n", "GET \n", "NEGOTIATE\n", " GET sdc:uuid\n"] {
        assert_eq!(client.lines(line, 1).await, "invalid command\n", "{line:?}");
    }
    for line in ["NEGOTIATE V3\n", "NEGOTIATE v2\n", "get sdc:uuid\n", "FOO\n", "PUT a b\n", "DELETE a\n", "GET sdc:tags\n"] {
        assert_eq!(client.lines(line, 1).await, "FAILURE\n", "{line:?}");
    }
    assert_eq!(client.lines("NEGOTIATE V2\nNEGOTIATE V2 \n", 2).await, "V2_OK\nV2_OK\n");
    for line in ["GET sdc:uuid\n", "GET sdc:uuid\r\n", "GET  sdc:uuid\n", "GET\tsdc:uuid\n"] {
        assert_eq!(client.lines(line, 3).await, "SUCCESS\n0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1\n.\n", "{line:?}");
    }
    assert_eq!(client.lines("GET nope\nGET sdc:\n", 2).await, "NOTFOUND\nNOTFOUND\n");
}

/// metadata cases 9, 10, 12 and 13
#[tokio::test]
async fn values_of_version_1_have_their_dots_stuffed_and_their_bytes_intact() {
    let mut client = Bed::new().connect();
    for (line, expected) in [
        ("GET dots\n", "SUCCESS\na\n..b\n...c\n..\n.\n"),
        ("GET empty\n", "SUCCESS\n\n.\n"),
        ("GET num\n", "SUCCESS\n5\n.\n"),
        ("GET bool\n", "SUCCESS\nfalse\n.\n"),
        ("GET sp key\n", "SUCCESS\nspv\n.\n"),
        ("GET u8\n", "SUCCESS\nhéllo ☃\n.\n"),
    ] {
        assert_eq!(client.lines(line, expected.lines().count()).await, expected);
    }
}

/// metadata cases 15, 19 to 21, 24 and 26; attack case 20
#[tokio::test]
async fn damaged_frames_are_met_with_silence_and_the_connection_goes_on() {
    let mut client = Bed::new().connect();
    for line in
        ["V2", "V2 ", "V2 hello", &ALIAS.replace("9b100599", "9b10059a"), &ALIAS.replace("9b10", "9B10"), &ALIAS.replace(" 25 ", " 24 ")]
    {
        client.silence(line.trim_end()).await;
    }
    for length in ["0", "-25", "1e3", "2147483648", "18446744073709551616", &"9".repeat(400)] {
        client.silence(ALIAS.trim_end().replace(" 25 ", &format!(" {length} "))).await;
    }
    for request in ["00C0FFEE", "zz", ""] {
        client.silence(Frame::new(request, "KEYS", None).encode().trim_end()).await;
    }
    client.silence(format!("V2 13 e491df85 {} KEYS", "a".repeat(1 << 20))).await;
    client.silence(b"V2 \x00 \x0b \xff\xfe\r").await;
    assert_eq!(client.lines(ALIAS, 1).await, ALIAS_ANSWER);
}

/// metadata cases 16, 17, 22, 23, 25, 27 to 33
#[tokio::test]
async fn frames_are_answered_without_negotiation_and_between_lines_of_version_1() {
    let mut client = Bed::new().connect();
    assert_eq!(client.lines(ALIAS, 1).await, ALIAS_ANSWER);
    assert_eq!(client.lines("NEGOTIATE V2\nGET sdc:alias\n", 4).await, "V2_OK\nSUCCESS\nweb0\n.\n");
    for line in [ALIAS.replace(" 25 ", " 00025 "), ALIAS.replace("V2 25 ", "V2 \t 25  "), ALIAS.replace('\n', "\r\n")] {
        assert_eq!(client.lines(line, 1).await, ALIAS_ANSWER);
    }
    let raw = |code: &str, payload: &str| Frame { request: "a".into(), code: code.into(), payload: payload.into() }.encode();
    let mut ask = async |line: String| {
        let answer = client.lines(line, 1).await;
        let frame = Frame::parse(answer.trim_end()).unwrap();
        (frame.code.clone(), frame.text())
    };
    for payload in ["", "!!!!"] {
        assert_eq!(ask(raw("GET", payload)).await, failure("Invalid GET Request"));
        assert_eq!(ask(raw("DELETE", payload)).await, failure("Invalid DELETE Request"));
        assert_eq!(ask(raw("PUT", payload)).await, failure("Invalid PUT Request"));
    }
    for payload in ["c2RjOmFsaWFz", "c2Rj OmFsaWFz"] {
        assert_eq!(ask(raw("GET", payload)).await, success("web0"));
    }
    for verb in ["get", "NEGOTIATE", "FROB"] {
        assert_eq!(ask(raw(verb, "")).await, failure(&format!("Unknown command {verb}")));
    }
    assert_eq!(ask(raw("KEYS", "eA==")).await, ask(raw("KEYS", "")).await);
}

/// metadata cases 34 to 37
#[tokio::test]
async fn bytes_may_come_one_by_one_many_at_once_or_stop_in_the_middle() {
    let bed = Bed::new();
    let mut client = bed.connect();
    for byte in ALIAS.bytes() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.line().await.unwrap() + "\n", ALIAS_ANSWER);
    let many = format!("{ALIAS}GET nope\n\n{}", Frame::new("b", "KEYS", None).encode());
    let answers = client.lines(many, 4).await;
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!((lines[0], lines[1], lines[2]), (ALIAS_ANSWER.trim_end(), "NOTFOUND", "invalid command"));
    assert!(lines[3].contains(" b SUCCESS "));

    // Half a frame and an end: no word, and nobody else is disturbed.
    let mut half = bed.connect();
    half.send(&ALIAS[..20]).await;
    half.stream.shutdown().await.unwrap();
    assert_eq!(half.line().await, None);
    // A whole one, then half a close: the answer comes.
    let mut whole = bed.connect();
    whole.send(ALIAS).await;
    whole.stream.shutdown().await.unwrap();
    assert_eq!(whole.line().await.unwrap() + "\n", ALIAS_ANSWER);
    assert_eq!(whole.line().await, None);
    assert_eq!(client.lines("\n", 1).await, "invalid command\n");
}

/// Section 2.1: a multi-byte character that comes in two parts is one character.
#[tokio::test]
async fn a_character_is_not_broken_by_the_way_it_comes() {
    let bed = Bed::new();
    bed.store.vm.lock().unwrap()["customer_metadata"]["☃"] = "snow".into();
    let mut client = bed.connect();
    let line = "GET ☃\n".as_bytes();
    client.send(&line[..5]).await;
    tokio::task::yield_now().await;
    assert_eq!(client.lines(&line[5..], 3).await, "SUCCESS\nsnow\n.\n");
}

/// metadata case 38
#[tokio::test]
async fn a_value_of_a_mebibyte_goes_in_and_comes_out() {
    let mut client = Bed::new().connect();
    let value: String = (0..1 << 20).map(|i| char::from(b'!' + (i % 90) as u8)).collect();
    assert_eq!(client.put("large", &value).await, success("OK"));
    assert_eq!(client.get("large").await, success(&value));
    let (code, text) = client.put("larger", &format!("{value}x")).await;
    assert!(code == "FAILURE" && text.contains("1048576"), "{text}");
    assert_eq!(client.get("larger").await, not_found());
}

/// metadata cases 47 and 48: the service lives on whatever is stored.
#[tokio::test]
async fn null_objects_and_names_of_javascript_hurt_nobody() {
    let bed = Bed::new();
    let mut client = bed.connect();
    for key in ["null", "constructor", "__proto__", "sdc:toString", "sdc:internal_metadata.hidden", "hidden"] {
        assert_eq!(client.get(key).await, not_found(), "{key}");
    }
    assert_eq!(client.put("__proto__", "mine").await, success("OK"));
    assert_eq!(client.get("__proto__").await, success("mine"));
    // metadata attack case 28
    for broken in [serde_json::json!(null), serde_json::json!([]), serde_json::json!("x")] {
        bed.store.vm.lock().unwrap().insert("customer_metadata".into(), broken);
        assert_eq!(client.get("a").await, failure("Zone did not contain customer_metadata"));
        assert_eq!(client.put("a", "b").await, failure("Zone did not contain customer_metadata"));
        assert_eq!(client.get("sdc:alias").await, success("web0"));
    }
}

/// Section 9: what goes wrong on the host is not the guest's to read.
#[tokio::test]
async fn a_store_that_fails_is_answered_in_plain_words_and_nothing_is_kept() {
    let bed = Bed::new();
    let mut client = bed.connect();
    *bed.store.refuse.lock().unwrap() = Some("/zones/secret/config: no space left on device".to_owned());
    for (code, text) in [client.get("dots").await, client.put("a", "b").await, client.delete("dots").await] {
        assert!(code == "FAILURE" && !text.contains("zones") && !text.is_empty(), "{text}");
    }
    *bed.store.refuse.lock().unwrap() = None;
    assert_eq!(client.get("a").await, not_found());
    assert_eq!(client.get("sdc:alias").await, success("web0"));
}

/// The end of a connection is told at once.
#[tokio::test]
async fn nothing_follows_the_last_answer() {
    let mut client = Bed::new().connect();
    client.send(ALIAS).await;
    client.stream.shutdown().await.unwrap();
    let mut all = String::new();
    client.stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, ALIAS_ANSWER);
}
