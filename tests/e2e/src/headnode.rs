//! The stand-in headnode as a process, and plain HTTP to talk to it and to agents.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use triton_link::NetNs;

use crate::{
    Node,
    busybox::{IMAGE_UUID, image_files},
    command::program,
    until,
};

/// A reply.
#[derive(Debug)]
pub struct HttpReply {
    /// Status code.
    pub status: u16,
    /// The whole head.
    pub head: String,
    /// Body as text.
    pub body: String,
}

impl HttpReply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {} {}", self.status, self.body))
    }
}

/// One HTTP/1.1 request from inside the node's network namespace. Blocks; agents answer tasks when they end.
///
/// # Panics
/// When there is no answer.
#[track_caller]
pub fn http(node: &Node, address: &str, method: &str, path: &str, body: Option<&Value>) -> HttpReply {
    let namespace = NetNs::open(&node.layout().namespaces().join("net")).expect("the node's namespace");
    let text = body.map(ToString::to_string).unwrap_or_default();
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{text}", text.len());
    let reply = namespace
        .run(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(120)))?;
            stream.write_all(request.as_bytes())?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply)?;
            std::io::Result::Ok(reply)
        })
        .expect("the namespace can be entered")
        .unwrap_or_else(|e| panic!("{method} {address}{path}: {e}"));
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    HttpReply { status, head: head.to_owned(), body: body.to_owned() }
}

/// The stand-in headnode and cn-agent, both inside the node's namespace, where `127.0.0.1` is the admin network.
#[derive(Debug)]
pub struct Headnode<'a> {
    node: &'a Node,
    headnode: Child,
    agent: Option<Child>,
}

impl<'a> Headnode<'a> {
    /// CNAPI's address.
    pub const CNAPI: &'static str = "127.0.0.1:8080";
    /// IMGAPI's address.
    pub const IMGAPI: &'static str = "127.0.0.1:8081";
    /// VMAPI's address.
    pub const VMAPI: &'static str = "127.0.0.1:8082";
    /// The control service's address.
    pub const CONTROL: &'static str = "127.0.0.1:8083";
    /// NAPI's address.
    pub const NAPI: &'static str = "127.0.0.1:8084";
    /// cn-agent's address.
    pub const AGENT: &'static str = "127.0.0.1:5309";

    /// Starts the stand-in with the test image, points the node at it and starts cn-agent; waits until CNAPI says `running`.
    ///
    /// # Panics
    /// When the node does not register.
    pub fn start(node: &'a Node) -> Self {
        let images = node.layout().at("/var/tmp/images");
        fs::create_dir_all(&images).expect("disk");
        let (manifest, file) = image_files();
        fs::write(images.join(format!("{IMAGE_UUID}.imgmanifest")), manifest.to_string()).expect("disk");
        fs::write(images.join(format!("{IMAGE_UUID}.file")), file).expect("disk");
        let etc = node.layout().at("/opt/smartdc/agents/etc");
        fs::create_dir_all(&etc).expect("disk");
        let config = json!({"cnapi": {"url": format!("http://{}", Self::CNAPI)}, "no_rabbit": true});
        fs::write(etc.join("cn-agent.config.json"), config.to_string()).expect("disk");
        let setup = json!({"complete": true});
        fs::write(node.layout().config().join("triton-setup-state.json"), setup.to_string()).expect("disk");
        node.run("imgadm", &["sources", "-f", "-a", &format!("http://{}", Self::IMGAPI)]).ok();
        let log = fs::File::create(node.layout().at("/var/log/headnode.log")).expect("disk");
        let mut command = Command::new("systemd-run");
        // A real one is another machine: this one must not wait for the node's processors.
        command.args(["--scope", "--quiet", "--collect", "--slice=-.slice", "--property=CPUWeight=10000", "--", "nsenter"]);
        let mut command = if node.is_machine() { command } else { Command::new("nsenter") };
        let headnode = command
            .arg(format!("--net={}", node.layout().namespaces().join("net").display()))
            .arg(program("headnode"))
            .args(["--cnapi", Self::CNAPI, "--imgapi", Self::IMGAPI, "--vmapi", Self::VMAPI, "--control", Self::CONTROL, "--images"])
            .arg(&images)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the stand-in can be run");
        let mut this = Self { node, headnode, agent: None };
        this.start_agent(&[]);
        this.await_running();
        this
    }

    /// Starts cn-agent, with further environment.
    pub fn start_agent(&mut self, environment: &[(&str, &str)]) {
        let environment: Vec<_> = [("ADMIN_IP", "127.0.0.1")].into_iter().chain(environment.iter().copied()).collect();
        self.agent = Some(self.node.spawn("cn-agent", &[], &environment));
    }

    /// Kills cn-agent with SIGKILL and collects it.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// The pid of cn-agent.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    /// True if cn-agent has ended by itself.
    pub fn agent_ended(&mut self) -> bool {
        self.agent.as_mut().is_none_or(|agent| matches!(agent.try_wait(), Ok(Some(_))))
    }

    /// The node's uuid.
    ///
    /// # Panics
    /// When sysinfo does not work.
    pub fn server(&self) -> String {
        let sysinfo = self.node.run_with("sysinfo", &[], "", &[("ADMIN_IP", "127.0.0.1")]).ok().json();
        sysinfo["UUID"].as_str().expect("sysinfo has a UUID").to_owned()
    }

    /// Waits until CNAPI shows the node as running and cn-agent takes tasks.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_running(&self) {
        let server = self.server();
        until("the node is registered and running", || {
            reachable(self.node, Self::CNAPI) && {
                // A heartbeat makes it `running`, only the first status makes it a place for instances.
                let record = http(self.node, Self::CNAPI, "GET", &format!("/servers/{server}"), None).body;
                record.contains("\"running\"") && record.contains("\"memory_available_bytes\"")
            }
        });
        until("cn-agent takes tasks", || reachable(self.node, Self::AGENT) && self.task("nop", &json!({})).status == 200);
    }

    /// One task, sent to cn-agent as CNAPI does.
    pub fn task(&self, task: &str, params: &Value) -> HttpReply {
        http(self.node, Self::AGENT, "POST", "/tasks", Some(&json!({"task": task, "params": params})))
    }
}

/// True if something listens at `address` inside the node's namespace.
fn reachable(node: &Node, address: &str) -> bool {
    let namespace = NetNs::open(&node.layout().namespaces().join("net")).expect("the node's namespace");
    namespace.run(|| TcpStream::connect(address).is_ok()).unwrap_or(false)
}

impl Drop for Headnode<'_> {
    fn drop(&mut self) {
        self.kill_agent();
        let _ = self.headnode.kill();
        let _ = self.headnode.wait();
    }
}
