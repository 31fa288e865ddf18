//! The methods of Python's values that templates call: those of dictionaries and lists here, those of strings in `strings`.
//! As in the sandbox of transformers, methods that change a list or a dictionary are refused.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::operators::{self, is_list, undefined};
use super::{invalid, python, strings, type_name};

const CHANGING: [&str; 12] = [
    "append",
    "extend",
    "insert",
    "remove",
    "pop",
    "clear",
    "sort",
    "reverse",
    "update",
    "setdefault",
    "popitem",
    "__setitem__",
];

/// Calls `value.name(arguments)`; the engine comes here for every method it does not know, which is all of them.
pub(super) fn call(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if name == "__slice__" {
        return operators::slice(state, value, arguments);
    }
    let arguments = Arguments::new(arguments)?;
    if let Some(text) = value.as_str() {
        return strings::call(state, text, name, &arguments);
    }
    match value.kind() {
        ValueKind::Undefined => Err(undefined(&format!("cannot call {name}() of"))),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable if CHANGING.contains(&name) && !has(value, name) => {
            Err(invalid(format!("a template must not change a {}: {name}() is not allowed", type_name(value))))
        }
        ValueKind::Map => dictionary(state, value, name, &arguments),
        _ if is_list(value) => list(state, value, name, &arguments),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => Err(unknown(value, name)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// A key of this name may hold something that can be called.
fn has(value: &Value, name: &str) -> bool {
    value.kind() == ValueKind::Map && value.get_attr(name).is_ok_and(|v| !v.is_undefined())
}

fn dictionary(state: &State, value: &Value, name: &str, arguments: &Arguments) -> Result<Value, Error> {
    match name {
        "get" => {
            let key = arguments.required(0, "key")?;
            let default = arguments.get(1, "default").unwrap_or(Value::from(()));
            arguments.end(2)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { default } else { found })
        }
        "items" | "keys" | "values" => {
            arguments.end(0)?;
            operators::charge_items(state, value.len().unwrap_or(0))?;
            let one = |key: Value| {
                let item = || value.get_item(&key).unwrap_or_default();
                match name {
                    "items" => python::Tuple::of(vec![key.clone(), item()]),
                    "values" => item(),
                    _ => key,
                }
            };
            Ok(value.try_iter()?.map(one).collect())
        }
        "copy" => Ok(value.clone()),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn list(state: &State, value: &Value, name: &str, arguments: &Arguments) -> Result<Value, Error> {
    operators::charge_items(state, value.len().unwrap_or(0))?;
    match name {
        "index" => {
            let wanted = arguments.required(0, "value")?;
            let at = value.try_iter()?.position(|item| item == wanted);
            at.map(Value::from).ok_or_else(|| invalid("index() of a value that is not in the list"))
        }
        "count" => {
            let wanted = arguments.required(0, "value")?;
            Ok(Value::from(value.try_iter()?.filter(|item| *item == wanted).count()))
        }
        "copy" => Ok(value.clone()),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// The error for a method that a value does not have.
pub(super) fn unknown(value: &Value, name: &str) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("a value of type {} has no method {name}()", type_name(value)))
}

/// The arguments of a call, by position or by name.
pub(super) struct Arguments {
    positional: Vec<Value>,
    named: Kwargs,
}

impl Arguments {
    pub(super) fn new(arguments: &[Value]) -> Result<Self, Error> {
        let (positional, named): (&[Value], Kwargs) = from_args(arguments)?;
        Ok(Self { positional: positional.to_vec(), named })
    }

    pub(super) fn all(&self) -> &[Value] {
        &self.positional
    }

    pub(super) fn named(&self) -> &Kwargs {
        &self.named
    }

    /// The argument at this place, or of this name.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<Value> {
        self.positional.get(at).cloned().or_else(|| self.named.get::<Option<Value>>(name).ok().flatten())
    }

    pub(super) fn required(&self, at: usize, name: &str) -> Result<Value, Error> {
        self.get(at, name).ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("argument {name:?}")))
    }

    /// A string; `none` counts as absent.
    pub(super) fn string(&self, at: usize, name: &str) -> Result<Option<String>, Error> {
        match self.get(at, name) {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(invalid(format!("argument {name:?} must be a string, found {}", type_name(&value)))),
            },
        }
    }

    pub(super) fn integer(&self, at: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.get(at, name) {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => match value.as_i64() {
                Some(n) => Ok(Some(n)),
                None => Err(invalid(format!("argument {name:?} must be an integer, found {}", type_name(&value)))),
            },
        }
    }

    pub(super) fn flag(&self, at: usize, name: &str) -> bool {
        self.get(at, name).is_some_and(|v| v.is_true())
    }

    /// Refuses more than `most` arguments by position, and names that nobody asked for.
    pub(super) fn end(&self, most: usize) -> Result<(), Error> {
        if self.positional.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.named.assert_all_used()
    }
}
