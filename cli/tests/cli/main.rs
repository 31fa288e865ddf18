//! The program as its users meet it: the real binary, on small checkpoints made for the purpose. `harness` runs it; every
//! other module is one way to use it.

mod chat;
mod commands;
mod constraint;
mod cuda;
mod defects;
mod errors;
mod functions;
mod harness;
mod history;
mod json;
mod session;
mod signals;
mod smollm2;
#[allow(dead_code)] // it can do more than is needed here
#[path = "../../../models/tests/stand_in/mod.rs"]
mod stand_in;
mod templates;
mod terminal;
mod tools;
