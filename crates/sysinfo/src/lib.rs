//! What this machine is: the sysinfo document.
