//! A dataset that a guest manages itself (instances.md section 7.6), on a booted node: ZFS keeps it to that guest.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod node_only {
    use std::{fs, process::Command};

    use serde_json::json;
    use triton_e2e::{Node, Outcome, assert_no_trace};

    fn zfs(args: &[&str]) -> Outcome {
        Command::new("zfs").args(args).output().unwrap().into()
    }

    /// The node's `zfs`, run as the guest's root: in its user namespace, with the node's programs.
    fn as_guest(node: &Node, uuid: &str, args: &[&str]) -> Outcome {
        let pid = node.get(uuid)["pid"].to_string();
        Command::new("nsenter").args(["-t", &pid, "-U", "-S", "0", "-G", "0", "--", "zfs"]).args(args).output().unwrap().into()
    }

    #[test]
    fn a_guest_manages_its_dataset_and_no_other() {
        let node = Node::with_image("delegate");
        assert!(node.is_machine(), "this is no compute node");
        let before = node.traces();
        let mut payload = node.payload(5);
        payload["delegate_dataset"] = json!(true);
        payload["zfs_data_compression"] = json!("lz4");
        let uuid = node.create(&payload);
        let other = node.create(&payload_of(&node, 6, true));
        let plain = node.create(&payload_of(&node, 7, false));
        let own = format!("zones/{uuid}/data");
        assert_eq!(node.get(&uuid)["datasets"], json!([own]));
        let properties = zfs(&["get", "-H", "-o", "value", "zoned,compression,mounted", &own]).ok();
        assert_eq!(properties.stdout, "on\nlz4\nno\n");

        // It makes, mounts, fills and snapshots what is below it.
        let inner = format!("{own}/inner");
        as_guest(&node, &uuid, &["create", "-o", "mountpoint=legacy", &inner]).ok();
        as_guest(&node, &uuid, &["snapshot", &format!("{own}@mine")]).ok();
        let said = node.guest(&uuid, &format!("mkdir -p /mnt && mount -t zfs {inner} /mnt && echo kept > /mnt/file && cat /mnt/file"));
        assert_eq!(said, "kept\n");

        // What is of others it neither sees nor changes; the node's own least of all.
        let listed = as_guest(&node, &uuid, &["list", "-H", "-r", "-o", "name", "zones"]).ok().stdout;
        let expected = ["zones".to_owned(), format!("zones/{uuid}"), own.clone(), inner.clone()];
        assert!(listed.lines().eq(expected.iter().map(String::as_str)), "a guest sees {listed}");
        for refused in [
            &["create", &format!("zones/{other}/data/evil")][..],
            &["snapshot", &format!("zones/{uuid}@evil")],
            &["destroy", "-r", &format!("zones/{other}")],
            &["set", "quota=none", &format!("zones/{uuid}")],
            &["set", "zoned=off", &own],
            &["destroy", "-r", &own],
        ] {
            assert_ne!(as_guest(&node, &uuid, refused).code, Some(0), "{refused:?} was done");
        }
        assert!(node.guest(&plain, "ls /dev").lines().all(|name| name != "zfs"), "whoever has no dataset has no way to ZFS");
        assert_ne!(as_guest(&node, &plain, &["create", &format!("{own}/evil")]).code, Some(0));

        // A boot has another namespace: it is given its dataset anew, with all that is in it.
        node.vmadm(&["reboot", &uuid, "-F"]).ok();
        let said = node.guest(&uuid, &format!("mount -t zfs {inner} /mnt && cat /mnt/file"));
        assert_eq!(said, "kept\n");
        assert!(node.vmadm(&["create-snapshot", &uuid, "no"]).stderr.contains("datasets"), "a snapshot would be without the dataset");
        node.vmadm(&["update", &uuid, "zfs_data_compression=gzip"]).ok();
        assert_eq!(zfs(&["get", "-H", "-o", "value", "compression", &own]).ok().stdout, "gzip\n");

        // A hold that somebody puts by hand protects, and is shown; released, neither (section 6.6).
        let install = format!("zones/{plain}@install");
        zfs(&["hold", "mine", &install]).ok();
        assert_eq!(node.get(&plain)["indestructible_zoneroot"], json!(true));
        assert!(node.vmadm(&["delete", &plain]).stderr.contains("indestructible_zoneroot"), "a hold protects");
        zfs(&["release", "mine", &install]).ok();
        assert_eq!(node.get(&plain).get("indestructible_zoneroot"), None);

        for uuid in [&uuid, &other, &plain] {
            node.vmadm(&["delete", uuid]).ok();
        }
        assert!(fs::exists("/dev/zfs").unwrap());
        assert_no_trace(&node, &before);
    }

    fn payload_of(node: &Node, host: u8, delegated: bool) -> serde_json::Value {
        let mut payload = node.payload(host);
        payload["delegate_dataset"] = json!(delegated);
        payload
    }
}
