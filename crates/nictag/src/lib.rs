//! NIC tags and the bridges that carry them.
