//! PTX text as words and marks, each with its line. What they mean is not known here.

/// One piece of PTX.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name, an opcode with its modifiers, a register or a number; `::` may be inside.
    Word(&'a str),
    /// Text between quotes, without them.
    Quoted(&'a str),
    /// A single character.
    Mark(char),
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Its line, counted from 1.
    pub line: u32,
}

/// Cuts a text into tokens; comments and white space are dropped.
pub fn tokens(text: &str) -> Vec<Placed<'_>> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    let until = |from: usize, what: &str| text[from..].find(what).map_or(bytes.len(), |n| from + n);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b if b.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = until(at, "\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = (until(at + 2, "*/") + 2).min(bytes.len());
                line += text[start..at].matches('\n').count() as u32;
            }
            b'"' => {
                let end = until(at + 1, "\"");
                found.push(Placed { token: Token::Quoted(&text[at + 1..end]), line });
                at = (end + 1).min(bytes.len());
            }
            b if in_word(b) => {
                while at < bytes.len() && (in_word(bytes[at]) || &bytes[at..(at + 2).min(bytes.len())] == b"::") {
                    at += if bytes[at] == b':' { 2 } else { 1 };
                }
                found.push(Placed { token: Token::Word(&text[start..at]), line });
            }
            _ => {
                let mark = text[at..].chars().next().unwrap_or(' ');
                found.push(Placed { token: Token::Mark(mark), line });
                at += mark.len_utf8();
            }
        }
    }
    found
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Tokens that are taken one by one.
pub struct Reader<'t, 'a> {
    rest: &'t [Placed<'a>],
    line: u32,
}

impl<'t, 'a> Reader<'t, 'a> {
    /// Begins with the first of `tokens`.
    pub fn new(tokens: &'t [Placed<'a>]) -> Self {
        Self { rest: tokens, line: tokens.first().map_or(0, |t| t.line) }
    }

    /// The line of what was taken last.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// How many tokens are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next token, which stays.
    pub fn peek(&self) -> Option<Token<'a>> {
        self.rest.first().map(|t| t.token)
    }

    /// Takes the next token.
    pub fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.rest.split_first()?;
        (self.rest, self.line) = (rest, first.line);
        Some(first.token)
    }

    /// Takes this mark if it is next.
    pub fn mark(&mut self, mark: char) -> bool {
        let is = self.peek() == Some(Token::Mark(mark));
        if is {
            self.next();
        }
        is
    }

    /// Takes this word if it is next.
    pub fn takes(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(Token::Word(word));
        if is {
            self.next();
        }
        is
    }

    /// Takes a word, which must be next.
    pub fn word(&mut self) -> Result<&'a str, String> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(self.unexpected(other, "a word")),
        }
    }

    /// Takes this mark, which must be next.
    pub fn expect(&mut self, mark: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            other => Err(self.unexpected(other, &format!("'{mark}'"))),
        }
    }

    /// Takes a whole number, which must be next.
    pub fn count(&mut self) -> Result<usize, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("line {}: '{word}', where a number is expected", self.line))
    }

    /// Takes everything up to the mark that closes the one just taken, and that mark.
    pub fn block(&mut self, open: char, close: char) -> Result<&'t [Placed<'a>], String> {
        let (all, mut depth) = (self.rest, 1);
        for (at, placed) in all.iter().enumerate() {
            match placed.token {
                Token::Mark(mark) if mark == open => depth += 1,
                Token::Mark(mark) if mark == close => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                (self.rest, self.line) = (&all[at + 1..], placed.line);
                return Ok(&all[..at]);
            }
        }
        Err(format!("line {}: '{open}' is not closed", self.line))
    }

    fn unexpected(&self, found: Option<Token<'_>>, expected: &str) -> String {
        let found = match found {
            Some(Token::Word(word)) => format!("'{word}'"),
            Some(Token::Quoted(text)) => format!("\"{text}\""),
            Some(Token::Mark(mark)) => format!("'{mark}'"),
            None => "the end".to_owned(),
        };
        format!("line {}: {found}, where {expected} is expected", self.line)
    }
}
