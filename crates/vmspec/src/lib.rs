//! The language of vmadm: payload validation, defaults, updates, filters and tables; pure.
