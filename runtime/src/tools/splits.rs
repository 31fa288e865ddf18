//! What tests of formats share: an example must give the same pieces however it is cut.

use super::*;

/// Parses text that comes in these pieces.
pub(super) fn parse(format: ToolFormat, expected: &ParserOptions, cut: &[&str]) -> Vec<Piece> {
    let mut parser = StreamParser::new(format, expected.clone());
    let mut found: Vec<Piece> = cut.iter().flat_map(|text| parser.push(text)).collect();
    found.extend(parser.finish());
    merged(found)
}

/// Neighbours of one kind made one.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out = Pieces::default();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.text(&text),
            Piece::Reasoning(text) => out.reasoning(&text),
            Piece::Call(call) => out.calls(vec![call]),
        }
    }
    out.0
}

/// Every way to cut a text into two or three, and into characters.
pub(super) fn check(format: ToolFormat, expected: &ParserOptions, text: &str, pieces: &[Piece]) {
    let case = |cut: &[&str]| assert_eq!(parse(format, expected, cut), pieces, "{format}: {cut:?}");
    case(&[text]);
    let cuts: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
    let characters: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
    case(&characters);
    for (index, &first) in cuts.iter().enumerate() {
        case(&[&text[..first], &text[first..]]);
        for &second in &cuts[index..] {
            case(&[&text[..first], &text[first..second], &text[second..]]);
        }
    }
}

pub(super) fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

pub(super) fn thought(text: &str) -> Piece {
    Piece::Reasoning(text.into())
}

pub(super) fn call(name: &str, arguments: Value) -> Piece {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    Piece::Call(ToolCall { id: None, name: name.into(), arguments })
}

pub(super) fn call_with_id(id: &str, name: &str, arguments: Value) -> Piece {
    match call(name, arguments) {
        Piece::Call(call) => Piece::Call(ToolCall { id: Some(id.into()), ..call }),
        other => other,
    }
}

/// Schemas by name.
pub(super) fn with_tools(schemas: Value) -> ParserOptions {
    let Value::Object(schemas) = schemas else { panic!("schemas are an object") };
    ParserOptions { schemas: Arc::new(schemas), ..ParserOptions::default() }
}

pub(super) fn inside() -> ParserOptions {
    ParserOptions { inside_reasoning: true, ..ParserOptions::default() }
}
