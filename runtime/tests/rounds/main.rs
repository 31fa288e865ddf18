//! Rounds of a chat on a scripted engine, which notes what it is asked, and on a scripted model: what is asked for when,
//! what the messages are afterwards, and what a stop, a failure or a bad function leaves.

mod bad;
#[path = "../common/mod.rs"]
mod common;
mod concurrent;
mod ends;
mod hooks;
mod local;
mod plain;
mod room;
mod script;
