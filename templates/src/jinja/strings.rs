//! The methods of Python's strings. Positions count characters, as in Python; white space is what Python takes for it.

use minijinja::{Error, ErrorKind, State, Value};

use super::methods::{Arguments, unknown};
use super::operators::{charge, is_list};
use super::{invalid, python, type_name};

/// Calls `text.name(arguments)`.
pub(super) fn call(state: &State, text: &str, name: &str, arguments: &Arguments) -> Result<Value, Error> {
    let most;
    let result = match name {
        "strip" | "lstrip" | "rstrip" => {
            most = 1;
            let chars = arguments.string(0, "chars")?;
            Value::from(strip(text, chars.as_deref(), name != "rstrip", name != "lstrip"))
        }
        "split" | "rsplit" => {
            most = 2;
            let separator = arguments.string(0, "sep")?;
            let limit = arguments.integer(1, "maxsplit")?.and_then(|n| usize::try_from(n).ok());
            let parts = split(text, separator.as_deref(), limit, name == "rsplit")?;
            charge(state, text.len() + 32 * parts.len())?;
            parts.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            most = 1;
            lines(text, arguments.flag(0, "keepends")).map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            most = 1;
            let separator = arguments.required(0, "sep")?;
            Value::from(partition(text, separator.as_str().unwrap_or_default(), name == "rpartition")?)
        }
        "startswith" | "endswith" => {
            most = 3;
            let part = window(text, arguments)?.1;
            let wanted = arguments.required(0, "prefix")?;
            let fits = |wanted: &Value| match wanted.as_str() {
                Some(wanted) if name == "startswith" => Ok(part.starts_with(wanted)),
                Some(wanted) => Ok(part.ends_with(wanted)),
                None => Err(invalid(format!("{name}() takes strings, found {}", type_name(wanted)))),
            };
            let mut any = false;
            if is_list(&wanted) {
                for one in wanted.try_iter()? {
                    any |= fits(&one)?;
                }
            } else {
                any = fits(&wanted)?;
            }
            Value::from(any)
        }
        "find" | "index" | "rfind" | "rindex" | "count" => {
            most = 3;
            let (from, part) = window(text, arguments)?;
            let wanted = text_argument(arguments, 0, "sub")?;
            if name == "count" {
                let empty = part.chars().count() + 1;
                Value::from(if wanted.is_empty() { empty } else { part.matches(wanted.as_str()).count() })
            } else {
                let at = if name.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
                match at {
                    Some(at) => Value::from(from + part[..at].chars().count()),
                    None if name.ends_with("find") => Value::from(-1),
                    None => return Err(invalid(format!("{name}(): {wanted:?} is not in the string"))),
                }
            }
        }
        "replace" => {
            most = 3;
            let (old, new) = (text_argument(arguments, 0, "old")?, text_argument(arguments, 1, "new")?);
            let count = arguments.integer(2, "count")?.and_then(|n| usize::try_from(n).ok());
            Value::from(replace(state, text, &old, &new, count)?)
        }
        "removeprefix" => {
            most = 1;
            let prefix = text_argument(arguments, 0, "prefix")?;
            Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text))
        }
        "removesuffix" => {
            most = 1;
            let suffix = text_argument(arguments, 0, "suffix")?;
            Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text))
        }
        "join" => {
            most = 1;
            let mut out = String::new();
            for (i, item) in arguments.required(0, "iterable")?.try_iter()?.enumerate() {
                let item = item
                    .as_str()
                    .ok_or_else(|| invalid(format!("join(): item {i} is of type {}, not str", type_name(&item))))?;
                charge(state, text.len() + item.len())?;
                if i > 0 {
                    out.push_str(text);
                }
                out.push_str(item);
            }
            Value::from(out)
        }
        "format" => {
            most = usize::MAX;
            Value::from(format(state, text, arguments)?)
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            most = 2;
            Value::from(pad(state, text, name, arguments)?)
        }
        _ => {
            most = 0;
            simple(text, name).ok_or_else(|| unknown(&Value::from(text), name))?
        }
    };
    arguments.end(most)?;
    Ok(result)
}

/// Methods without arguments.
fn simple(text: &str, name: &str) -> Option<Value> {
    let all = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    let cased =
        |good: fn(char) -> bool, bad: fn(char) -> bool| Value::from(text.chars().any(good) && !text.chars().any(bad));
    Some(match name {
        "upper" => Value::from(text.to_uppercase()),
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalize(text)),
        "title" => Value::from(title(text)),
        "swapcase" => text
            .chars()
            .map(|c| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() })
            .collect::<String>()
            .into(),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(is_space),
        "isupper" => cased(char::is_uppercase, char::is_lowercase),
        "islower" => cased(char::is_lowercase, char::is_uppercase),
        _ => return None,
    })
}

/// What Python takes for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `strip` and its one-sided forms.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let stripped = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(stripped) } else { text };
    if right { text.trim_end_matches(stripped) } else { text }
}

pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Python's `replace`; an empty `old` stands between all characters.
pub(super) fn replace(state: &State, text: &str, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let times = count.map_or(found, |count| count.min(found));
    charge(state, text.len().saturating_add(times.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, times))
}

fn split<'a>(
    text: &'a str,
    separator: Option<&str>,
    limit: Option<usize>,
    from_right: bool,
) -> Result<Vec<&'a str>, Error> {
    let limit = limit.map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<&str> = match (separator, from_right) {
        (Some(""), _) => return Err(invalid("split(): the separator is empty")),
        (Some(separator), false) => return Ok(text.splitn(limit, separator).collect()),
        (Some(separator), true) => text.rsplitn(limit, separator).collect(),
        (None, _) => {
            let mut rest = strip(text, None, true, true);
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(cut) = cut.filter(|_| parts.len() + 1 < limit) else {
                    parts.push(rest);
                    break;
                };
                let width = rest[cut..].chars().next().map_or(1, char::len_utf8);
                if from_right {
                    parts.push(&rest[cut + width..]);
                    rest = strip(&rest[..cut], None, false, true);
                } else {
                    parts.push(&rest[..cut]);
                    rest = strip(&rest[cut..], None, true, false);
                }
            }
            // A limited split keeps the white space at the far end.
            if let (true, Some(last)) = (parts.len() == limit, parts.last_mut()) {
                let at = last.as_ptr() as usize - text.as_ptr() as usize;
                *last = if from_right { &text[..at + last.len()] } else { &text[at..] };
            }
            if !from_right {
                return Ok(parts);
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts)
}

/// Python's `splitlines`: more than line feeds end a line, and no empty line follows the last end.
pub(super) fn lines(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find(ends).unwrap_or(rest.len());
        let end = match rest[at..].chars().next() {
            Some('\r') if rest[at..].starts_with("\r\n") => at + 2,
            Some(c) => at + c.len_utf8(),
            None => at,
        };
        let line = &rest[..if keep_ends { end } else { at }];
        rest = &rest[end..];
        Some(line)
    })
}

fn partition(text: &str, separator: &str, from_right: bool) -> Result<Vec<String>, Error> {
    if separator.is_empty() {
        return Err(invalid("partition(): the separator is empty"));
    }
    let found = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(parts.map(str::to_owned).to_vec())
}

/// The part of the text that the arguments `start` and `end` leave, and where it begins.
fn window<'a>(text: &'a str, arguments: &Arguments) -> Result<(usize, &'a str), Error> {
    let (start, end) = (arguments.integer(1, "start")?, arguments.integer(2, "end")?);
    if start.is_none() && end.is_none() {
        return Ok((0, text));
    }
    let length = text.chars().count() as i64;
    let place = |n: i64| (if n < 0 { n.saturating_add(length) } else { n }).clamp(0, length) as usize;
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
    let byte = |n| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    Ok((start, text.get(byte(start)..byte(end)).unwrap_or_default()))
}

fn text_argument(arguments: &Arguments, at: usize, name: &str) -> Result<String, Error> {
    let missing = || Error::new(ErrorKind::MissingArgument, format!("argument {name:?}"));
    arguments.string(at, name)?.ok_or_else(missing)
}

fn pad(state: &State, text: &str, name: &str, arguments: &Arguments) -> Result<String, Error> {
    let width = usize::try_from(arguments.integer(0, "width")?.unwrap_or(0)).unwrap_or(0);
    charge(state, width)?;
    let fill = arguments.string(1, "fillchar")?.and_then(|f| f.chars().next()).unwrap_or(' ');
    let missing = width.saturating_sub(text.chars().count());
    let run = |c: char, n: usize| std::iter::repeat_n(c, n).collect::<String>();
    Ok(match name {
        "ljust" => text.to_owned() + &run(fill, missing),
        "rjust" => run(fill, missing) + text,
        "zfill" => {
            let sign = text.len() - text.strip_prefix(['-', '+']).unwrap_or(text).len();
            format!("{}{}{}", &text[..sign], run('0', missing), &text[sign..])
        }
        _ => {
            let left = missing / 2 + (missing & width & 1);
            run(fill, left) + text + &run(fill, missing - left)
        }
    })
}

/// Python's `format` with the fields `{}`, `{0}` and `{name}`; format specifications are not supported.
fn format(state: &State, text: &str, arguments: &Arguments) -> Result<String, Error> {
    let mut out = String::new();
    let mut next = 0;
    let mut by_number = false;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        let (field, after) = rest
            .split_once('}')
            .filter(|_| brace == "{")
            .ok_or_else(|| invalid("format(): a brace without its partner"))?;
        rest = after;
        let index = if field.is_empty() {
            next += 1;
            Some(next - 1)
        } else {
            field.parse().ok().inspect(|_: &usize| by_number = true)
        };
        if next > 0 && by_number {
            return Err(invalid("format(): fields with and without numbers do not mix"));
        }
        let value = match index {
            Some(index) => arguments.all().get(index).cloned(),
            None => arguments.named().get::<Option<Value>>(field).ok().flatten(),
        };
        let value = value.ok_or_else(|| invalid(format!("format(): no argument for {{{field}}}")))?;
        let value = python::to_str(&value)?;
        charge(state, value.len())?;
        out.push_str(&value);
    }
    Ok(out + rest)
}
