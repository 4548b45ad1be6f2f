//! Section 3.11, and the half of case 18 that is about agents: installation from an image server, removal, the twin.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use cn_agent::{
    packages::Packages,
    tasks::{AgentHost, Patience, Pending, Services},
};
use headnode_standin::{Standin, StandinConfig};
use serde_json::json;

use crate::support::{AgentImage, Bed, Builder, Reply, eventually};

/// Services that only write down what they are asked.
#[derive(Default)]
struct Asked(Mutex<Vec<&'static str>>);

impl Asked {
    fn ask(&self, what: &'static str) -> Pending<'_> {
        self.0.lock().unwrap().push(what);
        Box::pin(async { Ok(()) })
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl Services for Asked {
    fn start_twin(&self) -> Pending<'_> {
        self.ask("start twin")
    }
    fn stop_twin(&self) -> Pending<'_> {
        self.ask("stop twin")
    }
    fn restart_agent(&self) -> Pending<'_> {
        self.ask("restart agent")
    }
}

/// An agent, an image server, and services that do nothing.
struct World {
    bed: Bed,
    images: PathBuf,
    asked: Arc<Asked>,
    _headnode: Standin,
}

impl World {
    async fn start(twin: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("headnode-images");
        let headnode = Standin::start(StandinConfig::loopback(&images).unwrap()).unwrap();
        let (imgapi, asked) = (headnode.imgapi_url().parse().unwrap(), Arc::new(Asked::default()));
        let services = asked.clone();
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let patience =
            Patience { fetch: Duration::from_millis(10), answer: Duration::from_millis(300), after_reply: Duration::from_millis(10) };
        let builder = Builder {
            root: Some(root),
            model: Box::new(move |model| {
                let packages = Packages::new(&model.layout);
                model.agents =
                    Some(AgentHost { packages, imgapi: Ok(imgapi), services, agent: nowhere, twin: nowhere, is_twin: twin, patience });
            }),
            ..Builder::default()
        };
        Self { bed: builder.start().await, images, asked, _headnode: headnode }
    }

    async fn install(&self, image: &AgentImage) -> Reply {
        self.bed.task("agent_install", json!({"image_uuid": image.publish(&self.images), "server_uuid": self.bed.server})).await
    }

    /// Installs it, and gives the error's text.
    async fn refused(&self, image: &AgentImage) -> String {
        let reply = self.install(image).await;
        assert_eq!(reply.status, 500, "{reply:?}");
        let text = reply.json()["error"].as_str().unwrap().to_owned();
        text.strip_prefix("AgentInstall error: ").unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    fn agents(&self) -> PathBuf {
        self.bed.layout.at("/opt/smartdc/agents")
    }

    /// All files below the agents' directory, and what is left in `/var/tmp`.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for directory in [self.agents().join("lib/node_modules"), self.agents().join("bin"), self.bed.layout.at("/var/tmp")] {
            names
                .extend(std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name().into_string().unwrap()));
        }
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    fn says(&self, program: &str) -> String {
        let output = std::process::Command::new(self.agents().join("bin").join(program)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Number of agents lists that CNAPI was sent.
    fn posts(&self) -> usize {
        self.bed.cnapi.all().iter().filter(|seen| seen.body.get("agents").is_some()).count()
    }
}

#[tokio::test]
async fn an_agent_is_installed_from_its_image_replaced_and_removed_and_cnapi_is_told() {
    let world = World::start(false).await;
    let mut told = world.posts();
    for version in ["1.0.0", "1.1.0"] {
        let reply = world.install(&AgentImage::new("vm-agent", version, &[("postinstall", "test -n \"$npm_config_prefix\"")])).await;
        assert_eq!(reply.seen(), (200, "{}"));
        assert_eq!((world.says("vm-agent").as_str(), world.names()), (version, vec!["vm-agent".to_owned(); 2]));
        told = eventually("the agents list", || Some(world.posts()).filter(|now| *now > told)).await;
    }
    assert_eq!(world.bed.task("agents_uninstall", json!({"agents": ["vm-agent", "not-there"]})).await.seen(), (200, "{}"));
    assert!(world.names().is_empty(), "{:?}", world.names());
    eventually("the agents list", || (world.posts() > told).then_some(())).await;
    assert_eq!(world.asked.all(), [""; 0], "no service is touched for another agent");
}

#[tokio::test]
async fn an_image_that_is_not_what_its_manifest_says_changes_nothing() {
    let world = World::start(false).await;
    let good = AgentImage::new("vm-agent", "1.0.0", &[]);
    assert_eq!(world.install(&good).await.seen(), (200, "{}"));
    let before = world.names();
    let fresh = || AgentImage::new("vm-agent", "2.0.0", &[]);
    let mut cases: Vec<(AgentImage, String)> = Vec::new();
    let mut image = fresh();
    let size = image.file.len();
    image.file.truncate(size - 7);
    cases.push((image, format!("Unexpected file size ({size} vs {})", size - 7)));
    let mut image = fresh();
    image.manifest["files"][0]["size"] = 10.into();
    cases.push((image, "Unexpected file size (10 vs ".to_owned()));
    let mut image = fresh();
    image.file[size / 2] ^= 1;
    cases.push((image, "Unexpected file sha1 (".to_owned()));
    for (file, text) in [
        (b"PK\x03\x04 a zip file".to_vec(), "neither gzip nor bzip2"),
        (b"\x1f\x8b\x08\x00 no gzip at all".to_vec(), "cannot be unpacked"),
        (b"BZh9 no bzip2 at all".to_vec(), "cannot be unpacked"),
        (Vec::new(), "neither gzip nor bzip2"),
    ] {
        cases.push((AgentImage::of("vm-agent", uuid::Uuid::new_v4(), file), text.to_owned()));
    }
    let mut image = fresh();
    image.manifest["name"] = "amon-agent".into();
    cases.push((image, "it has no directory amon-agent".to_owned()));
    for name in ["../vm-agent", "", ".."] {
        let mut image = fresh();
        image.manifest["name"] = name.into();
        cases.push((image, if name.is_empty() { "has no name" } else { "this is no name of an agent" }.to_owned()));
    }
    let mut image = fresh();
    image.manifest["files"] = json!([]);
    cases.push((image, "gives no size".to_owned()));
    let mut image = fresh();
    image.manifest["files"][0]["size"] = (1_u64 << 40).into();
    cases.push((image, "no agent is larger".to_owned()));
    for (image, text) in cases {
        let error = world.refused(&image).await;
        assert!(error.contains(&text), "{text}: {error}");
        assert_eq!((world.says("vm-agent").as_str(), world.names()), ("1.0.0", before.clone()), "{text}");
    }
    let reply = world.bed.task("agent_install", json!({"image_uuid": uuid::Uuid::new_v4()})).await;
    assert!(reply.json()["error"].as_str().unwrap().contains("was not found"), "{reply:?}");
    for params in [json!({}), json!({"image_uuid": "no uuid"}), json!({"image_uuid": 5})] {
        let reply = world.bed.task("agent_install", params).await;
        assert!(reply.json()["error"].as_str().unwrap().starts_with("AgentInstall error: "), "{reply:?}");
    }
}

#[tokio::test]
async fn scripts_that_fail_bring_the_agent_before_back() {
    let world = World::start(false).await;
    assert_eq!(world.install(&AgentImage::new("vm-agent", "1.0.0", &[("preuninstall", "exit 9")])).await.seen(), (200, "{}"));
    for (step, text, told) in [
        ("preinstall", "echo no disk >&2; exit 4", "preinstall returned 4: no disk"),
        ("postinstall", "echo half done; exit 1", "postinstall returned 1"),
        ("postinstall", "kill -TERM $$", "postinstall was killed by signal 15"),
    ] {
        let error = world.refused(&AgentImage::new("vm-agent", "2.0.0", &[(step, text)])).await;
        assert!(error.starts_with(told), "{error}");
        assert_eq!((world.says("vm-agent").as_str(), world.names()), ("1.0.0", vec!["vm-agent".to_owned(); 2]));
    }
    // What fails in the scripts of one that goes stops nothing.
    assert_eq!(world.bed.task("agents_uninstall", json!({"agents": ["vm-agent"]})).await.seen(), (200, "{}"));
    assert!(world.names().is_empty());
}

#[tokio::test]
async fn removals_that_cannot_be_are_all_told_and_the_others_are_done() {
    let world = World::start(false).await;
    assert_eq!(world.install(&AgentImage::new("vm-agent", "1.0.0", &[])).await.seen(), (200, "{}"));
    let told = world.posts();
    let reply = world.bed.task("agents_uninstall", json!({"agents": ["../etc", "vm-agent", ".."]})).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("AgentsUninstallTask error: ../etc: ") && error.contains("; ..: "), "{error}");
    assert!(world.names().is_empty());
    eventually("the agents list, although a removal failed", || (world.posts() > told).then_some(())).await;
    for params in [json!({}), json!({"agents": "vm-agent"}), json!({"agents": [5]})] {
        let reply = world.bed.task("agents_uninstall", params).await;
        let error = "{\"error\":\"Child task process agents_uninstall did not terminate cleanly. (1)\"}";
        assert_eq!(reply.seen(), (500, error));
    }
}

/// cn-agent case 18, the half about agents
#[tokio::test]
async fn two_installations_run_one_after_the_other() {
    let world = World::start(false).await;
    let marks = world.bed.layout.at("/marks");
    std::fs::create_dir_all(&marks).unwrap();
    let script = format!("cd {0}; mkdir busy || exit 7; read line <gate; rmdir busy", marks.display());
    nix::unistd::mkfifo(&marks.join("gate"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let images = ["vm-agent", "amon-agent"].map(|name| AgentImage::new(name, "1.0.0", &[("postinstall", &script)]));
    let running = images.each_ref().map(|image| world.bed.later("agent_install", json!({"image_uuid": image.publish(&world.images)})));
    for _ in &images {
        eventually("one that runs", || marks.join("busy").exists().then_some(())).await;
        let gate = marks.join("gate");
        tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n").unwrap()).await.unwrap();
        eventually("its end", || (!marks.join("busy").exists()).then_some(())).await;
    }
    for reply in running {
        assert_eq!(reply.await.unwrap().seen(), (200, "{}"));
    }
}

#[tokio::test]
async fn refreshing_posts_the_agents_list_again() {
    let world = World::start(false).await;
    let told = world.posts();
    assert_eq!(world.bed.task("refresh_agents", json!({})).await.seen(), (200, "{}"));
    eventually("the agents list", || (world.posts() > told).then_some(())).await;
}

#[tokio::test]
async fn this_agent_never_replaces_itself_and_a_twin_that_does_not_answer_is_stopped() {
    let world = World::start(false).await;
    let error = world.refused(&AgentImage::new("cn-agent", "3.0.0", &[])).await;
    assert!(error.contains("the service that updates cn-agent: nothing answers at 127.0.0.1:1"), "{error}");
    assert_eq!(world.asked.all(), ["start twin", "stop twin"]);
    assert!(world.names().is_empty(), "the downloaded file is gone: {:?}", world.names());
    assert_eq!(world.bed.task("shutdown_cn_agent_update", json!({})).await.seen(), (200, "{}"));
    assert_eq!(world.asked.all().len(), 3);
}

#[tokio::test]
async fn the_twin_refuses_a_cn_agent_that_does_not_run_here_and_takes_only_files_from_where_the_agent_puts_them() {
    let world = World::start(true).await;
    let image = AgentImage::with_program("cn-agent", "3.0.0", &[], "\x7fELF of another machine");
    let error = world.refused(&image).await;
    assert!(error.contains("cn-agent 3.0.0 does not run on this machine"), "{error}");
    assert!(world.names().is_empty(), "{:?}", world.names());
    let image = AgentImage::with_program("cn-agent", "3.0.0", &[], "#!/bin/sh\nexit 3\n");
    assert!(world.refused(&image).await.contains("does not run on this machine"));
    // A file from elsewhere is not taken: the image is fetched instead.
    let elsewhere = world.bed.layout.at("/tmp/evil.tar.gz");
    std::fs::write(&elsewhere, b"evil").unwrap();
    let params = json!({"image_uuid": uuid::Uuid::new_v4(), "package_name": "vm-agent", "package_file": elsewhere});
    let reply = world.bed.task("agent_install", params).await;
    assert!(reply.json()["error"].as_str().unwrap().contains("was not found"), "{reply:?}");
    assert!(elsewhere.exists());
    assert_eq!(world.asked.all(), [""; 0]);
}
