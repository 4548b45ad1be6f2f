//! The operators' tools: vmadm, imgadm, sysinfo.

pub mod imgadm;
pub mod vmadm;
