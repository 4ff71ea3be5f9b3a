//! Requests by feature: decode, call, reply. Rules are in `routes/` and `kv/`.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lists;
pub(crate) mod property;
pub(crate) mod route;
pub(crate) mod topics;
