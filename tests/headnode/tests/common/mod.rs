//! What the stand-in's tests share: a client, a fake cn-agent, documents from the contracts.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "test support; each test file uses a part of it")]

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use headnode_standin::{Standin, StandinConfig};
use serde_json::{Value, json};

pub const SERVER: &str = "44454c4c-5700-1047-8051-b3c04f585131";
pub const VM: &str = "7f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f";
pub const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";
pub const IMAGE: &str = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";

/// An answer: status, headers in lower case, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// One request over a connection of its own, by hand: shares no code with what it tests. `None` when the connection was closed
/// without an answer.
pub fn ask_with(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let address = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (key, value) in headers {
        head += &format!("{key}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let (status, headers, body) = split(&bytes)?;
    let length = headers.iter().find(|(key, _)| key == "content-length").and_then(|(_, value)| value.parse::<usize>().ok());
    Some(Answer { status, whole: length.is_none_or(|length| length == body.len()), headers, body })
}

type Split = (u16, Vec<(String, String)>, Vec<u8>);

fn split(bytes: &[u8]) -> Option<Split> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect();
    Some((status, headers, bytes[end + 4..].to_vec()))
}

pub fn ask(base: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let text = body.map(Value::to_string).unwrap_or_default();
    ask_with(base, method, path, &[("content-type", "application/json")], text.as_bytes()).expect("no answer")
}

/// A request as cn-agent makes it.
pub fn report(standin: &Standin, path: &str, body: &Value) -> Answer {
    let agent = format!("cn-agent/2.15.0 (linux; x86_64) server/{SERVER}");
    let headers = [("content-type", "application/json"), ("user-agent", agent.as_str())];
    ask_with(standin.cnapi_url(), "POST", &format!("/servers/{SERVER}{path}"), &headers, body.to_string().as_bytes()).expect("no answer")
}

pub struct Here {
    pub standin: Standin,
    pub images: tempfile::TempDir,
}

pub fn start() -> Here {
    start_with(|_| {})
}

pub fn start_with(change: impl FnOnce(&mut StandinConfig)) -> Here {
    let images = tempfile::tempdir().unwrap();
    let mut config = StandinConfig::loopback(images.path()).unwrap();
    change(&mut config);
    Here { standin: Standin::start(config).unwrap(), images }
}

/// A sysinfo document with all that cn-agent.md 7.2 asks for.
pub fn sysinfo(port: u16) -> Value {
    json!({
        "Live Image": "20240103T120000Z", "System Type": "Linux", "Boot Time": 1_714_639_501, "Datacenter Name": "coal",
        "SDC Version": "7.0", "Manufacturer": "Dell Inc.", "Product": "PowerEdge", "Serial Number": "X", "UUID": SERVER,
        "Hostname": "cn1", "Setup": true, "VM Capable": false, "Bhyve Capable": false, "HVM API": false, "CPU Type": "AMD EPYC",
        "CPU Virtualization": "none", "CPU Physical Cores": 1, "CPU Total Cores": 2, "CPU Socket Count": 1, "CPU Core Count": 2,
        "CPU Count": 2, "CPU Online Count": 2, "MiB of Memory": 16384, "Zpool": "zones", "Zpool Encrypted": false, "Disks": {},
        "Boot Parameters": {"admin_ip": "127.0.0.1"}, "SDC Agents": [{"name": "cn-agent", "version": "2.15.0"}],
        "Network Interfaces": {"eth0": {"MAC Address": "90:e2:ba:ab:cd:ef", "ip4addr": "127.0.0.1", "Link Status": "up", "NIC Names": ["admin"]}},
        "Virtual Network Interfaces": {}, "Link Aggregations": {}, "Admin NIC Tag": "admin", "Admin IP": "127.0.0.1", "CN Agent Port": port,
    })
}

/// The status of cn-agent.md 5.2, as it stands there.
pub fn status() -> Value {
    json!({
        "vms": {VM: {"brand": "lx", "cpu_cap": 100, "last_modified": "2024-05-02T10:00:00.000Z", "max_physical_memory": 1024,
            "owner_uuid": OWNER, "quota": 25, "state": "running", "uuid": VM, "zone_state": "running"}},
        "zpoolStatus": {"zones": {"bytes_available": 412_316_860_416_u64, "bytes_used": 9_663_676_416_u64}},
        "meminfo": {"availrmem_bytes": 11_811_160_064_u64, "arcsize_bytes": 2_147_483_648_u64, "total_bytes": 17_179_869_184_u64},
        "diskinfo": {"kvm_zvol_used_bytes": 0, "kvm_zvol_volsize_bytes": 0, "kvm_quota_bytes": 0, "kvm_quota_used_bytes": 0,
            "zone_quota_bytes": 26_843_545_600_u64, "zone_quota_used_bytes": 734_003_200, "cores_quota_bytes": 0,
            "cores_quota_used_bytes": 0, "installed_images_used_bytes": 419_430_400, "pool_size_bytes": 421_980_536_832_u64,
            "pool_alloc_bytes": 9_663_676_416_u64, "system_used_bytes": 8_510_242_816_u64},
        "boot_time": "2024-05-02T08:45:01.000Z", "timestamp": "2024-05-02T10:31:07.420Z",
    })
}

pub fn register(standin: &Standin, port: u16) {
    let answer = report(standin, "/sysinfo", &json!({"sysinfo": sysinfo(port)}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(report(standin, "", &json!({"agents": [{"name": "cn-agent", "version": "2.15.0"}]})).status, 204);
    assert_eq!(report(standin, "/events/heartbeat", &json!({})).status, 204);
}

/// One request that the fake agent got: its head, in lower case, and its body.
#[derive(Clone, Debug)]
pub struct Got {
    pub head: String,
    pub body: Value,
}

/// A cn-agent that gives prepared answers: status and body, in order; 200 `{}` when there are no more.
pub struct FakeAgent {
    pub port: u16,
    pub got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
}

impl FakeAgent {
    pub fn start() -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(VecDeque::new())));
        let (keep, prepared) = (Arc::clone(&got), Arc::clone(&answers));
        // Ends with the test's process: it waits for connections and holds nothing else.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (keep, prepared) = (Arc::clone(&keep), Arc::clone(&prepared));
                std::thread::spawn(move || serve(stream.unwrap(), &keep, &prepared));
            }
        });
        Self { port, got, answers }
    }

    pub fn answer(&self, status: u16, body: &Value) {
        self.answers.lock().unwrap().push_back((status, body.to_string()));
    }

    pub fn answer_text(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back((status, body.to_owned()));
    }

    pub fn last(&self) -> Got {
        self.got.lock().unwrap().last().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, keep: &Mutex<Vec<Got>>, prepared: &Mutex<VecDeque<(u16, String)>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    let (head, body) = loop {
        let length = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..length]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            assert!(length > 0, "the request ended early");
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let wanted: usize = head.lines().find_map(|l| l.strip_prefix("content-length:")).map_or(0, |v| v.trim().parse().unwrap());
        if bytes.len() - end - 4 >= wanted {
            break (head, bytes[end + 4..].to_vec());
        }
    };
    keep.lock().unwrap().push(Got { head, body: serde_json::from_slice(&body).unwrap_or_default() });
    let (status, text) = prepared.lock().unwrap().pop_front().unwrap_or((200, "{}".to_owned()));
    let kind = if text.is_empty() { "" } else { "content-type: application/json\r\n" };
    let head = format!("HTTP/1.1 {status} X\r\n{kind}content-length: {}\r\nconnection: close\r\n\r\n", text.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}

/// Puts an image into the directory: a manifest of type `lxd` and a file of `size` bytes.
pub fn put_image(here: &Here, size: usize) -> Value {
    let manifest = json!({
        "v": 2, "uuid": IMAGE, "name": "mini", "version": "1.0", "type": "lxd", "os": "linux", "state": "active", "owner": OWNER,
        "published_at": "2024-05-02T10:00:00.000Z", "requirements": {"brand": "lx"},
        "files": [{"sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "size": size, "compression": "gzip"}],
    });
    std::fs::write(here.images.path().join(format!("{IMAGE}.imgmanifest")), manifest.to_string()).unwrap();
    let bytes: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    std::fs::write(here.images.path().join(format!("{IMAGE}.file")), bytes).unwrap();
    manifest
}
