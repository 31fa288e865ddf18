//! The bytes that each token stands for.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token has this id.
    Absent,
    /// A piece of text, spelled in the model's own alphabet.
    Model,
    /// A token spelled as it stands in text.
    Added,
    /// A control token, spelled as it stands in a rendered prompt.
    Control,
    /// One byte.
    Byte(u8),
}

/// How the spelling of a [`Kind::Model`] token becomes bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Each character is a byte, in GPT-2's alphabet.
    ByteLevel,
    /// One text for another.
    Replace(String, String),
    /// `<0x41>` is the byte 41.
    ByteFallback,
    /// At most so many of a character are cut from a token's start.
    Strip(char, usize),
    /// Tokens are words: a space stands before each but the first.
    Spaced,
}

/// All tokens of a vocabulary, and the rule that turns them into text.
pub(super) struct Pieces {
    tokens: Vec<(Box<str>, Kind)>,
    steps: Vec<Step>,
    /// At most so many of a character are cut from the start of a text.
    strip: Option<(char, usize)>,
}

impl Pieces {
    pub fn new(tokens: Vec<(Box<str>, Kind)>, steps: Vec<Step>, strip: Option<(char, usize)>) -> Self {
        Self { tokens, steps, strip }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn kind(&self, id: u32) -> Kind {
        self.tokens.get(id as usize).map_or(Kind::Absent, |t| t.1)
    }

    pub fn spelling(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).filter(|t| t.1 != Kind::Absent).map(|t| &*t.0)
    }

    /// Appends a token's bytes; `first` if a text starts with it.
    pub fn write(&self, id: u32, first: bool, out: &mut Vec<u8>) {
        let Some((spelling, kind)) = self.tokens.get(id as usize) else { return };
        let begin = out.len();
        match kind {
            Kind::Absent => {}
            Kind::Byte(byte) => out.push(*byte),
            Kind::Control => out.extend(spelling.bytes()),
            Kind::Added => self.spell(spelling, self.steps.iter().filter(|s| **s != Step::ByteLevel), first, out),
            Kind::Model => self.spell(spelling, self.steps.iter(), first, out),
        }
        if let (true, Some((c, most))) = (first, self.strip) {
            strip(out, begin, c, most);
        }
    }

    fn spell<'a>(&self, spelling: &str, steps: impl Iterator<Item = &'a Step>, first: bool, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut text = std::borrow::Cow::Borrowed(spelling);
        for step in steps {
            match step {
                Step::Replace(from, to) if text.contains(from) => text = text.replace(from, to).into(),
                Step::Replace(..) => {}
                Step::ByteLevel => {
                    if let Some(bytes) = text.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                        return out.extend(bytes);
                    }
                }
                Step::ByteFallback => {
                    if let Some(byte) = byte_token(&text) {
                        return out.push(byte);
                    }
                }
                Step::Strip(c, most) => {
                    let rest = (0..*most).try_fold(&*text, |t, _| t.strip_prefix(*c).ok_or(t));
                    text = rest.unwrap_or_else(|t| t).to_owned().into();
                }
                Step::Spaced if first => {}
                Step::Spaced => out.insert(begin, b' '),
            }
        }
        out.extend(text.bytes());
    }
}

/// Cuts at most `most` characters `c` that `bytes` has at `begin`.
fn strip(bytes: &mut Vec<u8>, begin: usize, c: char, most: usize) {
    let mut spelled = [0; 4];
    let spelled = c.encode_utf8(&mut spelled).as_bytes();
    let cut = bytes[begin..].chunks(spelled.len()).take(most).take_while(|b| *b == spelled).count() * spelled.len();
    bytes.drain(begin..begin + cut);
}

/// The byte that `<0x41>` spells.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && !digits.starts_with('+')).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The byte that a character of GPT-2's alphabet stands for: itself if it can be seen, else one of the 68 characters
/// from U+0100 on, in order.
fn byte_of(c: char) -> Option<u8> {
    static OTHERS: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
        let hidden = (0..=255u8).filter(|&b| !is_visible(b));
        ('\u{100}'..).zip(hidden).collect()
    });
    u8::try_from(u32::from(c)).ok().filter(|&b| is_visible(b)).or_else(|| OTHERS.get(&c).copied())
}

fn is_visible(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}
