//! Instances: create, start, stop, reboot, kill, delete, look up, watch.
