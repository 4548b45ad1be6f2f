use std::collections::BTreeMap;

use super::*;

const IMAGE: &str = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10";

struct Bed {
    root: tempfile::TempDir,
    packages: Packages,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let packages = Packages::new(&Layout::new(root.path()));
        fs::create_dir_all(packages.scratch()).unwrap();
        Self { packages, root }
    }

    /// An archive of the agent `name` with these files besides `image_uuid` and `package.json`.
    fn archive(&self, name: &str, version: &str, scripts: &[(&str, &str)]) -> PathBuf {
        let steps: BTreeMap<&str, String> = scripts.iter().map(|(step, _)| (*step, format!("./npm/{step}.sh"))).collect();
        let json = serde_json::json!({"name": name, "version": version, "bin": {"tool": "./bin/tool"}, "scripts": steps});
        let mut files = vec![
            (format!("{name}/image_uuid"), IMAGE.to_owned()),
            (format!("{name}/package.json"), json.to_string()),
            (format!("{name}/bin/tool"), format!("#!/bin/sh\necho {version}\n")),
        ];
        files.extend(scripts.iter().map(|(step, text)| (format!("{name}/npm/{step}.sh"), format!("#!/bin/sh\n{text}\n"))));
        self.tar(&files)
    }

    fn tar(&self, files: &[(String, String)]) -> PathBuf {
        let path = self.packages.scratch().join(format!("{:x}.tar.gz", rand::random::<u64>()));
        let gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            // By hand: the builder refuses names that lead out.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    async fn install(&self, archive: &Path, name: &str) -> Result<Installed, String> {
        let never = CancellationToken::new();
        self.packages.install(archive, name, IMAGE, &never).await.map_err(|error| triton_agent::chain(&error).to_string())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join("opt/smartdc/agents").join(path)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.root.path().join("said")).unwrap_or_default()
    }

    /// A script that notes who it is and where.
    fn note(&self, word: &str) -> String {
        let said = self.root.path().join("said");
        format!("echo {word} $npm_package_version $(/usr/bin/basename $(pwd)) >> {}; test -d $npm_config_etc", said.display())
    }

    fn tool(&self) -> String {
        let output = std::process::Command::new(self.at("bin/tool")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Names of what is installed, or aside.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at("lib/node_modules"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_package_is_installed_replaced_and_removed_with_its_scripts_and_links() {
    let bed = Bed::new();
    let all = ["preinstall", "postinstall", "preuninstall", "postuninstall"];
    let scripts: Vec<(&str, String)> = all.iter().map(|step| (*step, bed.note(step))).collect();
    let scripts: Vec<(&str, &str)> = scripts.iter().map(|(step, text)| (*step, text.as_str())).collect();
    for version in ["1.0.0", "2.0.0"] {
        let archive = bed.archive("vm-agent", version, &scripts);
        let installed = bed.install(&archive, "vm-agent").await.unwrap();
        assert_eq!(installed.version, version);
        bed.packages.keep(&installed).await;
        assert_eq!((bed.tool(), bed.names()), (version.to_owned(), vec!["vm-agent".to_owned()]));
    }
    let expected = "preinstall 1.0.0 vm-agent\npostinstall 1.0.0 vm-agent\npreuninstall 1.0.0 vm-agent\npostuninstall 1.0.0 vm-agent\n\
                    preinstall 2.0.0 vm-agent\npostinstall 2.0.0 vm-agent\n";
    assert_eq!(bed.said(), expected);
    fs::write(bed.at("etc/vm-agent"), "kept").unwrap();
    let never = CancellationToken::new();
    for _ in 0..2 {
        bed.packages.uninstall("vm-agent", &never).await.unwrap();
    }
    assert!(bed.names().is_empty() && !bed.at("bin/tool").is_symlink() && bed.at("etc/vm-agent").exists());
    assert!(bed.said().ends_with("preuninstall 2.0.0 vm-agent\npostuninstall 2.0.0 vm-agent\n"));
    assert!(fs::read_dir(bed.at("")).unwrap().flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
}

#[tokio::test]
async fn an_installation_that_fails_leaves_what_was_there_before() {
    let bed = Bed::new();
    for (step, fails) in [("preinstall", "echo no such luck >&2; exit 3"), ("postinstall", "kill -KILL $$")] {
        // Where nothing was, nothing is left.
        let error = bed.install(&bed.archive("amon-agent", "2.0.0", &[(step, fails)]), "amon-agent").await.unwrap_err();
        assert!(error.starts_with(step), "{error}");
        assert!(bed.names().is_empty() && !bed.at("bin/tool").is_symlink());
        let good = bed.install(&bed.archive("amon-agent", "1.0.0", &[]), "amon-agent").await.unwrap();
        bed.packages.keep(&good).await;
        let error = bed.install(&bed.archive("amon-agent", "2.0.0", &[(step, fails)]), "amon-agent").await.unwrap_err();
        assert!(error.contains("returned 3: no such luck") || error.contains("killed by signal 9"), "{error}");
        assert_eq!((bed.tool().as_str(), bed.names()), ("1.0.0", vec!["amon-agent".to_owned()]));
        bed.packages.uninstall("amon-agent", &CancellationToken::new()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_agent_or_leads_out_of_its_package_is_refused_before_anything_is_changed() {
    let bed = Bed::new();
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let json = |more: &str| format!(r#"{{"name":"x","version":"1"{more}}}"#);
    let uuid = file("x/image_uuid", IMAGE);
    for (files, word) in [
        (vec![file("x/package.json", &json(""))], "image_uuid"),
        (vec![uuid.clone()], "no package.json"),
        (vec![uuid.clone(), file("x/package.json", "{")], "package.json"),
        (vec![uuid.clone(), file("x/package.json", r#"{"name":"../x","version":"1"}"#)], "name of an agent"),
        (vec![uuid.clone(), file("x/package.json", r#"{"name":"y","version":"1"}"#)], "\"y\""),
        (vec![uuid.clone(), file("x/package.json", &json(r#","bin":{"sh":"/bin/sh"}"#))], "leads out"),
        (vec![uuid.clone(), file("x/package.json", &json(r#","bin":{"../../sh":"a"}"#))], "leads out"),
        (vec![uuid.clone(), file("x/package.json", &json(r#","scripts":{"postinstall":"../../evil"}"#))], "leads out"),
        (vec![uuid.clone(), file("x/package.json", &json("")), file("../../../../tmp/out-of-it", "")], "leads out"),
    ] {
        let error = bed.install(&bed.tar(&files), "x").await.unwrap_err();
        assert!(error.contains(word), "{word}: {error}");
        assert!(bed.names().is_empty(), "{word}");
    }
    let damaged = bed.packages.scratch().join("damaged");
    fs::write(&damaged, b"\x1f\x8bnothing").unwrap();
    assert!(bed.install(&damaged, "x").await.unwrap_err().contains("cannot be unpacked"));
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "x.updating-to.y"] {
        assert!(bed.packages.uninstall(name, &CancellationToken::new()).await.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn an_installation_that_was_killed_is_undone_at_the_next_start() {
    let bed = Bed::new();
    for agent in ["vm-agent", "cn-agent"] {
        let good = bed.install(&bed.archive(agent, "1.0.0", &[]), agent).await.unwrap();
        bed.packages.keep(&good).await;
    }
    // Killed while it was aside, then when the new one was in place and not yet done.
    for killed_later in [false, true] {
        for agent in ["vm-agent", "cn-agent"] {
            fs::rename(bed.at("lib/node_modules").join(agent), bed.packages.aside(agent, IMAGE)).unwrap();
        }
        if killed_later {
            fs::create_dir_all(bed.at("lib/node_modules/vm-agent/half")).unwrap();
        }
        fs::create_dir_all(bed.at(".installing-abc/vm-agent")).unwrap();
        let mut recovered = bed.packages.recover("cn-agent");
        recovered.sort();
        assert_eq!(recovered, ["cn-agent", "vm-agent"]);
        assert_eq!((bed.names(), bed.at(".installing-abc").exists()), (vec!["cn-agent".to_owned(), "vm-agent".to_owned()], false));
        assert!(!bed.at("lib/node_modules/vm-agent/half").exists());
    }
    // A twin that is proving a new cn-agent is not disturbed by the start of that agent.
    let fresh = bed.install(&bed.archive("cn-agent", "2.0.0", &[]), "cn-agent").await.unwrap();
    assert!(bed.packages.recover("cn-agent").is_empty());
    assert_eq!(bed.tool(), "2.0.0");
    bed.packages.put_back(&fresh).await.unwrap();
    assert_eq!((bed.tool().as_str(), bed.names().len()), ("1.0.0", 2));
}
