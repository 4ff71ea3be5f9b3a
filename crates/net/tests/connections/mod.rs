//! What holds for every connection, whatever its transport: `crate::SECURED` says which one the test's crate has.

mod echo;
mod flow;
mod peer;
