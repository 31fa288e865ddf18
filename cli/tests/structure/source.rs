//! Just enough reading of Rust source to tell code from comments and literals, and tests from the rest.

/// The text with comments, string and character literals blanked; line breaks stay, so lines keep their numbers.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' if !word_before(bytes, at) => raw_string(bytes, at).unwrap_or(at),
            b'\'' => character(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Code up to the test module that ends a file, if it has one.
pub fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|i| from + i) {
        let rest = code[at + "#[cfg(test)]".len()..].trim_start();
        let line = rest.lines().next().unwrap_or("");
        if line.starts_with("mod ") && line.ends_with('{') {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// The line of the first place where `phrase` stands as whole words.
pub fn line_of(text: &str, phrase: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let open = phrase.chars().next_back().is_some_and(|c| !part(c));
    text.match_indices(phrase).find_map(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part);
        let after = !open && text[at + phrase.len()..].chars().next().is_some_and(part);
        (!before && !after).then(|| text[..at].matches('\n').count() + 1)
    })
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|w| w == what).map(|i| from + i)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn word_before(bytes: &[u8], at: usize) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    // br"..." and cr"..." are literals too.
    match at.checked_sub(1).map(|i| bytes[i]) {
        Some(b'b' | b'c') => at >= 2 && part(bytes[at - 2]),
        Some(b) => part(b),
        None => false,
    }
}

fn raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|&&b| b == b'#').count();
    let quote = start + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    Some(find(bytes, quote + 1, &close).map_or(bytes.len(), |i| i + close.len()))
}

/// A character literal, not a lifetime.
fn character(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, start + 3, b"'").map(|i| i + 1);
    }
    // One character of up to four bytes.
    let close = (start + 2..=start + 5).find(|&i| bytes.get(i) == Some(&b'\''))?;
    let one = std::str::from_utf8(&bytes[start + 1..close]).is_ok_and(|s| s.chars().count() == 1);
    one.then_some(close + 1)
}

#[test]
fn comments_and_literals_are_blanked() {
    let text = "a // b\nc /* d /* e */ f */ g \"h\\\" i\" 'j' '\\'' k<'l> r#\"m \" n\"# b\"o\" p '√' 'q'\n";
    let words: Vec<_> = text.split(|c: char| !c.is_alphabetic()).collect();
    assert!(words.contains(&"m"), "the sample holds what is to be blanked");
    let left = code(text);
    let seen: String = left.chars().filter(|c| c.is_alphabetic()).collect();
    // The b of a byte string stays, and the names of lifetimes do.
    assert_eq!(seen, "acgklbp");
    assert_eq!(left.matches('\n').count(), 2);
}

#[test]
fn words_are_whole() {
    assert_eq!(line_of("a\nunsafe_code unsafe\n", "unsafe"), Some(2));
    assert_eq!(line_of("unsafe_code", "unsafe"), None);
    assert_eq!(line_of("my_env::var(x)", "env::var"), None);
    assert_eq!(line_of("std::env::vars()", "env::var"), None);
    assert_eq!(line_of("x = cpu::Cpu", "cpu::"), Some(1));
    assert_eq!(line_of("gcpu::Cpu", "cpu::"), None);
}
