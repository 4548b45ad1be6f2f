//! Words of Triton: ids, states, the VM object, NICs, image manifests; no I/O.
