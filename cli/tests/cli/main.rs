//! The program as its users meet it: the real binary, on small checkpoints made for the purpose. `harness` runs it; every
//! other module is one way to use it.

mod chat;
mod commands;
mod errors;
mod harness;
mod json;
mod signals;
mod terminal;
