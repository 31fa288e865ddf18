//! The filters and tests in which minijinja differs from Jinja2 where templates can tell, and `tojson` as transformers
//! defines it. Filters that behave alike stay minijinja's own.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, State, Value};

use super::methods::Arguments;
use super::operators::{charge, charge_items, is_list};
use super::python::{self, JsonStyle};
use super::{invalid, strings, type_name};

/// Registers filters and tests.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: &Value| python::to_str(value));
    env.add_filter("trim", |value: &Value, chars: Option<&str>| -> Result<String, Error> {
        Ok(strings::strip(&python::to_str(value)?, chars, true, true).to_owned())
    });
    env.add_filter("upper", |value: &Value| Ok::<_, Error>(python::to_str(value)?.to_uppercase()));
    env.add_filter("lower", |value: &Value| Ok::<_, Error>(python::to_str(value)?.to_lowercase()));
    env.add_filter("capitalize", |value: &Value| Ok::<_, Error>(strings::capitalize(&python::to_str(value)?)));
    env.add_filter("title", |value: &Value| Ok::<_, Error>(title(&python::to_str(value)?)));
    env.add_filter("wordcount", |value: &Value| Ok::<_, Error>(words(&python::to_str(value)?)));
    env.add_filter("escape", escape);
    env.add_filter("e", escape);
    env.add_filter("replace", replace);
    env.add_filter("join", join);
    env.add_filter("indent", indent);
    env.add_filter("batch", batch);
    env.add_filter("slice", slices);
    env.add_filter("format", format);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("list", list);
    env.add_filter("items", items);
    env.add_filter("round", round);
    env.add_filter("float", |value: &Value, default: Option<f64>| to_float(value).unwrap_or(default.unwrap_or(0.0)));
    env.add_filter("int", |value: &Value, default: Option<i64>| {
        let text = value.as_str().map(str::trim).and_then(|text| text.parse().ok());
        text.or_else(|| to_float(value).map(|x| x as i64)).unwrap_or(default.unwrap_or(0))
    });

    env.add_test("sequence", |value: &Value| {
        is_list(value) || matches!(value.kind(), ValueKind::String | ValueKind::Map)
    });
    env.add_test("iterable", |value: &Value| {
        is_list(value) || matches!(value.kind(), ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    env.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as in transformers: nothing is escaped for HTML.
fn tojson(state: &State, value: &Value, arguments: Rest<Value>) -> Result<String, Error> {
    let arguments = Arguments::new(&arguments)?;
    let indent = match arguments.get(1, "indent") {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => match (value.as_str(), value.as_i64()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) => Some(" ".repeat(usize::try_from(width).unwrap_or(0).min(64))),
            _ => return Err(invalid(format!("tojson: indent is of type {}", type_name(&value)))),
        },
    };
    let separators = match arguments.get(2, "separators") {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => {
            let (item, key) = (value.get_item_by_index(0)?, value.get_item_by_index(1)?);
            match (item.as_str(), key.as_str()) {
                (Some(item), Some(key)) => Some((item.to_owned(), key.to_owned())),
                _ => return Err(invalid("tojson: separators must be two strings")),
            }
        }
    };
    let style = JsonStyle {
        indent,
        separators,
        sort_keys: arguments.flag(3, "sort_keys"),
        ensure_ascii: arguments.flag(0, "ensure_ascii"),
    };
    arguments.end(4)?;
    let text = style.dumps(value)?;
    charge(state, text.len())?;
    Ok(text)
}

/// Jinja's own `title`: words begin after white space, a hyphen or an opening bracket, and nowhere else.
fn title(text: &str) -> String {
    let begins = |c: char| strings::is_space(c) || "-({[<".contains(c);
    text.split_inclusive(begins).map(strings::capitalize).collect()
}

fn words(text: &str) -> usize {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

fn escape(value: &Value) -> Result<String, Error> {
    let text = python::to_str(value)?;
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(text.replace('\'', "&#39;").replace('"', "&#34;"))
}

fn replace(state: &State, value: &Value, old: &Value, new: &Value, count: Option<usize>) -> Result<String, Error> {
    let [value, old, new] = [python::to_str(value)?, python::to_str(old)?, python::to_str(new)?];
    strings::replace(state, &value, &old, &new, count)
}

fn join(
    state: &State,
    value: &Value,
    between: Option<&Value>,
    attribute: Option<&Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let between = match between {
        Some(between) => python::to_str(between)?,
        None => named.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute = attribute.cloned().or(named.get::<Option<Value>>("attribute")?).filter(|a| !a.is_none());
    named.assert_all_used()?;
    let mut out = String::new();
    if value.is_undefined() {
        return Ok(out);
    }
    for (i, item) in value.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(name) => item.get_item(name)?,
            None => item,
        };
        let text = python::to_str(&item)?;
        charge(state, between.len() + text.len())?;
        if i > 0 {
            out.push_str(&between);
        }
        out.push_str(&text);
    }
    Ok(out)
}

/// Jinja's `indent(width=4, first=False, blank=False)`.
fn indent(state: &State, value: &Value, arguments: Rest<Value>) -> Result<String, Error> {
    let arguments = Arguments::new(&arguments)?;
    let prefix = match arguments.get(0, "width") {
        None => "    ".to_owned(),
        Some(width) => match (width.as_str(), width.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(width)) => {
                charge(state, width)?;
                " ".repeat(width)
            }
            _ => return Err(invalid(format!("indent: width is of type {}", type_name(&width)))),
        },
    };
    let (first, blank) = (arguments.flag(1, "first"), arguments.flag(2, "blank"));
    arguments.end(3)?;
    // As in Jinja2: the text gets one more line end, so that a last empty line counts.
    let text = python::to_str(value)? + "\n";
    let mut out = String::new();
    for (i, line) in strings::lines(&text, false).enumerate() {
        charge(state, prefix.len() + line.len())?;
        if i > 0 {
            out.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// `batch(linecount, fill_with=None)`: lists of so many items.
fn batch(state: &State, value: &Value, size: usize, fill: Option<Value>) -> Result<Value, Error> {
    if size == 0 {
        return Err(invalid("batch: the size must not be zero"));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let mut batches: Vec<Vec<Value>> = items.chunks(size).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(last)) = (fill.filter(|f| !f.is_none()), batches.last_mut()) {
        charge_items(state, size)?;
        last.resize(size, fill);
    }
    charge_items(state, items.len())?;
    Ok(batches.into_iter().map(Value::from).collect())
}

/// `slice(slices, fill_with=None)`: so many lists, the longer ones first.
fn slices(state: &State, value: &Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    if count == 0 {
        return Err(invalid("slice: the number of lists must not be zero"));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    charge_items(state, items.len().saturating_add(count))?;
    let (length, longer) = (items.len() / count, items.len() % count);
    let mut rest = items.as_slice();
    let one = |i: usize| {
        let (head, tail) = rest.split_at(length + usize::from(i < longer));
        rest = tail;
        let mut list = head.to_vec();
        list.extend(fill.clone().filter(|fill| longer > 0 && i >= longer && !fill.is_none()));
        Value::from(list)
    };
    Ok((0..count).map(one).collect())
}

/// The engine's `format`, after a look at the widths it is asked for: it would allocate any of them.
fn format(state: &State, text: &str, arguments: Rest<Value>) -> Result<Value, Error> {
    for digits in text.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() > 3) {
        charge(state, digits.parse().unwrap_or(usize::MAX))?;
    }
    minijinja::filters::format(state, &Value::from(text), arguments)
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    match value.len() {
        Some(length) => Ok(length),
        None if is_list(value) => Ok(value.try_iter()?.count()),
        None => Err(invalid(format!("a value of type {} has no length", type_name(value)))),
    }
}

fn list(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    charge_items(state, items.len())?;
    Ok(Value::from(items))
}

fn items(state: &State, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Map => super::methods::call(state, value, "items", &[]),
        _ => Err(invalid(format!("items: a value of type {} is no dict", type_name(value)))),
    }
}

/// `round(precision=0, method='common')`; common means Python's, where halves go to the even neighbour.
fn round(value: &Value, arguments: Rest<Value>) -> Result<Value, Error> {
    let arguments = Arguments::new(&arguments)?;
    let precision = arguments.integer(0, "precision")?.unwrap_or(0).clamp(-300, 300) as i32;
    let method = arguments.string(1, "method")?;
    arguments.end(2)?;
    let number = to_float(value).filter(|_| value.as_str().is_none());
    let x = number.ok_or_else(|| invalid(format!("round: a value of type {} is no number", type_name(value))))?;
    let scale = 10f64.powi(precision);
    Ok(match (method.as_deref().unwrap_or("common"), precision) {
        ("ceil", _) => Value::from((x * scale).ceil() / scale),
        ("floor", _) => Value::from((x * scale).floor() / scale),
        ("common", 0..) if value.is_integer() => value.clone(),
        ("common", 0..) => Value::from(format!("{x:.*}", precision as usize).parse().unwrap_or(x)),
        ("common", _) if value.is_integer() => Value::from(((x * scale).round_ties_even() / scale).round() as i64),
        ("common", _) => Value::from((x * scale).round_ties_even() / scale),
        (other, _) => return Err(invalid(format!("round: no method {other:?}; there are common, ceil and floor"))),
    })
}

fn to_float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    }
}
