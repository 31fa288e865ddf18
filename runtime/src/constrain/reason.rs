//! What llguidance says about a refusal, put as the end of a sentence.

/// The reason in a message whose further lines may show the place with carets, or states.
pub(super) fn problem(message: &str) -> String {
    let (place, text) = split(message);
    match place {
        Some((line, column)) => format!("line {line}, column {column}: {text}"),
        None => text,
    }
}

/// The same about a regular expression: the message's place is one in the grammar that was made of it.
pub(super) fn regex_problem(message: &str) -> String {
    let (_, text) = split(message);
    // The expression is shown twice or not at all.
    text.split_once("\" (in regex): ")
        .or_else(|| text.split_once("\": "))
        .map_or(text.clone(), |(_, why)| why.to_owned())
}

fn split(message: &str) -> (Option<(usize, usize)>, String) {
    let mut lines = message.lines();
    let (place, first) = split_place(lines.next().unwrap_or_default());
    // A pattern's own error comes after a picture of it.
    let detail = lines.find_map(|line| line.trim_start().strip_prefix("error: "));
    let text = match (first.strip_suffix("regex parse error:"), detail) {
        (Some(before), Some(detail)) => {
            let before = before.strip_suffix("(in regex): ").unwrap_or(before).trim_end();
            if before.is_empty() { detail.to_owned() } else { format!("{before}: {detail}") }
        }
        _ => plain(first),
    };
    (place, text)
}

/// Messages that are names of states, or advice that does not hold here.
fn plain(message: &str) -> String {
    let known = [
        ("NoExtensionBias", "no token of this model can come next"),
        ("LexerTooComplex", "a pattern in it takes more work for one token than is allowed"),
        ("ParserTooComplex", "it takes more work for one token than is allowed"),
        ("oneOf constraints", "oneOf is enforced only where no two of its schemas can both fit; anyOf may do"),
        ("Unsatisfiable schema: ", "nothing fits it: "),
    ];
    match known.iter().find_map(|&(start, text)| Some((text, message.strip_prefix(start)?))) {
        Some((text, rest)) if text.ends_with(": ") => format!("{text}{rest}"),
        Some((text, _)) => text.to_owned(),
        None => message.to_owned(),
    }
}

/// Line and column, which come first in a message, as in `at 2(5): ` or `2(5): `.
fn split_place(message: &str) -> (Option<(usize, usize)>, &str) {
    let split = || {
        let (place, rest) = message.strip_prefix("at ").unwrap_or(message).split_once("): ")?;
        let (line, column) = place.split_once('(')?;
        Some(((line.parse().ok()?, column.parse().ok()?), rest))
    };
    split().map_or((None, message), |(place, rest)| (Some(place), rest))
}

#[cfg(test)]
mod tests {
    use super::{problem, regex_problem};

    #[test]
    fn reasons_are_put_as_sentences() {
        for (message, reason) in [
            ("at 1(8): unknown name: \"foo\"\n   1 | start: foo\n   ^", "line 1, column 8: unknown name: \"foo\""),
            ("3(8): lexer error\n   1 | x", "line 3, column 8: lexer error"),
            (
                "at 2(8): invalid regex \"(a\" (in regex): regex parse error:\n    (a\n    ^\nerror: unclosed group\n 1 | x",
                "line 2, column 8: invalid regex \"(a\": unclosed group",
            ),
            ("regex parse error:\n    (a\nerror: unclosed group", "unclosed group"),
            ("NoExtensionBias\n<non-verbose/>", "no token of this model can come next"),
            ("Unsatisfiable schema: schema is false", "nothing fits it: schema is false"),
            ("no start rule found", "no start rule found"),
            ("", ""),
        ] {
            assert_eq!(problem(message), reason);
        }
    }

    #[test]
    fn a_place_in_a_grammar_that_nobody_wrote_is_not_named() {
        for (message, reason) in [
            (
                "at 1(8): invalid regex \"(a\" (in regex): regex parse error:\n    (a\n    ^\nerror: unclosed group",
                "unclosed group",
            ),
            (
                "at 1(8): invalid regex \"a^b\" (in regex): lookarounds not supported yet; Start in regex /a^b/",
                "lookarounds not supported yet; Start in regex /a^b/",
            ),
            ("LexerTooComplex", "a pattern in it takes more work for one token than is allowed"),
        ] {
            assert_eq!(regex_problem(message), reason);
        }
    }
}
