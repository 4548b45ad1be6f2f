//! Installations by the program itself, and of the program: agent and twin are processes, and so is whoever is killed. Only the service
//! manager is a script, which starts and stops them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use headnode_standin::{Standin, StandinConfig};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{AgentImage, Reply, eventually, remove_control_groups, send};

/// What systemd does of it: one process for each unit, TERM to stop it, its end awaited.
const SYSTEMCTL: &str = r#"#!/bin/sh
PATH=/usr/bin:/bin
[ "$1" = --no-block ] && shift
case "$2" in triton-cn-agent-update.service) name=twin; words=--update-twin ;; triton-cn-agent.service) name=agent; words= ;; *) exit 5 ;; esac
file="$ROOT/var/$name.pid"
runs() { [ -s "$file" ] && pid=$(cat "$file") && [ -d "/proc/$pid" ] && ! grep -q ') Z ' "/proc/$pid/stat" 2>/dev/null; }
if runs; then kill -TERM "$pid"; while runs; do sleep 0.02; done; fi
rm -f "$file"
unset GENERATION TRITON_STEP_TRACE TRITON_STEP_KILL
if [ "$1" = restart ]; then
    [ -e "$ROOT/var/$name.env" ] && . "$ROOT/var/$name.env"
    setsid "$PROGRAM" --root "$ROOT" --admin-ip "$ADDRESS" $words </dev/null >>"$ROOT/var/$name.log" 2>&1 &
    echo $! >"$file"
fi
"#;

/// A node: directory, headnode, agent.
struct Node {
    root: tempfile::TempDir,
    address: std::net::Ipv4Addr,
    images: PathBuf,
    _headnode: Standin,
}

impl Node {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let images = root.path().join("headnode-images");
        let headnode = Standin::start(StandinConfig::loopback(&images).unwrap()).unwrap();
        // Of its own: the ports are fixed.
        let [.., a, b, c] = *uuid::Uuid::new_v4().as_bytes();
        let address = std::net::Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
        let config = json!({"cnapi": {"url": headnode.cnapi_url()}, "agent_answer_timeout": 3});
        std::fs::write(at("opt/smartdc/agents/etc/cn-agent.config.json"), config.to_string()).unwrap();
        let imgapi = headnode.imgapi_url().trim_start_matches("http://");
        std::fs::write(at("usr/triton/config/node.config"), format!("imgapi_domain='{imgapi}'\n")).unwrap();
        std::fs::create_dir_all(at("var/tmp/x").parent().unwrap()).unwrap();
        let script = SYSTEMCTL.replace(
            "PATH=/usr/bin:/bin\n",
            &format!("PATH=/usr/bin:/bin\nROOT={}\nPROGRAM={}\nADDRESS={address}\n", root.path().display(), env!("CARGO_BIN_EXE_cn-agent")),
        );
        let systemctl = at("usr/bin/systemctl");
        std::fs::write(&systemctl, script).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let node = Self { root, address, images, _headnode: headnode };
        node.restart(&[]).await;
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn agent(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), 5309)
    }

    /// (Re)starts the agent as an operator or a boot does, and waits until it takes tasks.
    async fn restart(&self, environment: &[(&str, &str)]) {
        self.set_environment("agent", environment);
        let systemctl = self.at("usr/bin/systemctl");
        let restarted = tokio::task::spawn_blocking(move || {
            std::process::Command::new(systemctl).args(["restart", "triton-cn-agent.service"]).env_clear().status().unwrap()
        });
        assert!(restarted.await.unwrap().success());
        self.open().await;
    }

    fn set_environment(&self, name: &str, environment: &[(&str, &str)]) {
        let text: String = environment.iter().map(|(key, value)| format!("export {key}='{value}'\n")).collect();
        std::fs::write(self.at(&format!("var/{name}.env")), text).unwrap();
    }

    async fn open(&self) {
        for _ in 0..3000 {
            if tokio::net::TcpStream::connect(self.agent()).await.is_ok()
                && self.task("nop", json!({})).await.is_some_and(|reply| reply.status == 200)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the agent never took tasks: {}", self.log("agent"));
    }

    /// Sends a task; `None` if the agent died of it.
    async fn task(&self, task: &str, params: Value) -> Option<Reply> {
        let (address, body) = (self.agent(), json!({"task": task, "params": params}).to_string());
        tokio::spawn(async move { send(address, "POST /tasks", &[("Content-Type", "application/json")], &body).await }).await.ok()
    }

    async fn install(&self, image: &AgentImage) -> Option<Reply> {
        self.task("agent_install", json!({"image_uuid": image.publish(&self.images)})).await
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(&format!("var/{name}.log"))).unwrap_or_default()
    }

    /// The pid of a service that runs.
    fn pid(&self, name: &str) -> Option<i32> {
        let pid = std::fs::read_to_string(self.at(&format!("var/{name}.pid"))).ok()?.trim().parse().ok()?;
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")).then_some(pid)
    }

    /// Which version of the program is the agent: the word that its image put into its environment.
    fn generation(&self) -> Option<String> {
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid("agent")?)).ok()?;
        let text = String::from_utf8(environment).ok()?;
        text.split('\0').find_map(|line| line.strip_prefix("GENERATION=").map(str::to_owned))
    }

    /// Names below a directory of the agents'.
    fn names(&self, directory: &str) -> BTreeSet<String> {
        let path = self.at("opt/smartdc/agents").join(directory);
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// Nothing half done is left.
    fn assert_tidy(&self, agents: &[&str], context: &str) {
        let expected: BTreeSet<String> = agents.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(self.names("lib/node_modules"), expected, "{context}");
        assert_eq!(self.names("bin"), expected, "{context}");
        let hidden: Vec<String> = self.names("").into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(hidden.is_empty(), "{context}: {hidden:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("twin: {}\nagent: {}", self.log("twin"), self.log("agent"));
        }
        for name in ["twin", "agent", "twin", "agent"] {
            if let Some(pid) = self.pid(name) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        remove_control_groups(self.root.path());
    }
}

/// A cn-agent that is the real one, told apart by a word in its environment.
fn generation(word: &str) -> AgentImage {
    let program = format!("#!/bin/sh\nGENERATION={word} exec {} \"$@\"\n", env!("CARGO_BIN_EXE_cn-agent"));
    AgentImage::with_program("cn-agent", &format!("{word}.0.0"), &[], &program)
}

#[tokio::test]
async fn the_agent_updates_itself_through_its_twin_and_a_version_that_does_not_serve_is_replaced_by_the_one_before() {
    let node = Node::start().await;
    let first = node.pid("agent").unwrap();
    let image = generation("2");
    assert_eq!(node.install(&image).await.unwrap().seen(), (200, "{}"), "{}", node.log("twin"));
    eventually("the new version", || node.generation().filter(|word| word == "2")).await;
    eventually("the end of the twin", || node.pid("twin").is_none().then_some(())).await;
    assert_ne!(node.pid("agent"), Some(first));
    node.open().await;
    node.assert_tidy(&["cn-agent"], "after the update");
    let second = node.pid("agent").unwrap();

    // It says its version, so it is installed and answered for; then it does not serve.
    let program = "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nexit 1\n";
    let broken = AgentImage::with_program("cn-agent", "3.0.0", &[], program);
    assert_eq!(node.install(&broken).await.unwrap().seen(), (200, "{}"));
    eventually("the version before", || node.generation().filter(|word| word == "2" && node.pid("agent") != Some(second))).await;
    eventually("the end of the twin", || node.pid("twin").is_none().then_some(())).await;
    assert!(node.log("twin").contains("the one before it is put back"), "{}", node.log("twin"));
    node.open().await;
    node.assert_tidy(&["cn-agent"], "after the roll-back");
    let text = std::fs::read_to_string(node.at("opt/smartdc/agents/lib/node_modules/cn-agent/image_uuid")).unwrap();
    assert_eq!(text, image.uuid.to_string());
}

fn steps_of(trace: &Path) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let text = std::fs::read_to_string(trace).unwrap();
    text.lines().filter(|line| line.starts_with("agents.") && seen.insert((*line).to_owned())).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_twin_that_is_killed_at_any_step_leaves_a_whole_agent_that_starts() {
    let node = Node::start().await;
    let trace = node.at("var/steps");
    assert_eq!(node.install(&generation("1")).await.unwrap().seen(), (200, "{}"));
    eventually("the first version", || node.generation().filter(|_| node.pid("twin").is_none())).await;
    node.open().await;
    node.set_environment("twin", &[("TRITON_STEP_TRACE", trace.to_str().unwrap())]);
    assert_eq!(node.install(&generation("2")).await.unwrap().seen(), (200, "{}"));
    eventually("the second version", || node.generation().filter(|word| word == "2" && node.pid("twin").is_none())).await;
    node.open().await;
    let steps = steps_of(&trace);
    assert!(steps.len() >= 8 && steps.iter().any(|step| step == "agents.kept"), "{steps:?}");
    let mut now = 2;
    for step in steps {
        node.set_environment("twin", &[("TRITON_STEP_KILL", &step)]);
        let next = generation(&(now + 1).to_string());
        let reply = node.install(&next).await.unwrap();
        eventually("the end of the twin", || node.pid("twin").is_none().then_some(())).await;
        assert!([200, 500].contains(&reply.status), "{step}: {reply:?}");
        node.restart(&[]).await;
        let word = node.generation();
        let committed = step == "agents.discarded" || step == "agents.kept";
        now += u32::from(committed);
        assert_eq!(word, Some(now.to_string()), "{step}: {}", node.log("agent"));
        node.assert_tidy(&["cn-agent"], &step);
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_step_of_an_installation_or_removal_leaves_one_package_or_none() {
    let node = Node::start().await;
    let trace = node.at("var/steps");
    let traced = [("TRITON_STEP_TRACE", trace.to_str().unwrap())];
    let uninstall = json!({"agents": ["vm-agent"]});
    let note = node.at("var/said");
    let says = format!("echo $npm_package_version >>{}", note.display());
    let image = |version: &str| AgentImage::new("vm-agent", version, &[("postinstall", says.as_str()), ("preuninstall", "true")]);
    node.restart(&traced).await;
    for action in ["fresh", "replace", "remove"] {
        let _ = std::fs::remove_file(&trace);
        let run = async |node: &Node| match action {
            "remove" => node.task("agents_uninstall", uninstall.clone()).await,
            _ => node.install(&image("2.0.0")).await,
        };
        let prepare = async |node: &Node| {
            match action {
                "fresh" => node.task("agents_uninstall", uninstall.clone()).await,
                _ => node.install(&image("1.0.0")).await,
            };
        };
        node.restart(&[]).await;
        prepare(&node).await;
        node.restart(&traced).await;
        assert_eq!(run(&node).await.unwrap().seen(), (200, "{}"), "{action}");
        let steps = steps_of(&trace);
        assert!(steps.len() >= 2, "{action}: {steps:?}");
        for step in steps {
            let context = format!("{action} {step}");
            node.restart(&[]).await;
            prepare(&node).await;
            node.restart(&[("TRITON_STEP_KILL", &step)]).await;
            assert!(run(&node).await.is_none(), "{context}: it answered");
            eventually("the end of the agent", || node.pid("agent").is_none().then_some(())).await;
            let _ = std::fs::remove_file(&note);
            node.restart(&[]).await;
            let there = node.at("opt/smartdc/agents/bin/vm-agent").exists();
            let committed = step == "agents.discarded" || step == "agents.kept" || step == "agents.removed";
            match action {
                "fresh" => assert_eq!(there, committed, "{context}"),
                // Its scripts have run, its files are whole, and the next request removes it.
                "remove" if !committed => {
                    assert!(node.at("opt/smartdc/agents/lib/node_modules/vm-agent/package.json").exists(), "{context}");
                }
                "remove" => assert!(!there, "{context}"),
                _ => {
                    let output = std::process::Command::new(node.at("opt/smartdc/agents/bin/vm-agent")).output().unwrap();
                    let version = if committed { "2.0.0\n" } else { "1.0.0\n" };
                    assert_eq!(String::from_utf8(output.stdout).unwrap(), version, "{context}");
                    let begun = !["agents.unpacked", "agents.begun"].contains(&step.as_str());
                    if !committed && begun {
                        eventually("the postinstall of the one that is back", || {
                            std::fs::read_to_string(&note).ok().filter(|said| !said.is_empty())
                        })
                        .await;
                    }
                }
            }
            if action != "remove" {
                node.assert_tidy(if there { &["vm-agent"] } else { &[] }, &context);
            }
        }
    }
}
