//! The operators of Python's values as functions that rewritten templates call: `+`, `~`, `*`, `%` and slices, and `range`.
//! All that they make is counted, so that a template cannot fill the memory by doubling a string.

use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Object, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{invalid, python, too_much, type_name};

/// Bytes that one rendering may make, intermediate strings and lists included.
const MAX_WORK: usize = 256 << 20;
/// Python's sandbox allows ranges up to this length.
const MAX_RANGE: i64 = 100_000;
/// What an item of a list counts for.
const ITEM: usize = 16;

/// Registers the functions.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_function("__add__", |state: &State, values: Rest<Value>| fold(state, &values, add));
    env.add_function("__mul__", |state: &State, values: Rest<Value>| fold(state, &values, mul));
    env.add_function("__mod__", |state: &State, values: Rest<Value>| fold(state, &values, modulo));
    env.add_function("__concat__", concat);
    env.add_function("__keep__", keep);
    env.add_function("range", range);
}

/// Counts `bytes` against what this rendering may make.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    let work = state.get_or_set_temp_object("work", Work::default);
    if work.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > MAX_WORK {
        return Err(too_much(format!("it made more than {} MiB of text and lists", MAX_WORK >> 20)));
    }
    Ok(())
}

/// Counts a list of this many items.
pub(super) fn charge_items(state: &State, items: usize) -> Result<(), Error> {
    charge(state, items.saturating_mul(ITEM))
}

#[derive(Debug, Default)]
struct Work(AtomicUsize);

impl Object for Work {}

/// An error about an undefined value; Jinja2 refuses all of these too.
pub(super) fn undefined(what: &str) -> Error {
    Error::new(ErrorKind::UndefinedError, format!("{what} an undefined value"))
}

type Operator = fn(&State, &Value, &Value) -> Result<Value, Error>;

fn fold(state: &State, values: &[Value], operator: Operator) -> Result<Value, Error> {
    let Some((first, rest)) = values.split_first() else {
        return Err(invalid("an operator without operands"));
    };
    rest.iter().try_fold(first.clone(), |left, right| operator(state, &left, right))
}

fn concat(state: &State, values: Rest<Value>) -> Result<String, Error> {
    let mut out = String::new();
    for value in values.iter() {
        match value.as_str() {
            Some(text) => {
                charge(state, text.len())?;
                out.push_str(text);
            }
            None => {
                let text = python::to_str(value)?;
                charge(state, text.len())?;
                out.push_str(&text);
            }
        }
    }
    Ok(out)
}

fn add(state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        charge(state, a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    if is_list(a) && is_list(b) {
        let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        charge_items(state, items.len())?;
        return Ok(Value::from(items));
    }
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => a.apply(b, i128::checked_add, |a, b| a + b),
        _ => Err(unsupported("+", a, b)),
    }
}

fn mul(state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    let count = |n: &Value| n.as_i64().map(|n| usize::try_from(n).unwrap_or(0));
    for (thing, times) in [(a, b), (b, a)] {
        let Some(times) = count(times) else { continue };
        if let Some(text) = thing.as_str() {
            charge(state, text.len().saturating_mul(times))?;
            return Ok(Value::from(text.repeat(times)));
        }
        if is_list(thing) {
            let items: Vec<Value> = thing.try_iter()?.collect();
            charge_items(state, items.len().saturating_mul(times))?;
            return Ok((0..times).flat_map(|_| items.iter().cloned()).collect());
        }
    }
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => a.apply(b, i128::checked_mul, |a, b| a * b),
        _ => Err(unsupported("*", a, b)),
    }
}

/// The remainder, with the sign of the divisor; after a string, Python's old way to format.
fn modulo(state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    if a.as_str().is_some() {
        let mut arguments = vec![a.clone()];
        if is_list(b) {
            arguments.extend(b.try_iter()?);
        } else {
            arguments.push(b.clone());
        }
        return state.apply_filter("format", &arguments);
    }
    match (Number::of(a), Number::of(b)) {
        (Some(_), Some(Number::Int(0))) => Err(invalid("integer modulo by zero")),
        (Some(a), Some(b)) => a.apply(
            b,
            |a, b| a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            |a, b| a - b * (a / b).floor(),
        ),
        _ => Err(unsupported("%", a, b)),
    }
}

/// What an assignment does to a value. Variables are the only way to carry a value from one turn of a loop to the next, so
/// here is where a template could pile up lists in lists, or views of views, until the stack is too small to drop them.
fn keep(state: &State, value: Value) -> Result<Value, Error> {
    let mut visited = 0;
    nesting(&value, 0, &mut visited)?;
    charge_items(state, visited)?;
    if value.kind() == ValueKind::Iterable {
        return Ok(value.try_iter()?.collect());
    }
    Ok(value)
}

fn nesting(value: &Value, depth: usize, visited: &mut usize) -> Result<(), Error> {
    if depth > python::MAX_DEPTH {
        return Err(too_much(format!("it builds values nested more than {} deep", python::MAX_DEPTH)));
    }
    if *visited > MAX_WORK / ITEM {
        return Err(too_much("it builds values that are too large".to_owned()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                *visited += 1;
                nesting(&item, depth + 1, visited)?;
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                *visited += 1;
                nesting(&value.get_item(&key)?, depth + 1, visited)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn range(state: &State, first: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    let (start, stop) = (i128::from(start), i128::from(stop));
    let length = match i128::from(step) {
        0 => return Err(invalid("the step of a range must not be zero")),
        step if step > 0 => (stop - start + step - 1).div_euclid(step),
        step => (start - stop - step - 1).div_euclid(-step),
    }
    .max(0);
    if length > i128::from(MAX_RANGE) {
        return Err(too_much(format!("it asks for a range of {length} numbers; {MAX_RANGE} are allowed")));
    }
    charge_items(state, length as usize)?;
    Ok((0..length).map(|i| integer(start + i * i128::from(step))).collect())
}

/// `value[start:stop:step]` as Python counts.
pub(super) fn slice(state: &State, value: &Value, bounds: &[Value]) -> Result<Value, Error> {
    let bound = |at: usize| match bounds.get(at) {
        None => Ok(None),
        Some(value) if value.is_none() => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| invalid(format!("slice indices must be integers or none, found {}", type_name(value)))),
    };
    let (start, stop, step) = (bound(0)?, bound(1)?, bound(2)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("the step of a slice must not be zero"));
    }
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        let picked: String = indices(chars.len(), start, stop, step).map(|i| chars[i]).collect();
        charge(state, picked.len())?;
        return Ok(Value::from(picked));
    }
    if is_list(value) {
        let items: Vec<Value> = value.try_iter()?.collect();
        charge_items(state, items.len())?;
        return Ok(indices(items.len(), start, stop, step).map(|i| items[i].clone()).collect());
    }
    if value.is_undefined() {
        return Err(undefined("cannot slice"));
    }
    if value.kind() == ValueKind::Map {
        return Err(invalid("a dict cannot be sliced"));
    }
    // What has no items has no such item, and that is undefined.
    Ok(Value::UNDEFINED)
}

/// The positions of a slice in a sequence of this length: Python's `slice.indices`.
fn indices(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i128;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |bound: i64| {
        let bound = i128::from(bound);
        (if bound < 0 { bound + length } else { bound }).clamp(low, high)
    };
    let first = start.map_or(if step > 0 { low } else { high }, place);
    let end = stop.map_or(if step > 0 { high } else { low }, place);
    let step = i128::from(step);
    let mut at = first;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < end } else { at > end };
        let here = inside.then_some(at as usize);
        at += step;
        here
    })
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Int(value.is_true().into())),
            ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Self::Int),
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Float),
            _ => None,
        }
    }

    fn apply(
        self,
        other: Self,
        int: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Result<Value, Error> {
        let as_float = |n| match n {
            Self::Int(n) => n as f64,
            Self::Float(x) => x,
        };
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => int(a, b).map(integer).ok_or_else(|| invalid("a number that is too large")),
            (a, b) => Ok(Value::from(float(as_float(a), as_float(b)))),
        }
    }
}

fn integer(n: i128) -> Value {
    i64::try_from(n).map_or_else(|_| Value::from(n), Value::from)
}

pub(super) fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn unsupported(sign: &str, a: &Value, b: &Value) -> Error {
    if a.is_undefined() || b.is_undefined() {
        return undefined(&format!("{sign} does not work with"));
    }
    invalid(format!("{sign} does not work with {} and {}", type_name(a), type_name(b)))
}
