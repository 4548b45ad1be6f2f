//! Private volumes in directories.

use super::*;

/// instances section 2.5
#[test]
fn a_volume_is_made_once_kept_with_the_root_and_gone_with_the_instance() {
    let node = Node::new("volumes");
    let (image, volume) = (node.image(), triton_types::VolumeUuid::random());
    let instance = node.instance(image);
    let path = node.storage.make_volume(instance, volume).unwrap();
    assert_eq!(path, node.pool().join(format!("{instance}/volumes/{volume}")));
    fs::write(path.join("file"), "one").unwrap();
    assert_eq!(node.storage.make_volume(instance, volume).unwrap(), path);
    node.storage.mount_instance(instance).unwrap();
    node.storage.make_durable(instance).unwrap();
    node.storage.snapshot(instance, &label("s")).unwrap();
    fs::write(path.join("file"), "two").unwrap();
    node.storage.rollback(instance, &label("s")).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "one");
    node.storage.replace_root(instance, node.image(), &CloneOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "one");
    node.storage.destroy_instance(instance).unwrap();
    assert!(!path.exists());
    assert!(matches!(node.storage.make_volume(instance, volume), Err(StorageError::NotFound { .. })));
    assert!(node.storage.make_durable(instance).is_err(), "what is not there is not durable");
}

/// instances section 2.5: a copy from elsewhere has its volumes in it.
#[test]
fn a_received_instance_has_its_volumes_from_the_stream() {
    let node = Node::new("volumes-received");
    let (instance, volume) = (InstanceUuid::random(), triton_types::VolumeUuid::random());
    let mut fill = |path: &Path| -> Result<(), StorageError> {
        for directory in ["root", "config", "volumes", &format!("volumes/{volume}")] {
            fs::create_dir(path.join(directory)).unwrap();
        }
        fs::write(path.join(format!("volumes/{volume}/file")), "theirs").unwrap();
        Ok(())
    };
    node.storage.create_instance(instance, &CloneOptions::default(), &[volume], &mut fill).unwrap();
    let path = node.storage.make_volume(instance, volume).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "theirs");
}
