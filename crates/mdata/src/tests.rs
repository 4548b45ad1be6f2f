//! The numbered cases of metadata.md section 12 that need no service.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    client::{Ask, Told},
    fixture::vm,
    *,
};

/// What a line is answered, by a server that stores nothing.
fn answer(line: &str) -> String {
    let (vm, plain) = (vm(), Compatibility::default());
    match parse(line.strip_suffix('\n').unwrap_or(line).as_bytes()) {
        Request::Invalid => "invalid command\n".to_owned(),
        Request::Negotiate(true) => "V2_OK\n".to_owned(),
        Request::Negotiate(false) | Request::Unknown => "FAILURE\n".to_owned(),
        Request::Get(key) => get(&vm, &key, plain).version_1(),
        Request::Keys => keys(&vm).version_1(),
        Request::Frame(frame) => {
            let key = trim(&frame.text()).to_owned();
            let answer = match frame.code.as_str() {
                "GET" if key.is_empty() => Answer::failure("Invalid GET Request"),
                "GET" => get(&vm, &key, plain),
                "KEYS" => keys(&vm),
                other => Answer::failure(format!("Unknown command {other}")),
            };
            answer.version_2(&frame.request)
        }
        Request::Dropped => String::new(),
    }
}

fn value(key: &str) -> String {
    match get(&vm(), key, Compatibility::default()) {
        Answer::Value(value) => value,
        other => other.word().to_owned(),
    }
}

/// metadata cases 1 to 3
#[test]
fn a_line_without_a_command_is_an_invalid_command() {
    for line in ["\n", " \n", "\r\n", "GET\n", "GET \n", "NEGOTIATE\n", " GET sdc:uuid\n", "\t\n"] {
        assert_eq!(answer(line), "invalid command\n", "{line:?}");
    }
}

/// metadata cases 4 to 6 and 8
#[test]
fn words_are_upper_case_and_known_or_fail() {
    for line in ["NEGOTIATE V2\n", "NEGOTIATE V2 \n"] {
        assert_eq!(answer(line), "V2_OK\n");
    }
    for line in ["NEGOTIATE V3\n", "NEGOTIATE v2\n", "NEGOTIATE  V2\n", "get sdc:uuid\n", "FOO\n", "PUT a b\n", "DELETE a\n"] {
        assert_eq!(answer(line), "FAILURE\n", "{line:?}");
    }
}

/// metadata cases 7 and 9 to 14
#[test]
fn version_1_gives_values_with_dots_stuffed() {
    let uuid = "SUCCESS\n0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1\n.\n";
    for line in ["GET sdc:uuid\n", "GET sdc:uuid\r\n", "GET  sdc:uuid\n", "GET\tsdc:uuid\n"] {
        assert_eq!(answer(line), uuid, "{line:?}");
    }
    for (line, expected) in [
        ("GET dots", "SUCCESS\na\n..b\n...c\n..\n.\n"),
        ("GET empty", "SUCCESS\n\n.\n"),
        ("GET nope", "NOTFOUND\n"),
        ("GET num", "SUCCESS\n5\n.\n"),
        ("GET bool", "SUCCESS\nfalse\n.\n"),
        ("GET sp key", "SUCCESS\nspv\n.\n"),
        ("GET u8", "SUCCESS\nhéllo ☃\n.\n"),
        ("GET sdc:tags", "FAILURE\n"),
        ("GET sdc:", "NOTFOUND\n"),
        ("GET user-script", "SUCCESS\n#!/bin/sh\necho hi\n\n.\n"),
    ] {
        assert_eq!(answer(line), expected, "{line}");
    }
}

/// metadata cases 15, 19 to 21, 24, 26
#[test]
fn damaged_frames_are_met_with_silence() {
    for line in [
        "V2",
        "V2 ",
        "V2 hello",
        "V2 25 9b100598 7f3a9c01 GET c2RjOmFsaWFz",
        "V2 25 9B100599 7f3a9c01 GET c2RjOmFsaWFz",
        "V2 24 9b100599 7f3a9c01 GET c2RjOmFsaWFz",
        "V2 26 9b100599 7f3a9c01 GET c2RjOmFsaWFz",
        "V2 0 00000000 7f3a9c01 KEYS",
        "V2 -13 e491df85 7f3a9c01 KEYS",
        "V2 1e1 e491df85 7f3a9c01 KEYS",
        "V2 25 9b100599",
    ] {
        assert_eq!(answer(line), "", "{line}");
    }
    for request in ["00C0FFEE", "zz"] {
        assert_eq!(answer(&Frame::new(request, "KEYS", None).encode()), "");
    }
    let body = "7f3a9c01  KEYS";
    assert_eq!(answer(&format!("V2 {} {:08x} {body}", body.len(), crc32fast::hash(body.as_bytes()))), "");
}

/// metadata cases 18, 22, 23, 25, 27, 29
#[test]
fn golden_frames_are_read_and_written_byte_for_byte() {
    for (line, code, content) in [
        ("V2 25 9b100599 7f3a9c01 GET c2RjOmFsaWFz", "GET", "sdc:alias"),
        ("V2 25 1131cc18 7f3a9c01 SUCCESS d2ViMA==", "SUCCESS", "web0"),
        ("V2 16 a11c33e3 7f3a9c01 SUCCESS", "SUCCESS", ""),
        ("V2 17 fc6e6f16 7f3a9c01 NOTFOUND", "NOTFOUND", ""),
        ("V2 16 ef87ef90 7f3a9c01 FAILURE", "FAILURE", ""),
        ("V2 13 e491df85 7f3a9c01 KEYS", "KEYS", ""),
        ("V2 21 1457fea4 7f3a9c01 SUCCESS T0s=", "SUCCESS", "OK"),
        ("V2 24 139cb34a 7f3a9c01 DELETE Y29sb3I=", "DELETE", "color"),
        (
            "V2 65 3dc25307 7f3a9c01 FAILURE Q2Fubm90IHVwZGF0ZSB0aGUgInNkYyIgTmFtZXNwYWNlLg==",
            "FAILURE",
            "Cannot update the \"sdc\" Namespace.",
        ),
        ("V2 45 56f413c8 7f3a9c01 FAILURE VW5rbm93biBjb21tYW5kIEZST0I=", "FAILURE", "Unknown command FROB"),
    ] {
        let frame = Frame::parse(line).unwrap();
        assert_eq!((frame.code.as_str(), frame.text().as_str()), (code, content));
        assert_eq!(frame.encode(), format!("{line}\n"));
        assert_eq!(Frame::new("7f3a9c01", code, Some(content.as_bytes()).filter(|c| !c.is_empty())).encode(), format!("{line}\n"));
    }
    let put = Frame::parse("V2 41 b54381ac 7f3a9c01 PUT WTI5c2IzST0gWkdGeWF5QmliSFZs").unwrap();
    assert_eq!(put_terms(&put), Ok(("color".to_owned(), "dark blue".to_owned())));
    let ask = Ask::Put("color".to_owned(), b"dark blue".to_vec());
    assert_eq!(ask.encode(0x7f3a_9c01), "V2 41 b54381ac 7f3a9c01 PUT WTI5c2IzST0gWkdGeWF5QmliSFZs\n");
    assert!(Frame::parse("V2 13 000e8a1e 000021f4 KEYS").is_some(), "a checksum with leading zeros");

    let alias = "V2 25 1131cc18 7f3a9c01 SUCCESS d2ViMA==\n";
    for line in [
        "V2 25 9b100599 7f3a9c01 GET c2RjOmFsaWFz",
        "V2 00025 9b100599 7f3a9c01 GET c2RjOmFsaWFz",
        "V2   25\t9b100599  7f3a9c01 GET c2RjOmFsaWFz",
        "V2 25 9b100599 7f3a9c01 GET c2RjOmFsaWFz\r",
    ] {
        assert_eq!(answer(line), alias, "{line:?}");
    }
    for request in ["a".to_owned(), "0123456789abcdef".repeat(3)] {
        let line = Frame::new(&request, "GET", Some(b"sdc:alias")).encode();
        assert!(answer(&line).contains(&format!(" {request} SUCCESS d2ViMA==")), "{line}");
    }
    let body = "7f3a9c01 GET  c2RjOmFsaWFz";
    assert_eq!(answer(&format!("V2 {} {:08x} {body}", body.len(), crc32fast::hash(body.as_bytes()))), alias);
}

/// metadata cases 28, 30, 31 to 33
#[test]
fn payloads_are_read_leniently_and_verbs_strictly() {
    let body = "7f3a9c01 GET ";
    let empty = format!("V2 {} {:08x} {body}", body.len(), crc32fast::hash(body.as_bytes()));
    let raw = |payload: &str| Frame { request: "a".into(), code: "GET".into(), payload: payload.into() }.encode();
    let invalid = Answer::failure("Invalid GET Request");
    assert_eq!(answer(&empty), invalid.version_2("7f3a9c01"));
    assert_eq!((answer(&raw("")), answer(&raw("!!!!"))), (invalid.version_2("a"), invalid.version_2("a")));
    for payload in ["ZW1wdHk=", "ZW1wdHk", "ZW1w dHk="] {
        assert_eq!(answer(&raw(payload)), Answer::Value(String::new()).version_2("a"), "{payload}");
    }
    let verb = |code: &str| answer(&Frame::new("a", code, None).encode());
    for code in ["get", "NEGOTIATE", "FROB"] {
        assert_eq!(verb(code), Answer::failure(format!("Unknown command {code}")).version_2("a"));
    }
    assert_eq!(answer(&Frame::new("a", "KEYS", Some(b"x")).encode()), verb("KEYS"));
}

/// metadata cases 39 to 44
#[test]
fn the_hosts_namespace_tells_what_it_lists() {
    for (key, expected) in [
        ("sdc:resolvers", r#"["8.8.8.8","8.8.4.4"]"#),
        ("sdc:resolvers.0", "8.8.8.8"),
        ("sdc:resolvers.9", "NOTFOUND"),
        ("sdc:nics.0.mac", "90:b8:d0:01:02:03"),
        ("sdc:nics.5.mac", "NOTFOUND"),
        ("sdc:nics.0", "NOTFOUND"),
        ("sdc:nics.0.ips", "FAILURE"),
        ("sdc:tags.role", "db"),
        ("sdc:tags.n", "3"),
        ("sdc:tags.b", "false"),
        ("sdc:tags.dotted.key", "dk"),
        ("sdc:tags.none", "NOTFOUND"),
        ("sdc:max_physical_memory", "1024"),
        ("sdc:autoboot", "true"),
        ("sdc:hvm", "false"),
        ("sdc:dns_domain", "local"),
        ("sdc:volumes", "[]"),
        ("sdc:operator-script", "#!/bin/sh\ntrue\n"),
        ("operator-script", "NOTFOUND"),
        ("sdc:vendor-data", "NOTFOUND"),
        ("sdc:nosuch", "NOTFOUND"),
        ("sdc:routes.10.1.0.0/16", "NOTFOUND"),
        ("sdc:tmpfs", "64"),
        ("sdc:internal_metadata_namespaces", "FAILURE"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    let nics: Value = serde_json::from_str(&value("sdc:nics")).unwrap();
    assert_eq!((&nics[0]["interface"], &nics[0]["ips"]), (&json!("net0"), &json!(["10.0.0.5/24"])));
    let routes: Value = serde_json::from_str(&value("sdc:routes")).unwrap();
    let route = |linklocal: bool, dst: &str, gateway: &str| json!({"linklocal": linklocal, "dst": dst, "gateway": gateway});
    let expected =
        [route(false, "10.1.0.0/16", "10.0.0.9"), route(true, "10.2.0.0/16", "10.0.0.5"), route(true, "10.3.0.0/16", "10.0.0.5")];
    assert_eq!(routes, json!(expected));
    let mut bare = vm();
    bare.remove("routes");
    assert_eq!(get(&bare, "sdc:routes", Compatibility::default()), Answer::Value("[]".to_owned()));
}

/// metadata cases 45 to 48; attack cases 21 and 22
#[test]
fn hidden_values_stay_hidden_whatever_the_key_looks_like() {
    for (key, expected) in [
        ("foo:bar", "internal"),
        ("bar:foo", "customer"),
        ("baz:x", "NOTFOUND"),
        ("docker:id", "NOTFOUND"),
        ("root_pw", "int-pw"),
        ("num", "5"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    for key in [
        "hidden",
        "sdc:internal_metadata.hidden",
        "sdc:internal_metadata",
        "sdc:customer_metadata.user-script",
        "sdc:pid",
        "sdc:zonepath",
        "null",
        "constructor",
        "__proto__",
        "sdc:toString",
        ":",
        "::",
        "SDC:uuid",
        "sdc:nics.-1.mac",
        "sdc:nics.1e0.mac",
        "sdc:nics.00.mac",
        "sdc:tags.",
        "sdc:nics.0.mac.x",
        "Foo:bar",
    ] {
        assert_eq!(value(key), "NOTFOUND", "{key}");
    }
    let open = Compatibility { customer_metadata_by_sdc: true, ..Compatibility::default() };
    assert_eq!(get(&vm(), "sdc:customer_metadata.num", open), Answer::Value("5".to_owned()));
}

/// metadata cases 52 and 53
#[test]
fn a_put_has_two_terms_and_a_key() {
    let put = |argument: &str| put_terms(&Frame::new("a", "PUT", Some(argument.as_bytes())));
    for wrong in ["", "YQ==", "YQ== YQ== YQ==", "ICA= YQ==", "!! YQ==", "YQ==  YQ=="] {
        assert_eq!(put(wrong), Err(PutError), "{wrong}");
    }
    assert_eq!(put("YQ== ="), Ok(("a".to_owned(), String::new())));
    assert_eq!(put("ICBrayAg ICB2diAK"), Ok(("kk".to_owned(), "  vv \n".to_owned())));
}

/// metadata cases 54 to 57
#[test]
fn keys_of_the_host_and_of_internal_namespaces_are_not_the_guests_to_change() {
    let at = |key: &str| target(&vm(), key, Compatibility::default());
    for (key, namespace) in [("sdc:uuid", "sdc"), ("foo:qux", "foo"), ("foo:", "foo"), ("foo::bar", "foo"), ("foo:x_pw", "foo")] {
        assert_eq!(at(key), Err(Answer::failure(format!("Cannot update the \"{namespace}\" Namespace."))), "{key}");
    }
    assert!(at("operator-script").is_err());
    let open = Compatibility { operator_script_by_guest: true, ..Compatibility::default() };
    assert_eq!(target(&vm(), "operator-script", open), Ok(Map::Internal));
    assert_eq!((at("foo"), at("quux:qux"), at("user_pw")), (Ok(Map::Customer), Ok(Map::Customer), Ok(Map::Internal)));
}

/// metadata cases 60 and 62
#[test]
fn the_list_has_the_customers_keys_and_what_a_guest_sees_of_the_internal_ones() {
    let expected = "bar:foo\nuser-script\ndots\nnum\nbool\nempty\nu8\nsp key\nnull\nfoo:bar\nroot_pw";
    assert_eq!(keys(&vm()), Answer::Value(expected.to_owned()));
    let mut bare = vm();
    bare.insert("customer_metadata".to_owned(), json!({}));
    bare.insert("internal_metadata".to_owned(), json!({}));
    assert_eq!(keys(&bare).version_2("a"), Frame::new("a", "SUCCESS", None).encode());
    bare.remove("internal_metadata");
    assert_eq!(keys(&bare), Answer::failure("Zone did not contain internal_metadata"));
}

/// metadata attack case 28: a property that is `null` is one that could not be read, which is not the same as empty
#[test]
fn what_could_not_be_read_fails_and_the_rest_is_told() {
    let mut damaged = vm();
    for property in ["customer_metadata", "internal_metadata", "tags", "routes"] {
        damaged.insert(property.to_owned(), serde_json::Value::Null);
    }
    let at = |key: &str| get(&damaged, key, Compatibility::default());
    for key in ["user-script", "root_pw", "sdc:operator-script", "sdc:volumes", "sdc:tags.role", "sdc:routes"] {
        assert!(matches!(at(key), Answer::Failure(_)), "{key}: {:?}", at(key));
    }
    assert!(matches!(keys(&damaged), Answer::Failure(_)));
    assert_eq!(at("sdc:alias"), Answer::Value("web0".to_owned()));
    assert_eq!((at("sdc:resolvers.0"), at("sdc:nosuch")), (Answer::Value("8.8.8.8".to_owned()), Answer::NotFound));
}

/// metadata attack cases 20, 21 and 29: every line that once was interesting, as it is, cut anywhere, with any byte changed
#[test]
fn the_corpus_and_its_neighbours_are_read_without_a_panic() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let line = std::fs::read(entry.unwrap().path()).unwrap();
        let mut try_line = |line: &[u8]| {
            count += 1;
            if let Request::Frame(frame) = parse(line) {
                let again = parse(frame.encode().trim_end().as_bytes());
                assert!(matches!(again, Request::Frame(_) | Request::Dropped), "{again:?}");
                let _ = put_terms(&frame);
            }
            let said = answer(&String::from_utf8_lossy(line));
            assert!(said.len() <= 4 * line.len() + 4000 && (said.is_empty() || said.ends_with('\n')), "{said}");
        };
        try_line(&line);
        for at in 0..line.len().min(64) {
            try_line(&line[..at]);
            try_line(&line[at..]);
            for byte in [0, b' ', b'\n', b'0', 0xff] {
                let mut changed = line.clone();
                changed[at] = byte;
                try_line(&changed);
            }
        }
    }
    assert!(count > 5000, "{count}");
}

proptest! {
    /// metadata attack cases 20 and 29
    #[test]
    fn no_line_makes_it_panic_and_no_answer_is_out_of_proportion(line in prop::collection::vec(any::<u8>(), 0..400), v2 in any::<bool>()) {
        let line = if v2 { [b"V2 12 ", line.as_slice()].concat() } else { line };
        let text = String::from_utf8_lossy(&line).into_owned();
        prop_assert!(answer(&text).len() < 4000);
    }

    #[test]
    fn what_a_client_sends_a_server_understands(key in "[ -~]{1,40}", value in prop::collection::vec(any::<u8>(), 1..200), id in any::<u32>()) {
        let line = Ask::Put(key.clone(), value.clone()).encode(id);
        let Request::Frame(frame) = parse(line.trim_end().as_bytes()) else { panic!("{line}") };
        match put_terms(&frame) {
            Ok((k, v)) => prop_assert_eq!((k.as_str(), v), (trim(&key), String::from_utf8_lossy(&value).into_owned())),
            Err(PutError) => prop_assert_eq!(trim(&key), ""),
        }
        let answer = Answer::Value(String::from_utf8_lossy(&value).into_owned());
        let text = String::from_utf8_lossy(&value).into_owned();
        prop_assert_eq!(client::read(&answer.version_2(&format!("{id:08x}")), id), Some(Told::Success(text.into_bytes())));
        prop_assert_eq!(client::read(&answer.version_2("ffff"), id & 0x7fff_ffff | 0x1_0000), None);
    }
}
