//! Scenarios on real kernels, and the harness that they share.
