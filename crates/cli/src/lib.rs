//! The operators' tools: vmadm, imgadm, sysinfo.

pub mod vmadm;
