//! Clients and wire types of the headnode's APIs.
