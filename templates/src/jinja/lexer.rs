//! The tokens inside a template's tags, brackets as a tree. Only as much of Jinja's grammar as `source` needs to find
//! operands: it does not check anything, and gives up where a tag has no proper end.

/// Deeper nesting than this is left as it is; the parser refuses it.
const MAX_DEPTH: usize = 64;
/// Operators of one tag, and `elif` of one template. The parser builds a level of its tree for each and has no limit of
/// its own for them; published templates have a tenth of it.
pub(super) const MAX_CHAIN: usize = 400;
/// Tokens of one tag; the parser counts the arguments of a call in 16 bits.
pub(super) const MAX_TOKENS: usize = 50_000;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Word,
    Literal,
    Sign,
}

/// A token, or what stands between two brackets; each with the white space before it.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Token { lead: &'a str, text: &'a str, kind: Kind },
    Group { lead: &'a str, open: &'a str, inner: Vec<Node<'a>>, tail: &'a str, close: &'a str },
}

impl<'a> Node<'a> {
    /// Whether it is this sign or word.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Node::Token { text, kind, .. } if *text == wanted && *kind != Kind::Literal)
    }

    /// The white space before it.
    pub(super) fn lead(&self) -> &'a str {
        match self {
            Node::Token { lead, .. } | Node::Group { lead, .. } => lead,
        }
    }

    /// Where it ends in the text it was read from.
    pub(super) fn end(&self, whole: &str) -> usize {
        let last = match self {
            Node::Token { text, .. } => *text,
            Node::Group { close, .. } => *close,
        };
        last.as_ptr() as usize - whole.as_ptr() as usize + last.len()
    }
}

/// Reads the tokens of one tag, from after its opening to before its end.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where it stands in the text.
    pub(super) at: usize,
    block: bool,
    /// Operators so far.
    pub(super) chain: usize,
    /// Tokens so far.
    pub(super) tokens: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer for the tag at the start of `text`, a block or an expression, whose words begin at `at`.
    pub(super) fn new(text: &'a str, at: usize, block: bool) -> Self {
        Self { text, at, block, chain: 0, tokens: 0 }
    }

    /// The end of the tag, if the lexer stands there.
    pub(super) fn end(&self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let ends: [&str; 3] = if self.block { ["%}", "-%}", "+%}"] } else { ["}}", "-}}", "+}}"] };
        ends.iter().find(|end| rest.starts_with(**end)).map(|end| &rest[..end.len()])
    }

    /// All nodes up to a closing bracket, or up to the end of the tag; `None` if neither comes.
    pub(super) fn nodes(&mut self, close: Option<&str>, depth: usize) -> Option<Vec<Node<'a>>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut nodes = Vec::new();
        loop {
            let before = self.at;
            let start = self.skip_space();
            let lead = &self.text[before..start];
            match close {
                Some(close) if self.text[start..].starts_with(close) => {
                    self.at = before;
                    return Some(nodes);
                }
                None if self.end().is_some() => {
                    // The white space before the end belongs to the tag, not to a node.
                    return Some(nodes);
                }
                _ => {}
            }
            let rest = &self.text[start..];
            let first = rest.chars().next()?;
            if let Some(close) = match first {
                '(' => Some(")"),
                '[' => Some("]"),
                '{' => Some("}"),
                _ => None,
            } {
                self.at = start + 1;
                let inner = self.nodes(Some(close), depth + 1)?;
                let before_close = self.at;
                let at = self.skip_space();
                self.at = at + 1;
                nodes.push(Node::Group {
                    lead,
                    open: &rest[..1],
                    inner,
                    tail: &self.text[before_close..at],
                    close: &self.text[at..=at],
                });
                continue;
            }
            let (length, kind) = token(rest, first)?;
            self.at = start + length;
            let operator = match kind {
                Kind::Sign => !matches!(first, ',' | ':' | '=' | '+' | '~'),
                Kind::Word => matches!(&rest[..length], "and" | "or" | "not" | "if" | "is"),
                Kind::Literal => false,
            };
            self.chain += usize::from(operator);
            self.tokens += 1;
            if self.chain > MAX_CHAIN || self.tokens > MAX_TOKENS {
                return None;
            }
            nodes.push(Node::Token { lead, text: &rest[..length], kind });
        }
    }

    fn skip_space(&mut self) -> usize {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.at
    }
}

/// Length and kind of the token at the start of `rest`.
fn token(rest: &str, first: char) -> Option<(usize, Kind)> {
    let while_ = |f: fn(char) -> bool| rest.find(|c| !f(c)).unwrap_or(rest.len());
    Some(match first {
        '"' | '\'' => (string_length(rest, first)?, Kind::Literal),
        c if c.is_ascii_digit() => {
            let digits = while_(|c| c.is_ascii_alphanumeric() || c == '_');
            let fraction = &rest[digits..];
            let more = fraction.strip_prefix('.').filter(|f| f.starts_with(|c: char| c.is_ascii_digit()));
            let more = more.map_or(0, |f| 1 + f.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(f.len()));
            (digits + more, Kind::Literal)
        }
        c if c == '_' || c.is_alphanumeric() => (while_(|c| c == '_' || c.is_alphanumeric()), Kind::Word),
        ')' | ']' | '}' => return None,
        _ => {
            let two = ["//", "**", "==", "!=", "<=", ">="].iter().any(|op| rest.starts_with(op));
            (if two { 2 } else { first.len_utf8() }, Kind::Sign)
        }
    })
}

fn string_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(at, c)| {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
        None
    })
}
