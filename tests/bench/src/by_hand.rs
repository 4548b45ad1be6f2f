//! The same as `vmadm create`, done by hand with the distribution's tools: copy, config, `lxc-start`, veth.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use triton_e2e::{IMAGE_UUID, Node};

fn run(node: &Node, program: &str, args: &[&str]) {
    let pin = node.layout().namespaces().join("net");
    let status = Command::new("/usr/bin/nsenter")
        .arg(format!("--net={}", pin.display()))
        .arg(program)
        .args(args)
        // Without newuidmap on the path LXC writes the id map itself and needs no line in /etc/subuid.
        .env("PATH", "/usr/sbin:/sbin")
        .status()
        .expect("nsenter can be run");
    assert!(status.success(), "{program} {args:?}");
}

/// Copies the image, starts a container of it, gives it a link, and returns how long that took; then removes all.
pub fn create_and_start(node: &Node) -> Duration {
    let directory = node.layout().at("/by-hand");
    let root = directory.join("root");
    let image = node.layout().at("/zones").join(IMAGE_UUID).join("root");
    let config = directory.join("config");
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let lxcpath = path(&directory);
    let begin = Instant::now();
    fs::create_dir_all(&directory).expect("disk");
    run(node, "/bin/cp", &["-a", "--reflink=auto", &path(&image), &path(&root)]);
    let text = format!(
        "lxc.uts.name = byhand\nlxc.rootfs.path = dir:{}\nlxc.rootfs.options = idmap=container\nlxc.idmap = u 0 900000000 65536\n\
         lxc.idmap = g 0 900000000 65536\nlxc.net.0.type = empty\nlxc.pty.max = 1024\nlxc.mount.auto = proc:mixed sys:mixed cgroup:mixed\n",
        root.display()
    );
    fs::write(&config, text).expect("disk");
    run(node, "/usr/bin/lxc-start", &["-n", "byhand", "-P", &lxcpath, "-f", &path(&config), "-d"]);
    run(node, "/sbin/ip", &["link", "add", "vhand", "type", "veth", "peer", "name", "vhand1"]);
    let took = begin.elapsed();
    run(node, "/sbin/ip", &["link", "del", "vhand"]);
    run(node, "/usr/bin/lxc-stop", &["-n", "byhand", "-P", &lxcpath, "-k"]);
    fs::remove_dir_all(&directory).expect("disk");
    took
}
