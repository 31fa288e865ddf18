//! One file of PTX: its variables, and its kernels as tokens. Instructions are read in `statement`.

use crate::token::{Placed, Reader, Token, tokens};

/// Where a variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Device memory, constants among it.
    Global,
    /// A block's memory.
    Shared,
    /// A thread's memory.
    Local,
}

/// A variable's declaration.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// A power of two.
    pub align: usize,
    /// `None`: as much as the launch gives.
    pub bytes: Option<usize>,
    /// What it starts with; zeros follow.
    pub start: Vec<u8>,
}

/// A kernel's parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type: u32, f32, u64, ...
    pub kind: String,
    /// Where it lies among the parameters' bytes.
    pub at: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// A kernel that is not decoded yet.
pub struct Entry<'t, 'a> {
    /// Its name.
    pub name: &'a str,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// The most threads that a block may have.
    pub threads: u32,
    /// What stands between the braces.
    pub body: &'t [Placed<'a>],
}

/// A file's contents.
pub struct Module<'t, 'a> {
    /// Variables outside kernels.
    pub variables: Vec<Variable>,
    /// Kernels.
    pub entries: Vec<Entry<'t, 'a>>,
}

/// Bytes of a type, as `.u32` or `u32`.
pub fn width(kind: &str) -> Option<usize> {
    let kind = kind.trim_start_matches('.');
    let bits: usize = kind.strip_suffix("x2").map_or(kind.get(1..)?.parse().ok()?, |_| 32);
    (kind.starts_with(['b', 'u', 's', 'f']) && matches!(bits, 8 | 16 | 32 | 64)).then_some(bits / 8)
}

impl<'t, 'a> Module<'t, 'a> {
    /// Reads the outer level of a file.
    pub fn new(tokens: &'t [Placed<'a>]) -> Result<Self, String> {
        let mut reader = Reader::new(tokens);
        let mut module = Self { variables: Vec::new(), entries: Vec::new() };
        while let Some(token) = reader.peek() {
            match token {
                Token::Word(".version" | ".address_size") => {
                    reader.next();
                    reader.word()?;
                }
                Token::Word(".target") => {
                    reader.next();
                    reader.word()?;
                    while reader.mark(',') {
                        reader.word()?;
                    }
                }
                Token::Word(".visible" | ".extern" | ".weak") => {
                    reader.next();
                }
                Token::Word(".entry") => {
                    reader.next();
                    module.entries.push(entry(&mut reader)?);
                }
                _ => module.variables.push(variable(&mut reader)?),
            }
        }
        Ok(module)
    }
}

/// Names of the kernels of a text, without reading it in full.
pub fn entry_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(".entry")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| c.is_whitespace() || c == '(').find(|n| !n.is_empty()))
}

/// Reads a text and hands the module on; it borrows from the text.
pub fn with_module<T>(text: &str, f: impl FnOnce(&Module<'_, '_>) -> Result<T, String>) -> Result<T, String> {
    let tokens = tokens(text);
    f(&Module::new(&tokens)?)
}

fn entry<'t, 'a>(reader: &mut Reader<'t, 'a>) -> Result<Entry<'t, 'a>, String> {
    let name = reader.word()?;
    let (mut params, mut at) = (Vec::new(), 0usize);
    if reader.mark('(') {
        while !reader.mark(')') {
            if !reader.takes(".param") {
                return Err(format!("line {}: kernel {name}: something that is no .param", reader.line()));
            }
            let declared = declared(reader, Place::Global)?;
            at = at.next_multiple_of(declared.0.align);
            let bytes = declared.0.bytes.unwrap_or(0);
            params.push(Param { name: declared.0.name, kind: declared.1, at, bytes });
            at += bytes;
            reader.mark(',');
        }
    }
    let mut threads = 1024;
    loop {
        match reader.next() {
            Some(Token::Mark('{')) => break,
            Some(Token::Word(".maxntid" | ".reqntid")) => {
                threads = reader.count()? as u32;
                while reader.mark(',') {
                    threads *= reader.count()? as u32;
                }
            }
            Some(Token::Word(".minnctapersm")) => {
                reader.count()?;
            }
            other => return Err(format!("line {}: kernel {name}: {other:?} before its body", reader.line())),
        }
    }
    Ok(Entry { name, params, threads, body: reader.block('{', '}')? })
}

/// Reads the declaration of a variable up to its semicolon.
pub fn variable(reader: &mut Reader<'_, '_>) -> Result<Variable, String> {
    let place = match reader.word()? {
        ".global" | ".const" => Place::Global,
        ".shared" => Place::Shared,
        ".local" => Place::Local,
        other => return Err(format!("line {}: '{other}' is not known here", reader.line())),
    };
    let (mut variable, kind) = declared(reader, place)?;
    if reader.mark('=') {
        let width = width(&kind).unwrap_or(1);
        loop {
            match reader.next() {
                Some(Token::Mark('{' | '}' | ',')) => {}
                Some(Token::Word(word)) => {
                    let value = number(word).ok_or_else(|| format!("line {}: initialiser '{word}'", reader.line()))?;
                    variable.start.extend(&value.to_le_bytes()[..width]);
                }
                Some(Token::Mark('-')) => {
                    let word = reader.word()?;
                    let value = number(word).ok_or_else(|| format!("line {}: initialiser '-{word}'", reader.line()))?;
                    variable.start.extend(&value.wrapping_neg().to_le_bytes()[..width]);
                }
                _ => return Err(format!("line {}: an initialiser that is no number", reader.line())),
            }
            if reader.peek() == Some(Token::Mark(';')) {
                break;
            }
        }
    }
    reader.expect(';')?;
    Ok(variable)
}

/// `.align 4 .b8 name[16]`: the variable and its type.
fn declared(reader: &mut Reader<'_, '_>, place: Place) -> Result<(Variable, String), String> {
    let mut align = None;
    let kind = loop {
        match reader.word()? {
            ".align" => align = Some(reader.count()?),
            ".ptr" | ".global" | ".const" | ".shared" | ".local" | ".v2" | ".v4" => {
                return Err(format!("line {}: a declaration of a kind that is not known", reader.line()));
            }
            kind => break kind.trim_start_matches('.').to_owned(),
        }
    };
    let width = width(&kind).ok_or_else(|| format!("line {}: type '{kind}' is not known", reader.line()))?;
    let name = reader.word()?.to_owned();
    let mut bytes = Some(width);
    while reader.mark('[') {
        if reader.mark(']') {
            bytes = None;
        } else {
            let count = reader.count()?;
            bytes = bytes.map(|b| b * count);
            reader.expect(']')?;
        }
    }
    Ok((Variable { name, place, align: align.unwrap_or(width), bytes, start: Vec::new() }, kind))
}

/// The bits of a number as PTX writes it.
pub fn number(word: &str) -> Option<u64> {
    let hex = |digits: &str, count: usize| (digits.len() == count).then(|| u64::from_str_radix(digits, 16).ok())?;
    if let Some(digits) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return hex(digits, 8);
    }
    if let Some(digits) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return hex(digits, 16);
    }
    let word = word.strip_suffix('U').unwrap_or(word);
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = word.strip_prefix("0b") {
        return u64::from_str_radix(digits, 2).ok();
    }
    let radix = if word.len() > 1 && word.starts_with('0') { 8 } else { 10 };
    u64::from_str_radix(word, radix).ok()
}
