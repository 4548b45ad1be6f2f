//! The operators' tools: vmadm, imgadm, nictagadm, fwadm, sysinfo, cn-setup; and triton-netconf, which boots use.

pub mod fwadm;
pub mod imgadm;
pub mod netconf;
pub mod nictagadm;
pub mod setup;
pub mod vmadm;
