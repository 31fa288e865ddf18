//! How the spelling of a control token in a user's text is kept from being read as one, on its way through a template.
//!
//! The first character of the spelling is written as an escape of seven Unicode noncharacters, which no text holds and
//! no template looks at: U+FDD0, then the code point in six hexadecimal digits U+FDE0 to U+FDEF. After the rendered text
//! was split at control tokens, [`show`] turns escapes back into characters, before anything else looks at the text. So
//! neighbours merge as they always would, no escape reaches a token, and a spelling of one character can be hidden too.
//! Noncharacters that a user did write are escaped in the same way, and so come out unchanged; strays that no escape
//! explains (a template may have cut one in two) are dropped.

use super::added::Splitter;
use std::borrow::Cow;

const ESCAPE: char = '\u{FDD0}';
const ZERO: u32 = 0xFDE0;
const DIGITS: usize = 6;

/// Whether a character belongs to escapes.
pub(super) fn is_private(c: char) -> bool {
    c == ESCAPE || (ZERO..ZERO + 16).contains(&u32::from(c))
}

/// Escapes the first character of every spelling that `control` finds, overlapping ones included.
pub(super) fn hide(text: &str, control: Option<&Splitter>) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut done = 0;
    while let Some(start) = control.and_then(|c| c.next_start(text, done)) {
        copy(&text[done..start], &mut out);
        let Some(first) = text[start..].chars().next() else { break };
        escape(first, &mut out);
        done = start + first.len_utf8(); // not the spelling's end: another may start inside it
    }
    copy(&text[done..], &mut out);
    out
}

/// The text that [`hide`] was given.
pub(super) fn show(text: &str) -> Cow<'_, str> {
    if !text.contains(is_private) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_private) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, len) = match unescape(rest) {
            Some(c) => (Some(c), (1 + DIGITS) * ESCAPE.len_utf8()),
            None => (None, ESCAPE.len_utf8()), // all private characters take as many bytes
        };
        out.extend(c);
        rest = &rest[len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn copy(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(is_private) {
        out.push_str(&rest[..at]);
        let mut chars = rest[at..].chars();
        chars.next().into_iter().for_each(|c| escape(c, out));
        rest = chars.as_str();
    }
    out.push_str(rest);
}

fn escape(c: char, out: &mut String) {
    out.push(ESCAPE);
    for digit in (0..DIGITS).rev() {
        out.extend(char::from_u32(ZERO + (u32::from(c) >> (4 * digit) & 15)));
    }
}

/// The character that the escape at the start of `text` stands for.
fn unescape(text: &str) -> Option<char> {
    let mut chars = text.chars();
    if chars.next() != Some(ESCAPE) {
        return None;
    }
    let mut code = 0;
    for _ in 0..DIGITS {
        let digit = u32::from(chars.next()?).checked_sub(ZERO).filter(|&d| d < 16)?;
        code = code << 4 | digit;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::super::added::Added;
    use super::*;

    fn splitter(spellings: &[&str]) -> Option<Splitter> {
        let tokens: Vec<_> = spellings.iter().map(|t| Added::exact(0, t, true)).collect();
        Splitter::new(tokens.iter()).unwrap()
    }

    #[test]
    fn hides_every_spelling_and_shows_it_again() {
        let control = splitter(&["<|im_end|>", "ab", "bc", "x"]);
        for text in
            ["", "plain", "<|im_end|>", "a<|im_end|><|im_end|>b", "abc", "ababcbc", "xxxx", "é<|im_<|im_end|>end|>"]
        {
            let hidden = hide(text, control.as_ref());
            assert_eq!(control.as_ref().unwrap().next_start(&hidden, 0), None, "{text}");
            assert_eq!(show(&hidden), text);
        }
    }

    #[test]
    fn noncharacters_of_the_user_survive() {
        let forged = hide("x", splitter(&["x"]).as_ref());
        for text in ["\u{FDD0}", "a\u{FDE3}b\u{FDEF}", forged.as_str()] {
            assert_eq!(show(&hide(text, None)), text);
        }
    }

    #[test]
    fn strays_are_dropped() {
        let hidden = hide("x", splitter(&["x"]).as_ref());
        let cut: String = hidden.chars().take(4).collect();
        assert_eq!(show(&format!("a{cut}b{}c", &hidden[3..])), "abc");
        // An escape of something that is no character.
        assert_eq!(show("\u{FDD0}\u{FDEF}\u{FDEF}\u{FDEF}\u{FDEF}\u{FDEF}\u{FDEF}!"), "!");
    }
}
