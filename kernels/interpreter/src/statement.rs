//! A kernel's body as statements: what is declared, where labels are, and instructions with their operands resolved.

use crate::module::{number, variable};
use crate::names::{Fill, Names, Operand};
use crate::token::{Placed, Reader, Token};
use std::collections::HashMap;

/// An instruction as it is written.
pub struct Statement<'a> {
    /// Only lanes where this predicate holds (or, if negated, does not) take part.
    pub guard: Option<(u32, bool)>,
    /// The opcode with its modifiers.
    pub opcode: &'a str,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// Its line.
    pub line: u32,
}

/// Instructions by label: the number of the one that follows it.
pub fn labels(body: &[Placed<'_>]) -> Result<HashMap<String, u32>, String> {
    let (mut found, mut count) = (HashMap::new(), 0);
    let mut reader = Reader::new(body);
    while let Some(token) = reader.next() {
        match token {
            Token::Mark('{' | '}' | ';') => {}
            Token::Word(name) if reader.mark(':') => {
                if reader.peek() != Some(Token::Word(".branchtargets")) {
                    found.insert(name.to_owned(), count);
                }
            }
            _ => {
                let declares = matches!(token, Token::Word(word) if word.starts_with('.'));
                count += u32::from(!declares);
                while !matches!(reader.next(), Some(Token::Mark(';'))) {
                    if reader.peek().is_none() {
                        return Err(format!("line {}: a statement without an end", reader.line()));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Calls `f` for every instruction, in order.
pub fn statements<'a>(
    body: &[Placed<'a>],
    names: &mut Names<'_>,
    mut f: impl FnMut(Statement<'a>, &mut Names<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = Reader::new(body);
    while let Some(token) = reader.peek() {
        match token {
            Token::Mark('{') => {
                reader.next();
                names.open();
            }
            Token::Mark('}') => {
                reader.next();
                names.close();
            }
            Token::Mark(';') => {
                reader.next();
            }
            Token::Word(word) if word.starts_with('.') => declaration(&mut reader, names)?,
            _ => {
                let line = body[body.len() - reader.left()].line;
                if let Some(statement) = instruction(&mut reader, names).map_err(|e| format!("line {line}: {e}"))? {
                    f(statement, names).map_err(|e| format!("line {line}: {e}"))?;
                }
            }
        }
    }
    Ok(())
}

fn declaration(reader: &mut Reader<'_, '_>, names: &mut Names<'_>) -> Result<(), String> {
    match reader.peek() {
        Some(Token::Word(".reg")) => {
            reader.next();
            let kind = reader.word()?;
            loop {
                let name = reader.word()?;
                let mut count = None;
                if reader.mark('<') {
                    count = Some(reader.count()?);
                    reader.expect('>')?;
                }
                names.register(kind, name, count);
                if !reader.mark(',') {
                    break;
                }
            }
            reader.expect(';')
        }
        Some(Token::Word(".shared" | ".local")) => names.variable(&variable(reader)?),
        Some(Token::Word(".pragma" | ".loc" | ".file")) => {
            while !reader.mark(';') && reader.next().is_some() {}
            Ok(())
        }
        other => Err(format!("line {}: {other:?} in a kernel is not known", reader.line())),
    }
}

fn instruction<'a>(reader: &mut Reader<'_, 'a>, names: &mut Names<'_>) -> Result<Option<Statement<'a>>, String> {
    let mut guard = None;
    if reader.mark('@') {
        let negated = reader.mark('!');
        let word = reader.word()?;
        match names.operand(word, 0)? {
            Operand::Predicate(predicate, _) => guard = Some((predicate, negated)),
            _ => return Err(format!("the guard '{word}' is no predicate")),
        }
    }
    let opcode = reader.word()?;
    let line = reader.line();
    if reader.mark(':') {
        if reader.takes(".branchtargets") {
            let mut labels = vec![reader.word()?];
            while reader.mark(',') {
                labels.push(reader.word()?);
            }
            reader.expect(';')?;
            names.targets(opcode, &labels)?;
        }
        return Ok(None);
    }
    let mut operands = Vec::new();
    while !reader.mark(';') {
        operands.push(operand(reader, names)?);
        reader.mark(',');
    }
    Ok(Some(Statement { guard, opcode, operands, line }))
}

fn operand(reader: &mut Reader<'_, '_>, names: &mut Names<'_>) -> Result<Operand, String> {
    if reader.mark('{') {
        let mut list = Vec::new();
        while !reader.mark('}') {
            list.push(operand(reader, names)?);
            reader.mark(',');
        }
        return Ok(Operand::List(list));
    }
    if reader.mark('[') {
        let (base, offset) = sum(reader)?;
        reader.expect(']')?;
        return Ok(match whole(base) {
            Some(at) => Operand::At(names.filled(Fill::Value(at)), offset),
            None => match names.operand(base, 0)? {
                Operand::Register(register) => Operand::At(register, offset),
                Operand::Number(at) => Operand::At(names.filled(Fill::Value(at)), offset),
                Operand::Param(at) => Operand::Param(at.wrapping_add_signed(offset as isize)),
                _ => return Err(format!("'{base}' is no address")),
            },
        });
    }
    let negated = reader.mark('!');
    if reader.mark('-') {
        let word = reader.word()?;
        let value = whole(word).ok_or_else(|| format!("'-{word}' is no number"))?;
        return Ok(Operand::Number(value.wrapping_neg()));
    }
    let (word, offset) = sum(reader)?;
    let first = match whole(word) {
        Some(value) => Operand::Number(value.wrapping_add_signed(offset)),
        None => names.operand(word, offset)?,
    };
    let first = match (first, negated) {
        (Operand::Predicate(p, _), true) => Operand::Predicate(p, true),
        (_, true) => return Err(format!("'!{word}' is no predicate")),
        (first, false) => first,
    };
    if reader.mark('|') {
        let second = operand(reader, names)?;
        return Ok(Operand::Both(Box::new(first), Box::new(second)));
    }
    Ok(first)
}

/// A word and what is added to it.
fn sum<'a>(reader: &mut Reader<'_, 'a>) -> Result<(&'a str, i64), String> {
    let word = reader.word()?;
    let plus = reader.mark('+');
    let minus = reader.mark('-');
    if !plus && !minus {
        return Ok((word, 0));
    }
    let added = reader.word()?;
    let value = whole(added).ok_or_else(|| format!("'{added}' is added to '{word}'"))? as i64;
    Ok((word, if minus { -value } else { value }))
}

fn whole(word: &str) -> Option<u64> {
    word.starts_with(|c: char| c.is_ascii_digit()).then(|| number(word))?
}
