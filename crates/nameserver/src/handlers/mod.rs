//! Requests by feature: decode, call, reply. Nothing is decided here that another caller would have to decide again.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lists;
pub(crate) mod property;
pub(crate) mod route;
pub(crate) mod topics;
