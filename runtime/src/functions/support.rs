//! What the code that macros write calls. Not for people.

use super::argument::not;
use super::literal::written;
use super::{BotFunction, BotFunctions};
pub use serde_json::Value;
use serde_json::json;

/// The schema of an enum.
pub fn choice(names: &[&str]) -> Value {
    json!({"type": "string", "enum": names})
}

/// The error for a value that is none of an enum's.
pub fn no_choice(names: &[&str], value: &Value) -> String {
    let names: Vec<String> = names.iter().map(|name| written(&(*name).into())).collect();
    not(&format!("one of {}", names.join(", ")), value)
}

/// Stops the compiler at a name that comes twice.
pub const fn distinct(names: &[&str]) {
    let mut i = 0;
    while i < names.len() {
        let mut j = i + 1;
        while j < names.len() {
            assert!(!same(names[i].as_bytes(), names[j].as_bytes()), "two functions have the same name");
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// A set of functions whose names the compiler has seen.
pub fn functions(list: Vec<BotFunction>) -> BotFunctions {
    BotFunctions::new(list).expect("names are checked when they are compiled")
}
