//! Looking for messages: by key or unique key (12), by id (33).
//!
//! Both answer stored records as they are, one after another. Both may read from the disk: they are for people, not for the
//! way of a message.

pub mod handler;
