//! The program as its users meet it: the real binary, on small checkpoints made for the purpose. `harness` runs it; every
//! other module is one way to use it.

mod cache;
mod chat;
mod commands;
mod constraint;
mod cuda;
mod defects;
mod engine;
mod errors;
mod functions;
mod harness;
mod history;
mod json;
mod quantize;
#[allow(dead_code)] // it can do more than is needed here
#[path = "../../../runtime/remote/tests/remote/stand_in.rs"]
mod server;
mod session;
mod signals;
mod smollm2;
#[allow(dead_code)] // it can do more than is needed here
#[path = "../../../models/tests/stand_in/mod.rs"]
mod stand_in;
#[path = "../../../runtime/remote/tests/remote/strict.rs"]
mod strict;
mod templates;
mod terminal;
mod tools;
