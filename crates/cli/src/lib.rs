//! The operators' tools: vmadm, imgadm, sysinfo.
