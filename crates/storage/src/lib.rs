//! Datasets of images and instances: ZFS, or plain directories.
