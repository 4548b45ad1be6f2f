//! Files of a compute node: layout below a root, atomic replacement, locks, link-safe writes below a guest's root.
