//! OpenZFS: pools, datasets, snapshots, send and receive.
