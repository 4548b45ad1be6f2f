//! boot.ipxe for a Linux node, in booter's form: one line each for kernel, initrd and modules (platform.md section 3.3).

/// The boot server.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its address.
    pub address: &'a str,
    /// `http` or `tftp`.
    pub protocol: &'a str,
    /// The platform's release.
    pub platform: &'a str,
    /// The number of the serial port that is the console.
    pub serial: u8,
    /// Hash files are offered too.
    pub hashes: bool,
}

/// The node's NIC.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Lower-case, with colons.
    pub mac: &'a str,
    /// Its address.
    pub address: &'a str,
    /// In dots.
    pub netmask: &'a str,
    /// The last field of `ip=`: empty, or `none`.
    pub autoconf: &'a str,
}

/// The folder of a platform below the server's.
pub fn folder(platform: &str) -> String {
    format!("os/{platform}/platform/x86_64")
}

/// Name and text of the file; `files` are those in `bootfs`.
pub fn boot(server: &Server<'_>, node: &Node<'_>, arguments: &[(String, String)], files: &[&str]) -> (String, String) {
    let folder = folder(server.platform);
    let base = format!("{}://{}", server.protocol, server.address);
    let bare = node.mac.replace(':', "");
    let arguments: Vec<String> = arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut lines = vec![
        "#!ipxe".to_owned(),
        format!(
            "kernel /{folder}/vmlinuz boot=live console=tty0 console=ttyS{},115200n8 BOOTIF=01-{} ip={}:::{}::{} {} \
             fetch={base}/{folder}/filesystem.squashfs",
            server.serial,
            node.mac.replace(':', "-"),
            node.address,
            node.netmask,
            node.autoconf,
            arguments.join(" "),
        ),
        format!("initrd {base}/{folder}/initrd"),
    ];
    if server.hashes {
        for name in ["filesystem.squashfs", "initrd"] {
            lines.push(format!("module {base}/{folder}/{name}.hash {name}.hash"));
        }
    }
    lines.push(format!("module {base}/extra/joysetup/node.config /etc/node.config"));
    for file in files {
        lines.push(format!("module {}://${{next-server}}/bootfs/{bare}/{file} /etc/triton-{file}", server.protocol));
    }
    lines.push("boot".to_owned());
    (format!("boot.ipxe.01{}", bare.to_uppercase()), lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(autoconf: &str) -> (String, String) {
        let server = Server { address: "10.99.99.9", protocol: "tftp", platform: "20200203T051553Z", serial: 1, hashes: true };
        let node = Node { mac: "10:dd:b1:a2:57:bf", address: "10.99.99.124", netmask: "255.255.255.0", autoconf };
        let arguments = [("rabbitmq", "guest:guest:10.99.99.16:5672"), ("debug", "y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        boot(&server, &node, &arguments, &["networking.json", "networking.json.hash"])
    }

    /// platform cases 1 and 2
    #[test]
    fn the_kernels_line_is_booters() {
        let (name, first) = text("");
        assert_eq!(name, "boot.ipxe.0110DDB1A257BF");
        assert!(first.contains(
            " boot=live console=tty0 console=ttyS1,115200n8 BOOTIF=01-10-dd-b1-a2-57-bf ip=10.99.99.124:::255.255.255.0:: \
             rabbitmq=guest:guest:10.99.99.16:5672 debug=y \
             fetch=tftp://10.99.99.9/os/20200203T051553Z/platform/x86_64/filesystem.squashfs\n"
        ));
        assert!(text("none").1.contains(" ip=10.99.99.124:::255.255.255.0::none rabbitmq="));
    }

    #[test]
    fn modules_follow_in_booters_order() {
        let (_, text) = text("");
        let modules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("module ")?.split_once(' ').map(|(_, to)| to)).collect();
        assert_eq!(
            modules,
            [
                "filesystem.squashfs.hash",
                "initrd.hash",
                "/etc/node.config",
                "/etc/triton-networking.json",
                "/etc/triton-networking.json.hash"
            ]
        );
        assert!(text.contains("tftp://${next-server}/bootfs/10ddb1a257bf/networking.json /etc/triton-networking.json\n"));
        assert!(text.starts_with("#!ipxe\nkernel /os/20200203T051553Z/platform/x86_64/vmlinuz ") && text.ends_with("\nboot\n"));
    }
}
