//! Arguments of a call as literals: Python's, and the words that JSON has for them. Nothing is evaluated, and nothing
//! that a model writes makes this panic. What the arguments are bound to is the business of `function`.

use serde_json::{Map, Number, Value};

/// Deeper nests are refused: they would use up the stack.
const DEPTH: usize = 64;

/// The arguments of one call, as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Literals {
    pub(crate) positional: Vec<Value>,
    pub(crate) keywords: Vec<(String, Value)>,
}

/// Why a text is no list of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It ends too early; more text could make it one.
    End,
    /// No text that follows could help. A phrase that says why.
    Wrong(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::End => f.write_str("the arguments end too early"),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

type Result<T> = std::result::Result<T, Problem>;

/// Reads what stands between the parentheses of a call.
pub(crate) fn arguments(text: &str) -> Result<Literals> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let mut found = Literals::default();
    loop {
        parser.space();
        if parser.is_at_end() {
            return Ok(found);
        }
        match parser.keyword() {
            Some(name) => {
                let value = parser.value()?;
                found.keywords.push((name, value));
            }
            None if found.keywords.is_empty() => found.positional.push(parser.value()?),
            None => {
                parser.value()?;
                return Err(Problem::Wrong("an argument without a name follows one with a name".into()));
            }
        }
        parser.space();
        if !parser.is_at_end() {
            parser.expect(',', "',' between arguments")?;
        }
    }
}

/// A value as Python would write it.
pub(crate) fn written(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Array(items) => format!("[{}]", list(items.iter().map(written).collect())),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("{}: {}", Value::from(key.as_str()), written(value));
            format!("{{{}}}", list(map.iter().map(pair).collect()))
        }
        Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Result<char> {
        let next = self.peek().ok_or(Problem::End)?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn take(&mut self, what: char) -> bool {
        let there = self.peek() == Some(what);
        if there {
            self.at += what.len_utf8();
        }
        there
    }

    fn take_while(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn expect(&mut self, what: char, wanted: &str) -> Result<()> {
        self.space();
        if self.take(what) { Ok(()) } else { Err(self.wrong(&format!("{wanted} is expected"))) }
    }

    /// An error at this place, which shows what is found here.
    fn wrong(&self, why: &str) -> Problem {
        if self.is_at_end() {
            return Problem::End;
        }
        let shown: String = self.rest().chars().take(20).collect();
        Problem::Wrong(format!("{why} before {shown:?}"))
    }

    /// The name of an argument and its `=`, if that is what comes next.
    fn keyword(&mut self) -> Option<String> {
        let start = self.at;
        let name = self.take_while(is_word);
        self.space();
        let named = name.starts_with(|c: char| !c.is_ascii_digit()) && !self.rest().starts_with("==") && self.take('=');
        if !named {
            self.at = start;
        }
        named.then(|| name.to_owned())
    }

    fn value(&mut self) -> Result<Value> {
        self.space();
        let Some(first) = self.peek() else { return Err(Problem::End) };
        match first {
            '\'' | '"' => self.strings(false).map(Value::from),
            '[' | '(' | '{' => self.nested(first),
            '0'..='9' | '.' | '-' | '+' => self.number(),
            c if is_word(c) => self.word(),
            _ => Err(self.wrong("a literal is expected")),
        }
    }

    fn nested(&mut self, bracket: char) -> Result<Value> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Problem::Wrong(format!("brackets are nested more than {DEPTH} deep")));
        }
        let value = match bracket {
            '{' => self.dict()?,
            '[' => Value::Array(self.items(']')?.0),
            _ => match self.items(')')? {
                // Parentheses around one value are no tuple.
                (mut items, false) if items.len() == 1 => items.remove(0),
                (items, _) => Value::Array(items),
            },
        };
        self.depth -= 1;
        Ok(value)
    }

    /// Values up to the bracket, and whether a comma follows the last.
    fn items(&mut self, end: char) -> Result<(Vec<Value>, bool)> {
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.space();
            if self.take(end) {
                return Ok((items, comma));
            }
            if !items.is_empty() && !comma {
                return Err(self.wrong(&format!("',' or '{end}' is expected")));
            }
            items.push(self.value()?);
            self.space();
            comma = self.take(',');
        }
    }

    fn dict(&mut self) -> Result<Value> {
        let mut map = Map::new();
        loop {
            self.space();
            if self.take('}') {
                return Ok(Value::Object(map));
            }
            let Value::String(key) = self.value()? else {
                return Err(Problem::Wrong("a key of a dict is no string".into()));
            };
            self.expect(':', "':' after a key")?;
            let value = self.value()?;
            map.insert(key, value);
            self.space();
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.wrong("',' or '}' is expected"));
            }
        }
    }

    fn word(&mut self) -> Result<Value> {
        let start = self.at;
        let word = self.take_while(is_word);
        match (word, self.peek()) {
            ("True" | "true", _) => Ok(Value::Bool(true)),
            ("False" | "false", _) => Ok(Value::Bool(false)),
            ("None" | "null", _) => Ok(Value::Null),
            ("r" | "R", Some('\'' | '"')) => self.strings(true).map(Value::from),
            ("u" | "U", Some('\'' | '"')) => self.strings(false).map(Value::from),
            _ => {
                self.at = start;
                Err(self
                    .wrong("a literal (a number, a string in quotes, True, False, None, a list, a dict) is expected"))
            }
        }
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        if !self.take('-') {
            self.take('+');
        }
        let based = ["0x", "0X", "0o", "0O", "0b", "0B"].iter().any(|base| self.rest().starts_with(base));
        self.take_while(|c| is_word(c) || c == '.');
        if !based && self.text[start..self.at].ends_with(['e', 'E']) && matches!(self.peek(), Some('+' | '-')) {
            self.at += 1;
            self.take_while(is_word);
        }
        let written = &self.text[start..self.at];
        number(written).ok_or_else(|| Problem::Wrong(format!("{written:?} is no number")))
    }

    /// A string, and those that follow it with nothing but space between.
    fn strings(&mut self, raw: bool) -> Result<String> {
        let mut text = String::new();
        loop {
            self.string(raw, &mut text)?;
            let end = self.at;
            self.space();
            if !matches!(self.peek(), Some('\'' | '"')) {
                self.at = end;
                return Ok(text);
            }
        }
    }

    fn string(&mut self, raw: bool, text: &mut String) -> Result<()> {
        let quote = self.next()?;
        let three = if quote == '"' { "\"\"\"" } else { "'''" };
        let triple = self.rest().starts_with(&three[1..]);
        if triple {
            self.at += 2;
        }
        loop {
            if triple && self.rest().starts_with(three) {
                self.at += 3;
                return Ok(());
            }
            match self.next()? {
                c if c == quote && !triple => return Ok(()),
                '\\' if raw => text.extend(['\\', self.next()?]),
                '\\' => self.escape(text)?,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<()> {
        let c = match self.next()? {
            '\n' => return Ok(()),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            c @ ('\\' | '\'' | '"') => c,
            c @ '0'..='7' => self.octal(c),
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            other => {
                text.push('\\');
                other
            }
        };
        text.push(c);
        Ok(())
    }

    fn octal(&mut self, first: char) -> char {
        let mut code = first as u32 - '0' as u32;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            self.at += 1;
            code = code * 8 + digit;
        }
        // At most 0o777, which is a character.
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// A character by its code; two halves of a UTF-16 pair make one, as in JSON.
    fn code(&mut self, digits: usize) -> Result<char> {
        let high = self.hex(digits)?;
        let rest = self.at;
        if (0xd800..0xdc00).contains(&high) && self.take('\\') && self.take('u') {
            let low = self.hex(4)?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.at = rest;
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, digits: usize) -> Result<u32> {
        let mut code = 0_u32;
        for _ in 0..digits {
            let Some(digit) = self.next()?.to_digit(16) else {
                return Err(Problem::Wrong(format!("an escape in a string has less than {digits} hex digits")));
            };
            code = code << 4 | digit;
        }
        Ok(code)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Digits may be grouped with `_`. What is larger than 64 bits becomes a float.
fn number(written: &str) -> Option<Value> {
    let unsigned = written.trim_start_matches(['-', '+']);
    if unsigned.starts_with('_') || unsigned.ends_with('_') || unsigned.contains("__") {
        return None;
    }
    let digits = written.replace('_', "");
    let (sign, digits) = digits.strip_prefix('-').map_or((1, digits.trim_start_matches('+')), |rest| (-1, rest));
    let base = |prefixes: [&str; 2], radix| {
        let digits = prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix))?;
        Some(if digits.starts_with(['+', '-']) { None } else { i128::from_str_radix(digits, radix).ok() })
    };
    let based = base(["0x", "0X"], 16).or_else(|| base(["0o", "0O"], 8)).or_else(|| base(["0b", "0B"], 2));
    if let Some(whole) = based.unwrap_or_else(|| digits.parse::<i128>().ok()) {
        let whole = sign * whole;
        let number = i64::try_from(whole).map(Number::from).or_else(|_| u64::try_from(whole).map(Number::from));
        return number.ok().or_else(|| Number::from_f64(whole as f64)).map(Value::Number);
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let float = digits.chars().all(plain).then(|| digits.parse::<f64>().ok())??;
    Number::from_f64(f64::from(sign as i8) * float).map(Value::Number)
}

#[cfg(test)]
#[path = "literal_tests.rs"]
mod tests;
