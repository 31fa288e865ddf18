//! Functions that are called in the middle of a reply, on a scripted runner: when they fire, what follows them, how a
//! reply ends around them, who waits for them, and what is fed.

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod fed;
mod finding;
mod results;
mod setup;
mod waiting;
mod walk;
