//! A stand-in for the headnode: CNAPI, IMGAPI and VMAPI's provision call.
