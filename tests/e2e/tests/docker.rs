//! Docker tasks of cn-agent on instances that are LXC containers (cn-agent.md section 3.13): programs, files and figures.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use triton_e2e::{Headnode, Node, assert_no_trace, until};
use triton_link::NetNs;

/// Calls at the port of a task's reply.
fn call(node: &Node, reply: &Value) -> TcpStream {
    let port = u16::try_from(reply["port"].as_u64().unwrap_or_else(|| panic!("no port: {reply}"))).unwrap();
    assert_eq!(reply["host"], "127.0.0.1");
    let namespace = NetNs::open(&node.layout().namespaces().join("net")).unwrap();
    let stream = namespace.run(|| TcpStream::connect(("127.0.0.1", port))).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// What a program said, by stream, and how it ended.
fn listen(mut stream: TcpStream) -> (String, String, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (mut out, mut err, mut end) = (String::new(), String::new(), Value::Null);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).unwrap();
        match line["type"].as_str().unwrap() {
            "stdout" | "tty" => out.push_str(line["data"].as_str().unwrap()),
            "stderr" => err.push_str(line["data"].as_str().unwrap()),
            "end" => end = line["data"].clone(),
            other => panic!("{other}"),
        }
    }
    (out, err, end)
}

fn exec(headnode: &Headnode<'_>, node: &Node, uuid: &str, command: &Value) -> (String, String, Value) {
    let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": command}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    listen(call(node, &reply.json()))
}

fn sh(script: &str) -> Value {
    json!({"Cmd": ["sh", "-c", script], "AttachStdout": true, "AttachStderr": true})
}

#[test]
fn programs_run_inside_with_their_user_environment_streams_limits_and_no_more_than_the_guest_has() {
    let node = Node::with_image("docker-exec");
    let headnode = Headnode::start(&node);
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let run = |command: &Value| exec(&headnode, &node, &uuid, command);
    let ended = |code: i32| json!({"code": code, "signal": null});
    assert_eq!(run(&sh("echo out; echo err >&2; exit 3")), ("out\n".to_owned(), "err\n".to_owned(), ended(3)));
    assert_eq!(run(&sh("kill -9 $$")).2, json!({"code": null, "signal": "SIGKILL"}));
    assert_eq!(run(&sh("hostname")).0, "web5\n", "its name space");
    assert_eq!(run(&json!({"Cmd": ["no-such-program"]})).2, ended(127));
    assert_eq!(run(&json!({"Cmd": ["/etc/passwd"]})).2, ended(126));

    // The environment is what was asked for and what everybody has, nothing of the agent's.
    let (out, _, _) = run(&json!({"Cmd": ["env"], "Env": ["FOO=b ar", "HOME=/x"]}));
    let mut names: Vec<&str> = out.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["FOO", "HOME", "PATH"]);
    assert!(out.contains("FOO=b ar\n") && out.contains("HOME=/x\n"), "{out}");
    let (out, err, _) = run(&json!({"Cmd": ["sh", "-c", "id -u; id -g; pwd"], "User": "1000:50", "WorkingDir": "/tmp"}));
    assert_eq!((out.as_str(), err.as_str()), ("1000\n50\n/tmp\n", ""));
    assert_eq!(run(&json!({"Cmd": ["id"], "User": "nobody-here"})).2, ended(126));

    // It is like any process of the guest: same control group, same capabilities, filtered, no descriptor of the host's.
    let status = "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/PID/status; cat /proc/PID/oom_score_adj";
    assert_eq!(run(&sh(&status.replace("PID", "self"))).0, node.guest(&uuid, &status.replace("PID", "1")), "as init");
    let (out, _, _) = run(&sh("ls /proc/self/fd | wc -l; cat /proc/self/cgroup"));
    let descriptors: u32 = out.lines().next().unwrap().parse().unwrap();
    assert!(descriptors <= 4, "{out}");
    let (host, _, _) = run(&sh("cat /proc/self/cgroup | grep '^0:' | cut -d: -f3"));
    assert!(host.starts_with('/') && !host.contains(".."), "inside of the guest's own control group: {host}");
    let (out, _, _) = run(&sh("mount -t tmpfs none /sys 2>/dev/null; dd if=/dev/mem of=/dev/null count=1 2>&1; true"));
    assert!(out.contains("dd:") || out.contains("can't open"), "{out}");

    // Input, and its end.
    let command = json!({"Cmd": ["sh", "-c", "read a; read b || echo no more; echo got $a"], "AttachStdin": true, "AttachStdout": true});
    let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": command})).json();
    let mut stream = call(&node, &reply);
    stream.write_all(b"{\"type\":\"stdin\",\"data\":\"hello\\n\"}\r\n{\"type\":\"end\"}\r\n").unwrap();
    assert_eq!(listen(stream), ("no more\ngot hello\n".to_owned(), String::new(), ended(0)));
    // A terminal of a size.
    let command = json!({"Cmd": ["sh"], "AttachStdin": true, "AttachStdout": true, "Tty": true});
    let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": command})).json();
    let mut stream = call(&node, &reply);
    stream.write_all(b"{\"type\":\"tty\",\"resize\":{\"w\":77,\"h\":11}}\n").unwrap();
    stream.write_all(b"{\"type\":\"tty\",\"data\":\"test -t 0 && echo is a $((3+4)) terminal; exit 5\\n\"}\n").unwrap();
    let (out, _, end) = listen(stream);
    assert!(out.contains("is a 7 terminal") && end == ended(5), "{out} {end}");
    // One whose caller goes ends; one that is detached stays.
    let reply =
        headnode.task("docker_exec", &json!({"uuid": uuid, "command": {"Cmd": ["sleep", "4711"], "AttachStdin": true, "Tty": true}}));
    let stream = call(&node, &reply.json());
    let count = |word: &str| node.guest(&uuid, &format!("ps | grep -c '[s]leep {word}' || true")).trim().to_owned();
    until("it runs", || count("4711") == "1");
    drop(stream);
    until("it has ended", || count("4711") == "0");
    let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": {"Cmd": ["sleep", "4712"], "Detach": true}}));
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    until("it runs", || count("4712") == "1");

    for (command, word) in
        [(json!({"Cmd": []}), "Cmd"), (json!({"Cmd": ["x"], "Logs": true}), "console"), (json!({"Cmd": ["x".repeat(200_000)]}), "too long")]
    {
        let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": command}));
        assert!(reply.status == 500 && reply.json()["error"].as_str().unwrap().contains(word), "{word}: {}", reply.body);
    }
    let reply = headnode.task("docker_build", &json!({"uuid": uuid, "payload": {}}));
    assert!(reply.status == 500 && reply.body.contains("docker_build is not available on Linux compute nodes"), "{}", reply.body);
    // Stopping is not held up by it; then there is no inside.
    assert_eq!(headnode.task("machine_shutdown", &json!({"uuid": uuid, "force": true})).status, 200);
    let reply = headnode.task("docker_exec", &json!({"uuid": uuid, "command": sh("true")}));
    assert_eq!((reply.status, &reply.json()["details"]["restCode"]), (500, &json!("VmNotRunning")));
    let reply = headnode.task("docker_exec", &json!({"uuid": "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11", "command": sh("true")}));
    assert_eq!(reply.json()["details"]["restCode"], "VmNotFound");
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
    assert_no_trace(&node, &before);
}

fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(1000);
        header.set_gid(50);
        if *kind == tar::EntryType::Symlink {
            header.set_size(0);
            tar.append_link(&mut header, name, content).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

#[test]
fn files_are_copied_out_of_and_into_running_and_stopped_instances_and_no_link_leads_out_of_them() {
    let node = Node::with_image("docker-copy");
    let headnode = Headnode::start(&node);
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    // On the host there is something that no guest may see or change.
    let secret = node.layout().at("/var/tmp/secret");
    std::fs::write(&secret, "of the host").unwrap();
    let copy = |mode: &str, path: &str| headnode.task("docker_copy", &json!({"uuid": uuid, "path": path, "mode": mode}));
    let out = |path: &str| {
        let reply = copy("read", path);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let mut bytes = Vec::new();
        call(&node, &reply.json()).read_to_end(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            let _ = entry.read_to_string(&mut text);
            (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap(), text)
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        entries
    };
    let into = |path: &str, content: &[u8]| {
        let reply = copy("write", path);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let mut stream = call(&node, &reply.json());
        let _ = stream.write_all(content);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    };
    node.guest(&uuid, "mkdir -p /data/sub; echo hello >/data/file; chown 33:33 /data/file; ln -s /etc/passwd /data/link; mkdir -p /w");
    node.guest(&uuid, &format!("ln -s {} /data/out; ln -s ../../../../../../../../../.. /data/up", secret.display()));
    for state in ["running", "stopped"] {
        let stat = copy("stat", "/data/file").json();
        assert_eq!(
            (&stat["containerPathStat"]["name"], &stat["containerPathStat"]["size"]),
            (&json!("data/file"), &json!(6)),
            "{state}: {stat}"
        );
        assert_eq!(copy("stat", "data/link").json()["containerPathStat"]["linkTarget"], "/etc/passwd", "{state}");
        assert_eq!(copy("stat", "/data").json()["containerPathStat"]["mode"].as_u64().unwrap() >> 31, 1);
        for (path, code) in [("/nothing", "FileNotFound"), ("/data/file/x", "PathNotDirectory"), ("/data/out/x", "FileNotFound")] {
            assert_eq!(copy("read", path).json()["details"]["restCode"], code, "{state} {path}");
        }
        assert_eq!(copy("write", "/data/file").json()["details"]["restCode"], "PathNotDirectory");
        let entries = out("/data");
        let names: Vec<&str> = entries.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["data", "data/file", "data/link", "data/out", "data/sub", "data/up"], "{state}");
        assert_eq!(entries[1], ("data/file".to_owned(), 33, "hello\n".to_owned()), "{state}: with the guest's own ids");
        assert!(entries.iter().all(|(_, _, text)| !text.contains("of the host")));
        // Through a link it is the guest's root that counts, however far up it goes.
        let name = |path: &str| out(path).into_iter().map(|(name, _, _)| name).next();
        assert_eq!(name("/data/up/etc/passwd").as_deref(), Some("passwd"), "{state}");
        assert!(copy("read", &format!("/data/up{}", secret.display())).status == 500, "{state}");

        let file = format!("in-{state}");
        into("/w", &archive(&[(&file, tar::EntryType::Regular, "new"), ("d/", tar::EntryType::Directory, "")]));
        let stat = copy("stat", &format!("/w/{file}")).json();
        assert_eq!((&stat["containerPathStat"]["size"], &stat["containerPathStat"]["mode"]), (&json!(3), &json!(0o640)), "{state}: {stat}");
        assert_eq!(out(&format!("/w/{file}")), [(file.clone(), 1000, "new".to_owned())], "{state}");
        // What leads out, and devices, end it; the host is as it was.
        let outside = format!("evil-{state}");
        for (entries, name) in [
            (vec![("l", tar::EntryType::Symlink, "/data/up"), ("l/evil", tar::EntryType::Regular, "x")], "/evil"),
            (vec![("dev", tar::EntryType::Block, "")], "/w/dev"),
        ] {
            into("/w", &archive(&entries));
            assert_eq!(copy("stat", name).json()["details"]["restCode"], "FileNotFound", "{state} {name}");
        }
        into("/data/up", &archive(&[(&outside, tar::EntryType::Regular, "x")]));
        assert_eq!(copy("stat", &format!("/{outside}")).status, 200, "{state}: up is the guest's own root");
        assert!(!std::path::Path::new("/").join(&outside).exists());
        into("/w", b"this is no archive");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
        if state == "running" {
            assert_eq!(headnode.task("machine_shutdown", &json!({"uuid": uuid, "force": true})).status, 200);
        }
    }
    // What came in while it was stopped is the guest's own.
    assert_eq!(headnode.task("machine_boot", &json!({"uuid": uuid})).status, 200);
    assert_eq!(node.guest(&uuid, "stat -c '%u:%g %a' /data/file /evil-stopped"), "33:33 644\n1000:50 640\n");
    assert_eq!(copy("paint", "/data").json()["error"], "unknown mode: paint");
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
    assert_no_trace(&node, &before);
}

#[test]
fn figures_of_an_instance_are_sent_once_or_every_second_until_it_ends() {
    let node = Node::with_image("docker-stats");
    let headnode = Headnode::start(&node);
    let uuid = node.create(&node.payload(5));
    let stats = |payload: Value| headnode.task("docker_stats", &json!({"uuid": uuid, "payload": payload}));
    let mut text = String::new();
    call(&node, &stats(json!({"doStream": false})).json()).read_to_string(&mut text).unwrap();
    let once: Value = serde_json::from_str(&text).unwrap();
    assert!(once["pids_stats"]["current"].as_u64().unwrap() >= 1 && once["cpu_stats"]["system_cpu_usage"].as_u64().unwrap() > 0, "{once}");
    assert_eq!(once["memory_stats"]["limit"], 64 << 20, "{once}");
    assert!(once["networks"].as_object().is_some_and(|all| !all.is_empty() && !all.contains_key("lo")), "{once}");
    let old = stats(json!({"doStream": true, "clientApiVersion": 1.18})).json();
    let stream = call(&node, &old);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    let mut next = || serde_json::from_str::<Value>(&lines.next()?.unwrap()).ok();
    let (first, second) = (next().unwrap(), next().unwrap());
    assert_eq!(second["precpu_stats"], first["cpu_stats"]);
    assert!(first["network"]["rx_bytes"].is_u64() && first.get("networks").is_none());
    assert_eq!(headnode.task("machine_shutdown", &json!({"uuid": uuid, "force": true})).status, 200);
    while next().is_some() {}
    assert_eq!(stats(json!({})).json()["details"]["restCode"], "VmNotRunning");
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
}
