//! Metadata over HTTP at 169.254.169.254, inside the network namespaces of real guests (metadata.md section 5.4, attack case 30).
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_e2e::{CloudInit, MetadataService, Node, assert_no_trace, until};
use triton_link::NetNs;

const USER_DATA: &str = "#cloud-config\n{\"runcmd\": [\"true\"]}\n";

fn payload(node: &Node, host: u8, source: &str) -> Value {
    let mut payload = node.payload(host);
    payload["customer_metadata"] =
        json!({"root_authorized_keys": "ssh-ed25519 AAAA one\nssh-rsa BBBB two\n", "cloud-init:user-data": USER_DATA});
    payload["internal_metadata"] = json!({"cloudinit_datasource": source, "secret": "never-served"});
    payload
}

fn await_doors(service: &MetadataService<'_>, count: i64) {
    service.await_ready();
    until("the guests are served over HTTP", || service.status()["http_listeners"] == count);
}

fn pid(node: &Node, uuid: &str) -> i32 {
    i32::try_from(node.get(uuid)["pid"].as_i64().unwrap()).unwrap()
}

/// A connection from inside the guest's namespace.
fn connect(node: &Node, uuid: &str, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = NetNs::of_pid(pid(node, uuid)).unwrap().run(|| TcpStream::connect_timeout(&address, Duration::from_secs(3))).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// What is answered to this request in the guest's namespace; empty where nobody answers.
fn raw(node: &Node, uuid: &str, address: &str, request: &str) -> String {
    let Ok(mut stream) = connect(node, uuid, address) else { return String::new() };
    let mut bytes = Vec::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The content at `path`, asked for by a client that makes its own requests; `None` where there is none.
fn ask(node: &Node, uuid: &str, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Triton-Metadata: true\r\nConnection: close\r\n\r\n");
    let answer = raw(node, uuid, "169.254.169.254:80", &request);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// metadata section 5.4: chosen for an instance, the transport is there while it runs, and nothing of it stays when it does not
#[test]
fn metadata_is_served_in_the_guests_own_namespace_for_as_long_as_it_runs() {
    let node = Node::with_image("http");
    let before = node.traces();
    let mut service = MetadataService::start(&node);
    let plain = node.create(&node.payload(6));
    let descriptors = |service: &MetadataService<'_>| fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
    until("the plain guest has its line", || service.status()["serial_lines"] == 1);
    let at_rest = descriptors(&service);
    let uuid = node.create(&payload(&node, 5, "openstack"));
    await_doors(&service, 1);
    assert_eq!(ask(&node, &uuid, "/latest/meta-data/instance-id").as_ref(), Some(&uuid));
    let meta: Value = serde_json::from_str(&ask(&node, &uuid, "/openstack/latest/meta_data.json").unwrap()).unwrap();
    assert_eq!((&meta["uuid"], &meta["hostname"]), (&json!(uuid), &json!("web5")));
    assert_eq!(node.guest(&uuid, "/bin/busybox tr '\\0' '\\n' < /proc/1/environ | grep product_name"), "product_name=OpenStack Nova\n");
    assert_eq!(node.guest(&uuid, "cat /proc/net/tcp | grep -c ' 0A '"), "1\n", "one socket listens, at a port that nobody uses");
    // One that did not choose it has neither the address nor anybody there.
    assert_eq!(ask(&node, &plain, "/"), None);
    assert!(!node.guest(&plain, "ip addr show dev lo").contains("169.254.169.254"));
    // A change is seen by the next request, and the choice itself can be changed while it runs.
    node.vmadm(&["update", &uuid, "hostname=renamed"]).ok();
    assert_eq!(ask(&node, &uuid, "/latest/meta-data/local-hostname").as_deref(), Some("renamed"));
    let change = |choice: &str| {
        node.run_with("vmadm", &["update", &uuid], &json!({"set_internal_metadata": {"cloudinit_datasource": choice}}).to_string(), &[])
            .ok();
    };
    change("nocloud");
    await_doors(&service, 0);
    assert_eq!(ask(&node, &uuid, "/"), None);
    change("ec2");
    await_doors(&service, 1);
    // A new service, a new boot.
    service.restart();
    await_doors(&service, 1);
    assert_eq!(ask(&node, &uuid, "/latest/meta-data/instance-id").as_ref(), Some(&uuid));
    let first = pid(&node, &uuid);
    node.vmadm(&["reboot", &uuid, "-F"]).ok();
    until("the next boot is served", || {
        pid(&node, &uuid) != first
            && service.status()["http_listeners"] == 1
            && ask(&node, &uuid, "/latest/meta-data/instance-id").as_ref() == Some(&uuid)
    });
    // Its namespace ends with it, also with a connection open.
    let open = connect(&node, &uuid, "169.254.169.254:80").unwrap();
    let inode = fs::metadata(format!("/proc/{}/ns/net", pid(&node, &uuid))).unwrap().ino();
    node.vmadm(&["stop", &uuid, "-F"]).ok();
    await_doors(&service, 0);
    drop(open);
    let held = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.to_string_lossy() == format!("net:[{inode}]"))
    };
    // Its socket stays until it is deleted.
    until("nothing of the guest is held open", || !held() && descriptors(&service) <= at_rest + 1);
    for uuid in [&uuid, &plain] {
        node.vmadm(&["delete", uuid]).ok();
    }
    drop(service);
    assert_no_trace(&node, &before);
}

/// The guest's own port 80 stays its own; attack case 30: nobody else reaches the transport, and not every request is answered
#[test]
fn the_transport_takes_no_port_and_answers_only_its_own_guest() {
    let node = Node::with_image("http-attack");
    let service = MetadataService::start(&node);
    let (uuid, other) = (node.create(&payload(&node, 5, "ec2")), node.create(&node.payload(6)));
    await_doors(&service, 1);
    node.guest(&uuid, "mkdir -p /www; echo own > /www/index.html; /bin/busybox httpd -p 0.0.0.0:80 -h /www");
    for address in ["10.64.0.5:80", "127.0.0.1:80"] {
        assert!(raw(&node, &uuid, address, "GET / HTTP/1.0\r\n\r\n").ends_with("own\n"), "{address}");
    }
    assert_eq!(ask(&node, &uuid, "/latest/meta-data/instance-id").as_ref(), Some(&uuid));
    // Another guest that sends what is for that address to its neighbour gets the neighbour's own server at most.
    node.guest(&other, "ip route add 169.254.169.254/32 via 10.64.0.5");
    assert_eq!(ask(&node, &other, "/latest/meta-data/instance-id"), None);
    assert!(connect(&node, &other, "10.64.0.5:80").is_ok(), "they can reach each other");
    assert!(connect(&node, &other, "10.64.0.5:1").is_err(), "nor where the socket is");
    // The node itself has no such address.
    let node_ns = NetNs::open(&node.layout().namespaces().join("net")).unwrap();
    let address: SocketAddr = "169.254.169.254:80".parse().unwrap();
    assert!(node_ns.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).unwrap().is_err());

    let raw = |request: &str| raw(&node, &uuid, "169.254.169.254:80", request);
    let head = |request: &str, headers: &str| {
        let text = raw(&format!("{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"));
        text.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let host = "Host: 169.254.169.254\r\n";
    let good = "X-Triton-Metadata: true\r\n";
    for (request, headers, status) in [
        ("GET /latest/meta-data/instance-id", format!("{host}{good}"), "200"),
        ("GET /latest/meta-data/instance-id", host.to_owned(), "401"),
        ("GET /latest/meta-data/instance-id", format!("{host}X-aws-ec2-metadata-token: guessed\r\n"), "401"),
        ("GET /latest/meta-data/instance-id", format!("Host: evil.example\r\n{good}"), "400"),
        ("GET /latest/meta-data/instance-id", format!("{host}{good}X-Forwarded-For: 10.0.0.1\r\n"), "403"),
        ("GET http://169.254.169.254/latest/", format!("{host}{good}"), "400"),
        ("POST /latest/user-data", format!("{host}{good}Content-Length: 0\r\n"), "405"),
        ("PUT /latest/meta-data/instance-id", format!("{host}{good}Content-Length: 0\r\n"), "405"),
        ("GET /../../etc/passwd", format!("{host}{good}"), "404"),
        ("GET /latest/internal_metadata", format!("{host}{good}"), "404"),
    ] {
        assert_eq!(head(request, &headers), status, "{request} {headers}");
    }
    let token =
        raw(&format!("PUT /latest/api/token HTTP/1.1\r\n{host}X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n"));
    let (answer, token) = token.split_once("\r\n\r\n").unwrap();
    assert!(answer.to_ascii_lowercase().contains("x-aws-ec2-metadata-token-ttl-seconds: 60"), "{answer}");
    assert_eq!(head("GET /latest/user-data", &format!("{host}X-aws-ec2-metadata-token: {token}\r\n")), "200");
    for path in ["/", "/latest/", "/latest/meta-data/", "/openstack/latest/meta_data.json", "/openstack/latest/vendor_data.json"] {
        assert!(!ask(&node, &uuid, path).unwrap().contains("never-served"), "{path}");
    }
    for uuid in [&uuid, &other] {
        node.vmadm(&["delete", uuid]).ok();
    }
}

/// What the guest's own client is told, run as `user` of the guest by `program`.
fn as_user(node: &Node, uuid: &str, user: u32, program: &[&str]) -> String {
    let (pid, user) = (pid(node, uuid).to_string(), user.to_string());
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-m", "-u", "-n", "-p", "-i", "-U", "-S", &user, "-G", &user, "--"]).args(program);
    command.args(["/bin/busybox", "timeout", "20", "/bin/busybox", "nc", "169.254.169.254", "80"]).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let request = "GET /latest/user-data HTTP/1.0\r\nHost: 169.254.169.254\r\nX-Triton-Metadata: true\r\n\r\n";
    child.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// metadata attack case 3 on this transport: of the users of a guest root alone is answered, whatever namespaces the others make; all of
/// them where an operator says so, as clouds do
#[test]
fn only_root_of_a_guest_is_answered_over_http_unless_every_user_is_to_be() {
    let node = Node::with_image("http-users");
    let mut service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, 5, "ec2"));
    await_doors(&service, 1);
    let refused = service.status()["refused_connections"].as_i64().unwrap();
    let nested = ["/bin/busybox", "unshare", "-r"];
    assert!(as_user(&node, &uuid, 0, &[]).ends_with(USER_DATA), "root of the guest");
    assert!(as_user(&node, &uuid, 0, &nested).ends_with(USER_DATA), "it in a user namespace of its own");
    for (user, program) in [(33, &[][..]), (65534, &[]), (33, &nested)] {
        let said = as_user(&node, &uuid, user, program);
        assert!(said.starts_with("HTTP/1.0 403 ") || said.starts_with("HTTP/1.1 403 "), "user {user} {program:?}: {said}");
        assert!(!said.contains("runcmd"), "user {user} {program:?}: {said}");
    }
    assert_eq!(service.status()["refused_connections"].as_i64(), Some(refused + 3));
    let config = node.layout().at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("metadata-agent.config.json"), r#"{"limits": {"http_every_user": true}}"#).unwrap();
    service.restart();
    await_doors(&service, 1);
    for user in [0, 33] {
        assert!(as_user(&node, &uuid, user, &[]).ends_with(USER_DATA), "user {user}, where every one may");
    }
    node.vmadm(&["delete", &uuid]).ok();
}

/// Section 8.2 for this transport: connections, time, heads and memory have bounds, and neighbours are answered meanwhile
#[test]
fn slow_and_many_clients_over_http_cost_their_own_guest_alone() {
    let node = Node::with_image("http-limits");
    let config = node.layout().at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&config).unwrap();
    let limits = r#"{"limits": {"http_connections": 4, "http_connection_ms": 1500, "partial_ms": 1000}}"#;
    fs::write(config.join("metadata-agent.config.json"), limits).unwrap();
    let service = MetadataService::start(&node);
    let (uuid, other) = (node.create(&payload(&node, 5, "ec2")), node.create(&payload(&node, 6, "openstack")));
    await_doors(&service, 2);
    let namespace = NetNs::of_pid(pid(&node, &uuid)).unwrap();
    let address: SocketAddr = "169.254.169.254:80".parse().unwrap();
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..40 {
        let Ok(mut stream) = namespace.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(200))).unwrap() else { break };
        // Half a head, nothing at all, a head without an end.
        let text = match number % 3 {
            0 => "GET / HTTP/1.1\r\nHost: 169".to_owned(),
            1 => String::new(),
            _ => format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(40_000)),
        };
        let _ = stream.write_all(text.as_bytes());
        held.push(stream);
    }
    let begin = Instant::now();
    assert_eq!(ask(&node, &other, "/latest/meta-data/instance-id").as_ref(), Some(&other));
    assert!(begin.elapsed() < Duration::from_secs(5), "a neighbour waited {:?}", begin.elapsed());
    let open = fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
    assert!(open < 60, "{open} descriptors");
    // Each of them has its time, and then the next one's comes.
    until("the guest itself is answered beside them", || ask(&node, &uuid, "/latest/meta-data/instance-id").as_ref() == Some(&uuid));
    drop(held);
    for uuid in [&uuid, &other] {
        node.vmadm(&["delete", uuid]).ok();
    }
}

/// A node has no mirror of Debian's packages: `cargo xtask vm test` runs this here first and takes what it made there.
#[test]
fn debian_is_at_hand() {
    assert!(CloudInit::get().root().is_dir());
}

/// metadata section 6.4: cloud-init's own data sources, in the guest's namespace
#[test]
fn cloud_init_learns_from_it_as_from_openstack_and_from_ec2() {
    let cloud_init = CloudInit::get();
    let node = Node::with_image("http-cloud-init");
    let mut service = MetadataService::start(&node);
    let mut wanted = payload(&node, 5, "openstack");
    let mut second = wanted["nics"][0].clone();
    second["mac"] = json!("02:08:20:00:01:05");
    second["ips"] = json!(["10.66.0.5/24"]);
    second["primary"] = json!(false);
    wanted["nics"].as_array_mut().unwrap().push(second);
    let uuid = node.create(&wanted);
    await_doors(&service, 1);
    let macs = ["02:08:20:00:00:05", "02:08:20:00:01:05"];
    for kind in ["openstack", "ec2-with-token", "ec2"] {
        if kind == "ec2" {
            // Where DMI does not say Amazon, its source asks for no token and does not say who asks.
            let config = node.layout().at("/opt/smartdc/agents/etc");
            fs::create_dir_all(&config).unwrap();
            fs::write(config.join("metadata-agent.config.json"), r#"{"limits": {"http_without_token": true}}"#).unwrap();
            service.restart();
            await_doors(&service, 1);
        }
        let told = cloud_init.run_in(pid(&node, &uuid), "clouds", &[kind, macs[0], macs[1]]);
        assert_eq!(told["found"], true, "{kind}");
        for (name, value) in [
            ("instance-id", json!(uuid)),
            ("hostname", json!("web5")),
            ("zone", node.get(&uuid)["datacenter_name"].clone()),
            ("public-keys", json!(["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"])),
            ("user-data", json!(USER_DATA)),
            ("token", json!(kind == "ec2-with-token")),
        ] {
            assert_eq!(told[name], value, "{kind}: {name} in {told:#}");
        }
        if kind == "openstack" {
            assert!(told["vendor-data"].as_str().unwrap().starts_with("#cloud-config-archive\n"), "{told:#}");
            let network = told["network"].to_string();
            for wanted in ["10.64.0.5", "10.66.0.5", "fd64::5", "10.64.0.1", "192.0.2.53", "eth1"] {
                assert!(network.contains(wanted), "{wanted} in {network}");
            }
        }
    }
    node.vmadm(&["delete", &uuid]).ok();
}
