//! Metadata in booted userlands of Debian: cloud-init from its package by the seed and by its SmartOS classes, and boot scripts like
//! those of lx images; again after the service was killed during traffic, and with a new root (metadata cases 70 to 72, 74, 75, 77).
//!
//! Most have System V's init, which boots on every kernel; what systemd's generator would ask `ds-identify`, a boot script asks. One has
//! systemd's, and boots on a compute node.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_e2e::{MetadataService, Node, mdata, until, userland};

/// What the generator of systemd does: asks `ds-identify`, which knows a container by the word of systemd's program.
const IDENTIFY: &str = "#!/bin/sh
### BEGIN INIT INFO
# Provides: ds-identify
# Required-Start: $local_fs
# Required-Stop:
# X-Start-Before: cloud-init-local
# Default-Start: S
# Default-Stop:
# Short-Description: cloud-init's choice of a data source
### END INIT INFO
[ \"$1\" = start ] || exit 0
mkdir -p /run/systemd /run/cloud-init/bin
printf '#!/bin/sh\\necho lxc\\n' > /run/cloud-init/bin/systemd-detect-virt
chmod 755 /run/cloud-init/bin/systemd-detect-virt
PATH=/run/cloud-init/bin:$PATH /usr/lib/cloud-init/ds-identify --force
echo $? > /run/cloud-init/identified
rmdir /run/systemd
exit 0
";
/// Packages of the image, beside what every userland here has.
const PACKAGES: &str = "sysvinit-core,cloud-init";
/// A guest has no terminals beside its console, and cloud-init is to wait for no package mirror.
const SHAPE: &str = "set -e
sed -i '/getty/d' \"$1/etc/inittab\"
mkdir -p \"$1/native\"
cat > \"$1/etc/init.d/ds-identify\" << 'END'
IDENTIFY
END
chmod 755 \"$1/etc/init.d/ds-identify\"
cp SMARTOS \"$1/root/smartos.py\"
chroot \"$1\" update-rc.d ds-identify defaults
for stage in cloud-init-local cloud-init cloud-config cloud-final; do chroot \"$1\" update-rc.d $stage defaults; done
";

/// Asks with cloud-init's own classes; in the images at `/root/smartos.py`.
const SMARTOS: &str = include_str!("../cloud-init/smartos.py");
/// The same image with systemd: cloud-init's generator runs by itself.
const PACKAGES_SYSTEMD: &str = "systemd,systemd-sysv,cloud-init";
const SHAPE_SYSTEMD: &str = "set -e\nmkdir -p \"$1/native\"\ncp SMARTOS \"$1/root/smartos.py\"\n";

/// `shape` with that script in it: a booted node has no sources.
fn with_smartos(shape: &str) -> String {
    shape.replace("cp SMARTOS \"$1/root/smartos.py\"\n", &format!("cat > \"$1/root/smartos.py\" << 'END'\n{SMARTOS}END\n"))
}

fn cloud_image() -> PathBuf {
    let shape = with_smartos(&SHAPE.replace("IDENTIFY\n", IDENTIFY));
    userland("cloud-init", PACKAGES, &[PACKAGES, SHAPE, IDENTIFY, SMARTOS], &shape)
}

fn cloud_image_with_systemd() -> PathBuf {
    let key = [PACKAGES_SYSTEMD, SHAPE_SYSTEMD, SMARTOS];
    userland("cloud-init-systemd", PACKAGES_SYSTEMD, &key, &with_smartos(SHAPE_SYSTEMD))
}

fn payload(node: &Node, image: &str) -> Value {
    let mut payload = node.payload(5);
    payload["image_uuid"] = image.into();
    payload["max_physical_memory"] = 1024.into();
    payload["max_swap"] = 2048.into();
    payload["customer_metadata"] = json!({
        "root_authorized_keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUy9d0FsJcGvEp1y0rkqbJdHPsYpcLmFjqWqTvJ0yaa one\n",
        "user-script": "#!/bin/sh\necho user >> /order\n",
        "user-data": "plain",
        "cloud-init:user-data": "#cloud-config\n{\"write_files\": [{\"path\": \"/from-user-data\", \"content\": \"written\"}]}\n",
    });
    payload["internal_metadata"] = json!({"operator-script": "#!/bin/sh\necho operator >> /order\nexit 7\n"});
    payload
}

fn root(node: &Node, uuid: &str) -> PathBuf {
    node.layout().at("/zones").join(uuid).join("root")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Python takes its time on a loaded machine.
fn await_boot(what: &str, node: &Node, uuid: &str, mut booted: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !booted() {
        if begin.elapsed() > Duration::from_secs(420) {
            let root = root(node, uuid);
            let logs = ["var/log/cloud-init-output.log", "var/log/cloud-init.log", "var/log/sdc.log"].map(|log| text(&root.join(log)));
            panic!("waited for {what}:\n{}", logs.join("\n---\n").lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn boots(node: &Node, uuid: &str) -> usize {
    text(&root(node, uuid).join("var/log/cloud-init.log")).matches("finished at").count()
}

/// What a guest is after cloud-init has read the seed.
fn assert_configured(node: &Node, uuid: &str, order: &str) {
    let root = root(node, uuid);
    let identified = node.guest(uuid, "cat /run/cloud-init/cloud.cfg");
    assert!(identified.contains("datasource_list: [ NoCloud") && !identified.contains("SmartOS"), "case 72: {identified}");
    assert!(node.guest(uuid, "cat /run/cloud-init/result.json").contains("DataSourceNoCloud"));
    assert!(text(&root.join("root/.ssh/authorized_keys")).contains("AAAAIJUy9d0FsJcGvEp1y0rkqbJdHPsYpcLmFjqWqTvJ0yaa one"), "case 74");
    assert_eq!((node.guest(uuid, "hostname").trim(), text(&root.join("from-user-data")).as_str()), ("web5", "written"));
    assert_eq!(text(&root.join("order")), order, "case 75");
    assert_eq!(text(&root.join("var/db/mdata-user-data")).trim_end(), "plain");
    let addresses = node.guest(uuid, "ip -o addr show dev eth0; ip -4 route");
    assert!(addresses.contains("10.64.0.5/24") && addresses.contains("default via 10.64.0.1"), "{addresses}");
}

/// cloud-init's SmartOS classes, inside the guest, over both transports.
fn assert_smartos(node: &Node, uuid: &str) {
    for (kind, path) in
        [("serial", "/dev/ttyS1"), ("socket", "/native/.zonecontrol/metadata.sock"), ("socket", "/.zonecontrol/metadata.sock")]
    {
        let said = node.try_guest(uuid, &format!("timeout 120 python3 /root/smartos.py {kind} {path}")).ok();
        let told = said.json();
        for (name, value) in [
            ("instance-id", json!(uuid)),
            ("user-script", json!("#!/bin/sh\necho user >> /order\n")),
            ("put", json!("two\nlines\n")),
            ("deleted", Value::Null),
        ] {
            assert_eq!(told[name], value, "{kind}: {name} in {told:#}");
        }
        assert!(told["network"].to_string().contains("10.64.0.5/24"), "{told:#}");
    }
}

/// Clients in the guest that never stop asking while the service is killed again and again; none is told anything wrong.
fn killed_during_traffic(node: &Node, uuid: &str, service: &mut MetadataService<'_>) {
    let ask = "for i in $(seq 30); do /native/usr/sbin/mdata-put t$i v$i || exit 9; [ \"$(/native/usr/sbin/mdata-get t$i)\" = v$i ] || exit 8; done; echo all";
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| node.try_guest(uuid, ask));
        for round in 1..=3 {
            let key = format!("t{}", round * 7);
            until("traffic goes on", || node.get(uuid)["customer_metadata"][&key].is_string() || traffic.is_finished());
            service.restart();
        }
        let said = traffic.join().unwrap();
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), "all\n"), "{}", said.stderr);
    });
    service.await_ready();
}

/// One guest over its first boot, kills of the service, a reboot, and a new root.
fn configures_itself(node: &Node, tar: &Path) {
    let image = node.install_userland(tar);
    let mut service = MetadataService::start(node);
    let uuid = node.create(&payload(node, &image));
    await_boot("cloud-init at the first boot", node, &uuid, || boots(node, &uuid) == 1);
    assert_configured(node, &uuid, "operator\nuser\n");
    assert_smartos(node, &uuid);

    killed_during_traffic(node, &uuid, &mut service);
    assert_smartos(node, &uuid);
    node.vmadm(&["reboot", &uuid]).ok();
    await_boot("cloud-init at the second boot", node, &uuid, || boots(node, &uuid) == 2);
    assert_configured(node, &uuid, "operator\nuser\noperator\nuser\n");

    // A new root: cloud-init begins anew, and the metadata is what it was.
    let again = node.install_userland_as(tar, "b5b0c0de-7e57-4bb0-8000-000000000010");
    node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": again}).to_string(), &[]).ok();
    await_boot("cloud-init with a new root", node, &uuid, || boots(node, &uuid) == 1);
    assert_configured(node, &uuid, "operator\nuser\n");
    assert_smartos(node, &uuid);
    assert_eq!(mdata(node, &uuid, "get t30").ok().stdout, "v30\n");
    node.vmadm(&["delete", &uuid]).ok();
}

#[test]
fn cloud_init_of_a_booted_debian_configures_itself_and_asks_over_both_transports() {
    configures_itself(&Node::new("cloud-userland"), &cloud_image());
}

/// metadata case 72: what `ds-identify` of the image with systemd says of its root, told that it is in LXC, with the seed and without.
#[test]
fn the_image_with_systemd_chooses_the_seed_and_never_smartos() {
    let tar = cloud_image_with_systemd();
    // Not in `/tmp`, which has no devices under systemd: `ds-identify` writes to `/dev/null`, or finds nothing.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path();
    let unpacked = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(root).status().unwrap();
    assert!(unpacked.success());
    let (programs, seed) = (root.join("opt/virt"), root.join("var/lib/cloud/seed/nocloud"));
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join("systemd-detect-virt"), "#!/bin/sh\necho lxc\n").unwrap();
    fs::set_permissions(programs.join("systemd-detect-virt"), fs::Permissions::from_mode(0o755)).unwrap();
    let identify = || {
        // The socket is there in any case: it must not make the difference.
        let script = "mkdir -p /native/.zonecontrol /run/systemd/system; rm -rf /run/cloud-init; \
                      PATH=/opt/virt:$PATH /usr/lib/cloud-init/ds-identify --force; echo $?; cat /run/cloud-init/cloud.cfg";
        let mut command = Command::new("chroot");
        command.arg(root).args(["/bin/sh", "-c", script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    let without = identify();
    assert!(without.starts_with("1\n") && !without.contains("SmartOS"), "without a seed: {without}");
    fs::create_dir_all(&seed).unwrap();
    for file in ["meta-data", "user-data"] {
        fs::write(seed.join(file), "").unwrap();
    }
    let with = identify();
    assert!(with.starts_with("0\n") && with.contains("datasource_list: [ NoCloud") && !with.contains("SmartOS"), "with the seed: {with}");
    // Its generator is what asks at each boot.
    assert!(root.join("lib/systemd/system-generators/cloud-init-generator").exists());
}

mod node_only {
    use super::*;

    /// metadata cases 70 to 72, 74, 75 and 77 with systemd as the guest's init, which a hybrid hierarchy of control groups does not boot
    #[test]
    fn cloud_init_in_a_guest_with_systemd_configures_it_and_asks_over_both_transports() {
        let node = Node::new("cloud-systemd");
        assert!(node.is_machine(), "this is no compute node");
        configures_itself(&node, &cloud_image_with_systemd());
    }
}

/// As boot scripts of lx images do it (metadata.md section 6.5): 0 installs a file, 1 removes it, everything else ends the boot script.
const LX_SCRIPT: &str = r#"#!/bin/sh
get=/native/usr/sbin/mdata-get
log() { echo "$*" >> /var/log/sdc.log; }
fetch() {
    $get "$1" > "$2.new" 2> /dev/null
    code=$?
    case $code in
        0) mv "$2.new" "$2"; chmod "$3" "$2" ;;
        1) rm -f "$2.new" "$2" ;;
        *) log "fetch $1: $code"; exit 1 ;;
    esac
}
mkdir -p /var/db /var/svc /root/.ssh
fetch user-data /var/db/mdata-user-data 400
fetch user-script /var/svc/mdata-user-script 700
fetch sdc:operator-script /var/svc/mdata-operator-script 700
[ -e /root/.ssh/authorized_keys ] || fetch root_authorized_keys /root/.ssh/authorized_keys 600
[ -e /var/svc/provisioning ] && mv /var/svc/provisioning /var/svc/provision_success
log "memory $(($($get sdc:max_physical_memory) + 1)) address $($get sdc:nics.0.ip) resolvers $($get sdc:resolvers)"
[ -x /var/svc/mdata-operator-script ] && /var/svc/mdata-operator-script
[ -x /var/svc/mdata-user-script ] && { /var/svc/mdata-user-script > /var/log/mdata-user-script.log 2>&1 || exit 95; }
log booted
exit 0
"#;
const LX_INIT: &str = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: joyent\n# Required-Start: $local_fs\n# Required-Stop:\n\
# Default-Start: 2 3 4 5\n# Default-Stop:\n# Short-Description: lx boot scripts\n### END INIT INFO\n[ \"$1\" = start ] && /lib/smartdc/boot\nexit 0\n";

fn lx_image() -> PathBuf {
    let shape = format!(
        "set -e\nsed -i '/getty/d' \"$1/etc/inittab\"\nmkdir -p \"$1/native\" \"$1/var/svc\" \"$1/lib/smartdc\"\ntouch \"$1/var/svc/provisioning\"\n\
         cat > \"$1/lib/smartdc/boot\" << 'END'\n{LX_SCRIPT}END\ncat > \"$1/etc/init.d/joyent\" << 'END'\n{LX_INIT}END\n\
         chmod 755 \"$1/lib/smartdc/boot\" \"$1/etc/init.d/joyent\"\nln -sf /native/usr/sbin/mdata-get \"$1/usr/sbin/mdata-get\"\n\
         chroot \"$1\" update-rc.d joyent defaults\n"
    );
    userland("lx", "sysvinit-core", &["sysvinit-core", LX_SCRIPT, LX_INIT], &shape)
}

/// A node has no mirror of Debian's packages: `cargo xtask vm test` runs this here first and takes what it made there.
#[test]
fn debian_is_at_hand() {
    for make in [cloud_image, cloud_image_with_systemd, lx_image] {
        assert!(make().is_file());
    }
}

/// metadata cases 70, 74, 75 and 77
#[test]
fn boot_scripts_of_an_lx_image_fetch_and_run_what_there_is_at_each_boot() {
    let node = Node::new("lx-userland");
    let tar = lx_image();
    let image = node.install_userland(&tar);
    let mut service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, &image));
    let root = root(&node, &uuid);
    let booted = |count: usize| text(&root.join("var/log/sdc.log")).lines().filter(|line| *line == "booted").count() == count;
    await_boot("the first boot", &node, &uuid, || booted(1));
    assert_eq!(text(&root.join("order")), "operator\nuser\n");
    let log = text(&root.join("var/log/sdc.log"));
    assert!(log.contains("memory 1025 address 10.64.0.5 resolvers [\"192.0.2.53\"]"), "{log}");
    assert!(root.join("var/svc/provision_success").exists());
    let keys = fs::metadata(root.join("root/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys.permissions().mode() & 0o777, 0o600);
    killed_during_traffic(&node, &uuid, &mut service);
    // Keys are installed once; a script that is gone is removed, and its absence is no failure.
    let change = json!({"remove_customer_metadata": ["user-script"], "set_customer_metadata": {"root_authorized_keys": "other"}});
    node.run_with("vmadm", &["update", &uuid], &change.to_string(), &[]).ok();
    node.vmadm(&["reboot", &uuid]).ok();
    await_boot("the second boot", &node, &uuid, || booted(2));
    assert_eq!(text(&root.join("order")), "operator\nuser\noperator\n");
    assert!(!root.join("var/svc/mdata-user-script").exists() && !text(&root.join("root/.ssh/authorized_keys")).contains("other"));
    let again = node.install_userland_as(&tar, "b5b0c0de-7e57-4bb0-8000-000000000010");
    node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": again}).to_string(), &[]).ok();
    await_boot("a boot with a new root", &node, &uuid, || booted(1));
    assert_eq!((text(&root.join("order")).as_str(), text(&root.join("root/.ssh/authorized_keys")).trim_end()), ("operator\n", "other"));
    node.vmadm(&["delete", &uuid]).ok();
}
