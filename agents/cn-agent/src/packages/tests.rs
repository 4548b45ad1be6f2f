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
        bed.packages.keep(&installed).await.unwrap();
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
        bed.packages.keep(&good).await.unwrap();
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
    let note = |name: &str| bed.at("lib/node_modules").join(format!("{name}.updating-to.{IMAGE}"));
    let place = |name: &str| bed.at("lib/node_modules").join(name);
    for agent in ["vm-agent", "cn-agent"] {
        let good = bed.install(&bed.archive(agent, "1.0.0", &[]), agent).await.unwrap();
        bed.packages.keep(&good).await.unwrap();
    }
    let whole = || {
        assert_eq!(bed.names(), ["cn-agent", "vm-agent"]);
        assert_eq!((bed.tool().as_str(), bed.at(".installing-abc").exists()), ("1.0.0", false));
    };
    for killed in ["begun", "aside", "placed"] {
        for agent in ["vm-agent", "cn-agent"] {
            fs::create_dir(note(agent)).unwrap();
            if killed != "begun" {
                fs::rename(place(agent), note(agent)).unwrap();
                fs::remove_file(bed.at("bin/tool")).unwrap_or_default();
            }
            if killed == "placed" {
                fs::create_dir_all(place(agent).join("half")).unwrap();
            }
        }
        fs::create_dir_all(bed.at(".installing-abc/vm-agent")).unwrap();
        let mut recovered: Vec<_> = bed.packages.recover("cn-agent").into_iter().map(|package| package.name).collect();
        recovered.sort();
        assert_eq!(recovered, ["cn-agent", "vm-agent"], "{killed}");
        whole();
        assert!(!place("vm-agent").join("half").exists());
    }
    // A package that was not there before is not there.
    fs::create_dir_all(place("amon-agent")).unwrap();
    fs::create_dir(note("amon-agent")).unwrap();
    fs::write(note("amon-agent").join(".nothing"), "").unwrap();
    assert!(bed.packages.recover("cn-agent").is_empty());
    whole();
    // A twin that is proving a new cn-agent is not disturbed by the start of that agent; when it is gone, the installation is undone.
    fs::create_dir_all(bed.root.path().join("run/triton/locks")).unwrap();
    let claim = bed.packages.claim().await.unwrap();
    assert!(bed.packages.claim().await.unwrap_err().to_string().contains("another installation"));
    bed.install(&bed.archive("cn-agent", "2.0.0", &[]), "cn-agent").await.unwrap();
    assert!(bed.packages.recover("cn-agent").is_empty());
    assert_eq!(bed.tool(), "2.0.0");
    drop(claim);
    assert_eq!(bed.packages.recover("cn-agent").len(), 1);
    whole();
    // Two notes of one package never stand beside each other.
    let never = CancellationToken::new();
    for image in [IMAGE, "1f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10"] {
        bed.packages.install(&bed.archive("cn-agent", "2.0.0", &[]), "cn-agent", image, &never).await.unwrap();
    }
    assert_eq!(bed.names().len(), 3);
    assert_eq!(bed.packages.recover("cn-agent")[0].version, "1.0.0");
    whole();
}

#[tokio::test]
async fn a_link_that_leads_out_of_the_package_is_refused() {
    let bed = Bed::new();
    let outside = bed.root.path().join("outside");
    fs::write(&outside, "{}").unwrap();
    fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let up = "../../../../../outside".to_owned();
    for (name, target) in [
        ("x/bin/tool", outside.display().to_string()),
        ("x/bin/tool", up.clone()),
        ("x/image_uuid", outside.display().to_string()),
        ("x/node_modules/a", "/etc".to_owned()),
        ("x/dangling", "nowhere".to_owned()),
        ("x", "/etc".to_owned()),
    ] {
        let path = bed.packages.scratch().join("links.tar");
        let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
        let json = r#"{"name":"x","version":"1","bin":{"tool":"bin/tool"}}"#;
        for (file, text) in [("x/image_uuid", IMAGE), ("x/package.json", json)] {
            if file != name && name != "x" {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, file, text.as_bytes()).unwrap();
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, &target).unwrap();
        tar.into_inner().unwrap();
        let error = bed.install(&path, "x").await.unwrap_err();
        assert!(error.contains("leads out") || error.contains("no directory"), "{name} -> {target}: {error}");
        assert!(bed.names().is_empty());
    }
    // What is written through a link is not written at all.
    let path = bed.packages.scratch().join("through.tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "x/out", bed.root.path()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, "x/out/outside", &b"evil"[..]).unwrap();
    tar.into_inner().unwrap();
    assert!(bed.install(&path, "x").await.is_err());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&outside).unwrap().permissions()) & 0o777;
    assert_eq!((fs::read_to_string(&outside).unwrap().as_str(), mode), ("{}", 0o600));
}
