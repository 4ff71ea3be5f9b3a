//! Tests of every transport. `crate::SECURED` says which one the test's crate uses.

mod echo;
mod flow;
mod peer;
