//! LXC: rendering of container configs and the few calls of liblxc.
