//! Cases 42 and 44: datasets through commands that keep state, NIC tags, node.config, the reboot.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::support::Bed;

/// A `zfs` that knows datasets as files of a folder, and writes down how it was called.
const ZFS: &str = r#"#!/bin/sh
state="$(dirname "$0")/state"; mkdir -p "$state"
echo "zfs $*" >>"$(dirname "$0")/calls"
last=; for word in "$@"; do last="$word"; done
file() { echo "$state/$(echo "$1" | tr / +)"; }
case "$1" in
create|snapshot) : >"$(file "$2")" ;;
destroy) if [ -e "$(file "$2")" ]; then rm "$(file "$2")"; else echo "cannot open '$2': dataset does not exist" >&2; exit 1; fi ;;
rename) mv "$(file "$2")" "$(file "$3")" ;;
clone) [ -e "$(file "$2")" ] && : >"$(file "$3")" ;;
get) printf '%s\tused\t4096\n%s\tmountpoint\t/%s\twith tab\n' "$last" "$last" "$last" ;;
list) for name in $(ls "$state"); do printf '%s\t1K\t2K\t3K\tfilesystem\t-\n' "$(echo "$name" | tr + /)"; done ;;
esac
"#;
const ZPOOL: &str = "#!/bin/sh\nprintf 'zones\\t10G\\t1G\\t9G\\t10%%\\tONLINE\\t-\\n'\n";

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// cn-agent case 44
#[tokio::test]
async fn datasets_and_pools_are_shown_and_changed_by_the_commands() {
    let bed = Bed::start().await;
    let sbin = bed.layout.at("/sbin");
    program(&sbin.join("zfs"), ZFS);
    program(&sbin.join("zpool"), ZPOOL);
    for (task, params) in [
        ("zfs_create_dataset", json!({"dataset": "zones/a"})),
        ("zfs_snapshot_dataset", json!({"dataset": "zones/a@s"})),
        ("zfs_clone_dataset", json!({"snapshot": "zones/a@s", "dataset": "zones/b"})),
        ("zfs_rename_dataset", json!({"dataset": "zones/b", "newname": "zones/c"})),
        ("zfs_rollback_dataset", json!({"dataset": "zones/a@s"})),
        ("zfs_set_properties", json!({"dataset": "zones/a", "properties": {"quota": "1G", "atime": "off"}})),
        ("zfs_destroy_dataset", json!({"dataset": "zones/c"})),
    ] {
        assert_eq!(bed.task(task, params).await.seen(), (200, "{}"), "{task}");
    }
    let calls = fs::read_to_string(sbin.join("calls")).unwrap();
    assert!(
        calls.contains("zfs rollback -r zones/a@s\nzfs set atime=off zones/a\nzfs set quota=1G zones/a\nzfs destroy zones/c\n"),
        "{calls}"
    );
    let properties = bed.task("zfs_get_properties", json!({"dataset": "zones", "properties": ["used"]})).await.json();
    assert_eq!(properties, json!({"zones": {"used": "4096", "mountpoint": "/zones\twith tab"}}));
    let all = bed.task("zfs_list_datasets", json!({})).await.json();
    assert_eq!(all[0], json!({"name": "zones/a", "used": "1K", "avail": "2K", "refer": "3K", "type": "filesystem", "mountpoint": "-"}));
    assert_eq!(bed.task("zfs_list_snapshots", json!({"dataset": "zones/a"})).await.json().as_array().unwrap().len(), 2);
    let pools =
        json!([{"name": "zones", "size": "10G", "allocated": "1G", "free": "9G", "cap": "10%", "health": "ONLINE", "altroot": "-"}]);
    assert_eq!(bed.task("zfs_list_pools", json!({})).await.json(), pools);
    let reply = bed.task("zfs_destroy_dataset", json!({"dataset": "zones/none"})).await;
    let error = "failed to destroy ZFS dataset \"zones/none\": Command failed: /sbin/zfs destroy zones/none\ncannot open 'zones/none': dataset does not exist\n";
    assert_eq!((reply.status, reply.json()["error"].as_str()), (500, Some(error)));
}

#[tokio::test]
async fn a_name_that_would_be_an_option_or_nothing_reaches_no_command() {
    let bed = Bed::start().await;
    let sbin = bed.layout.at("/sbin");
    program(&sbin.join("zfs"), ZFS);
    for dataset in [json!("-rf"), json!("a\nb"), json!("a;b"), json!(""), json!(5), json!("x".repeat(300))] {
        let reply = bed.task("zfs_destroy_dataset", json!({"dataset": dataset})).await;
        assert_eq!(reply.status, 500, "{dataset}");
        assert!(reply.json()["error"].as_str().unwrap().contains("'dataset'"), "{}", reply.json());
    }
    assert_eq!(bed.task("zfs_set_properties", json!({"dataset": "a", "properties": {"-r": "x"}})).await.status, 500);
    assert_eq!(bed.task("zfs_get_properties", json!({"dataset": "a", "properties": ["-r"]})).await.status, 500);
    assert!(!sbin.join("calls").exists());
}

/// cn-agent case 42, net-agent cases 56 and 57
#[tokio::test]
async fn nic_tags_of_the_nics_in_a_request_are_as_it_says_and_those_of_others_stay() {
    // Bridges of tags are made where the agent is: in a network of this test's own, which ends with it. Threads of the runtime follow.
    if nix::unistd::geteuid().is_root() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    }
    let bed = Bed::start().await;
    let file = bed.layout.config().join("triton-networking.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let tags = json!({"admin_tag": "admin", "nictags": [
        {"name": "a", "mac": "02:08:20:00:00:01"}, {"name": "c", "mac": "02:08:20:00:00:01"}, {"name": "d", "mac": "02:08:20:00:00:02"}]});
    fs::write(&file, tags.to_string()).unwrap();
    let names = || {
        let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let pairs = value["nictags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| format!("{}={}", tag["name"].as_str().unwrap(), tag["mac"].as_str().unwrap()));
        let mut pairs: Vec<String> = pairs.collect();
        pairs.sort();
        pairs
    };
    // `c` is no longer named for its NIC; NIC 2 is not in the request; NIC 3 names no tags; NIC 9 is not in this machine.
    let nics = json!([
        {"mac": "2:8:20:0:0:1", "nic_tags_provided": ["a"]},
        {"mac": "2:8:20:0:0:3"},
        {"mac": "2:8:20:0:0:9", "nic_tags_provided": ["x"]},
    ]);
    let reply = bed.task("server_update_nics", json!({"nics": nics})).await;
    assert_eq!(
        (reply.status, names()),
        (200, vec!["a=02:08:20:00:00:01".to_owned(), "d=02:08:20:00:00:02".to_owned()]),
        "{}",
        reply.json()
    );
    let reply = bed.task("server_update_nics", json!({"nics": [{"mac": "zz", "nic_tags_provided": []}]})).await;
    assert_eq!(reply.status, 500);
    assert_eq!(names().len(), 2);
}

#[tokio::test]
async fn the_overprovisioning_of_the_node_is_written_to_its_configuration() {
    let bed = Bed::start().await;
    let file = bed.layout.config().join("node.config");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "datacenter_name='coal'\noverprovision_ratio='cpu=1'\n").unwrap();
    assert_eq!(bed.task("server_overprovision_ratio", json!({"value": "cpu=4&ram=1"})).await.seen(), (200, "{}"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "datacenter_name='coal'\noverprovision_ratio='cpu=4&ram=1'\n");
    assert_eq!(bed.task("server_overprovision_ratio", json!({})).await.json()["error"], "no value given");
    assert_eq!(bed.task("server_overprovision_ratio", json!({"value": "'; reboot"})).await.status, 500);
    assert!(!fs::read_to_string(&file).unwrap().contains("reboot"));
}

#[tokio::test]
async fn a_reboot_is_set_up_and_answered_and_forced_later() {
    let bed = Bed::start().await;
    let reply = bed.task("server_reboot", json!({})).await;
    assert_eq!(reply.status, 500, "without a service manager below this root nothing reboots");
    let program_path = bed.layout.at("/usr/bin/systemd-run");
    program(&program_path, "#!/bin/sh\necho \"$*\" >>\"$0.calls\"\n");
    assert_eq!(bed.task("server_reboot", json!({})).await.seen(), (200, "{}"));
    let calls = fs::read_to_string(program_path.with_file_name("systemd-run.calls")).unwrap();
    let expected = "--quiet --collect --on-active=5min systemctl reboot --force\n--quiet --collect --on-active=1s systemctl reboot\n";
    assert_eq!(calls, expected);
}
