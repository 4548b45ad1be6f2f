//! The process of a Docker-style instance: from its metadata to what its container runs (ruling 60).
//!
//! Pure but for the look into the guest's `passwd` and `group`, which are read without following links and decide over ids inside
//! the guest only.

use serde_json::Value;
use triton_files::SafeRoot;
use triton_lxc::InitUser;
use triton_process::parse_signal;
use triton_types::{JsonMap, VmConfig};

/// The variables that every process of Docker's has.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// More of a guest's user database is not read.
const MAX_DATABASE: u64 = 4 << 20;
/// Ids that a guest has.
const IDS: u32 = 65_536;

/// What is run instead of an init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments; a program without a slash is looked for in the guest's `PATH`.
    pub argv: Vec<String>,
    /// Variables, in order.
    pub environment: Vec<(String, String)>,
    /// Working directory.
    pub directory: String,
    /// `user`, `user:group`, with names or numbers; the guest's root when absent.
    pub user: Option<String>,
    /// Signal that asks it to end.
    pub stop_signal: i32,
}

/// A process cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// A key does not hold what it should.
    #[error("metadata key {0} is no JSON array of strings")]
    List(&'static str),
    /// There is nothing to run.
    #[error("its image has neither entrypoint nor command: set docker:cmd in internal_metadata")]
    Nothing,
    /// A text that no process can be given.
    #[error("{0} has a zero byte")]
    Zero(&'static str),
    /// No such user.
    #[error("{what} {name:?} is not in the guest's {file}")]
    Unknown {
        /// User or group.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
}

impl Process {
    /// The process of an instance; `None` for one with an init.
    ///
    /// # Errors
    /// When its metadata does not describe one.
    pub fn of(config: &VmConfig) -> Result<Option<Self>, ProcessError> {
        if !config.docker {
            return Ok(None);
        }
        let metadata = &config.internal_metadata;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let mut argv = list(metadata, "docker:entrypoint")?;
        argv.extend(list(metadata, "docker:cmd")?);
        if argv.first().is_none_or(String::is_empty) {
            return Err(ProcessError::Nothing);
        }
        let mut environment = vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), crate::guest_files::hostname(config))];
        for variable in list(metadata, "docker:env")? {
            // Without a value it would be the host's.
            let Some((name, value)) = variable.split_once('=').filter(|(name, _)| !name.is_empty()) else { continue };
            environment.retain(|(other, _)| other != name);
            environment.push((name.to_owned(), value.to_owned()));
        }
        for (what, words) in [("the command", &argv), ("the environment", &environment.iter().map(|(n, v)| format!("{n}{v}")).collect())] {
            if words.iter().any(|word| word.contains('\0')) {
                return Err(ProcessError::Zero(what));
            }
        }
        Ok(Some(Self {
            argv,
            environment,
            directory: text("docker:workdir").unwrap_or("/").to_owned(),
            user: text("docker:user").map(str::to_owned),
            stop_signal: text("docker:stopsignal").and_then(parse_signal).unwrap_or(libc::SIGTERM),
        }))
    }

    /// Who it runs as, by the guest's own user database. Supplementary groups are not given: liblxc has no way to in an
    /// unprivileged container.
    ///
    /// # Errors
    /// When a name is not there.
    pub fn ids(&self, root: &SafeRoot) -> Result<InitUser, ProcessError> {
        let Some(user) = &self.user else { return Ok(InitUser::default()) };
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (user.as_str(), None),
        };
        let passwd = database(root, "etc/passwd");
        let groups = database(root, "etc/group");
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id < IDS);
        let known = passwd.iter().find(|fields| field(fields, 0) == user || (number(user).is_some() && field(fields, 2) == user));
        let id = |fields: &Vec<String>, at: usize| number(field(fields, at));
        let uid = known.and_then(|fields| id(fields, 2)).or(number(user));
        let uid = uid.ok_or_else(|| ProcessError::Unknown { what: "user", name: user.chars().take(64).collect(), file: "/etc/passwd" })?;
        let gid = match group {
            None => known.and_then(|fields| id(fields, 3)).unwrap_or(0),
            Some(name) => {
                let entry = groups.iter().find(|fields| field(fields, 0) == name).and_then(|fields| id(fields, 2));
                let unknown = || ProcessError::Unknown { what: "group", name: name.chars().take(64).collect(), file: "/etc/group" };
                entry.or(number(name)).ok_or_else(unknown)?
            }
        };
        Ok(InitUser { uid, gid })
    }
}

fn list(metadata: &JsonMap, key: &'static str) -> Result<Vec<String>, ProcessError> {
    match metadata.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(value) => value.as_str().and_then(|text| serde_json::from_str(text).ok()).ok_or(ProcessError::List(key)),
    }
}

/// The lines of a database as fields. One that cannot be read is empty: names are then not found.
fn database(root: &SafeRoot, path: &str) -> Vec<Vec<String>> {
    let bytes = root.read(path, MAX_DATABASE).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

fn field(fields: &[String], at: usize) -> &str {
    fields.get(at).map(String::as_str).unwrap_or_default()
}

/// Directories that a container's start needs and that images of single programs lack.
pub(crate) const DIRECTORIES: [&str; 5] = ["proc", "sys", "dev", "tmp", "etc"];

#[cfg(test)]
mod tests {
    use serde_json::json;
    use triton_types::InstanceUuid;

    use super::*;

    fn config(metadata: Value) -> VmConfig {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.docker = true;
        config.hostname = Some("web".into());
        let Value::Object(map) = metadata else { panic!("an object") };
        config.internal_metadata = map;
        config
    }

    #[test]
    fn entrypoint_and_command_are_one_command_and_variables_have_defaults() {
        let metadata = json!({"docker:entrypoint": "[\"/e\"]", "docker:cmd": "[\"it's\", \"\"]", "docker:env": "[\"A=b=c\",\"PATH=/x\",\"HOME\"]",
            "docker:stopsignal": "SIGQUIT"});
        let process = Process::of(&config(metadata)).unwrap().unwrap();
        assert_eq!(process.argv, ["/e", "it's", ""]);
        let pairs: Vec<_> = process.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(pairs, ["HOSTNAME=web", "A=b=c", "PATH=/x"]);
        assert_eq!((process.directory.as_str(), process.stop_signal), ("/", libc::SIGQUIT));
        let mut plain = config(json!({}));
        assert_eq!(Process::of(&plain), Err(ProcessError::Nothing));
        plain.docker = false;
        assert_eq!(Process::of(&plain), Ok(None));
        assert_eq!(Process::of(&config(json!({"docker:cmd": "sh"}))), Err(ProcessError::List("docker:cmd")));
        assert_eq!(Process::of(&config(json!({"docker:cmd": "[\"a\\u0000b\"]"}))), Err(ProcessError::Zero("the command")));
    }

    #[test]
    fn names_of_users_are_the_guests_own_and_ids_stay_in_its_range() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:\nbad:x:70000:0::/:\n").unwrap();
        std::fs::write(directory.path().join("etc/group"), "www:x:44:\nlogs:x:55:web,root\n").unwrap();
        let root = SafeRoot::open(directory.path(), (0, 0)).unwrap();
        let ids = |user: &str| {
            let mut process = Process::of(&config(json!({"docker:cmd": "[\"x\"]"}))).unwrap().unwrap();
            process.user = Some(user.to_owned());
            process.ids(&root).map(|ids| (ids.uid, ids.gid)).ok()
        };
        assert_eq!(ids("web"), Some((33, 44)));
        assert_eq!(ids("web:logs"), Some((33, 55)));
        assert_eq!(ids("33"), Some((33, 44)));
        assert_eq!(ids("1000:1001"), Some((1000, 1001)));
        assert_eq!(ids("1000"), Some((1000, 0)));
        for bad in ["nobody", "bad", "70000", "web:none", "-1"] {
            assert_eq!(ids(bad), None, "{bad}");
        }
        std::fs::remove_file(directory.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("etc/passwd")).unwrap();
        assert_eq!(ids("root"), None, "the host's users are no guest's");
    }
}
