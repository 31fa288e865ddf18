//! The body of an answer, from bytes in any pieces to JSON values: server-sent events, or one JSON document where a
//! server does not stream, or the web page that a wrong address leads to. What the values say is not known here.

use serde_json::Value;

/// Bytes that one line or document may have.
const LONGEST: usize = 16 << 20;

/// One thing that the server said.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// A value, and whether it was announced as an error.
    Value(Value, bool),
    /// The last that it says: `[DONE]`, or the end of a whole document.
    Done,
    /// Something that is no JSON.
    Garbage(String),
    /// A web page.
    Page,
}

/// Reads a body.
#[derive(Default)]
pub(crate) struct Body {
    form: Form,
    /// The line, or all of the document so far.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it ends no line.
    returned: bool,
    /// The lines of the event under way, joined; none that was complete by itself.
    data: Option<String>,
    /// The event under way says that it is an error.
    error: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Form {
    #[default]
    Unknown,
    Events,
    Document,
    Page,
}

impl Body {
    /// Adds bytes; what they complete is put into `said`.
    pub(crate) fn push(&mut self, bytes: &[u8], said: &mut Vec<Said>) {
        let mut bytes = bytes;
        if self.form == Form::Unknown {
            // A byte order mark is no character of the text.
            let skipped = |byte: &u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(byte);
            let Some(start) = bytes.iter().position(|byte| !skipped(byte)) else { return };
            self.form = match bytes[start] {
                b'{' | b'[' => Form::Document,
                b'<' => Form::Page,
                _ => Form::Events,
            };
            if self.form == Form::Page {
                said.push(Said::Page);
            }
            bytes = &bytes[start..];
        }
        match self.form {
            Form::Events => bytes.iter().for_each(|&byte| self.byte(byte, said)),
            Form::Document => self.line.extend_from_slice(bytes),
            Form::Unknown | Form::Page => {}
        }
        if self.line.len() > LONGEST {
            self.line.clear();
            said.push(Said::Garbage(format!("a line of more than {LONGEST} bytes")));
        }
    }

    /// The body ended. What was cut off says nothing, and neither does an incomplete document.
    pub(crate) fn end(&mut self, said: &mut Vec<Said>) {
        let rest = std::mem::take(&mut self.line);
        match self.form {
            Form::Document => match serde_json::from_slice(&rest) {
                Ok(value) => said.extend([Said::Value(value, false), Said::Done]),
                Err(why) if why.is_eof() => {}
                Err(_) => said.push(Said::Garbage(String::from_utf8_lossy(&rest).into_owned())),
            },
            Form::Events => {
                self.line = rest;
                self.end_of_line(said);
                self.data = None;
            }
            Form::Unknown | Form::Page => {}
        }
    }

    fn byte(&mut self, byte: u8, said: &mut Vec<Said>) {
        match byte {
            b'\n' if self.returned => {}
            b'\n' | b'\r' => self.end_of_line(said),
            _ => self.line.push(byte),
        }
        self.returned = byte == b'\r';
    }

    fn end_of_line(&mut self, said: &mut Vec<Said>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            if let Some(data) = self.data.take() {
                said.push(value(&data, self.error).unwrap_or(Said::Garbage(data)));
            }
            self.error = false;
        } else if line.starts_with('{') {
            // Some servers put an error between events just as it is.
            said.push(value(&line, true).unwrap_or_else(|| Said::Garbage(line.into_owned())));
        } else if let Some((field, text)) = line.split_once(':') {
            let text = text.strip_prefix(' ').unwrap_or(text);
            match field {
                "data" => self.data_line(text, said),
                "event" => self.error = text.trim() == "error",
                // Comments have no name; the rest does not matter here.
                _ => {}
            }
        }
    }

    /// A line that is complete by itself is not kept until the empty line after it, which some servers leave out.
    fn data_line(&mut self, text: &str, said: &mut Vec<Said>) {
        match &mut self.data {
            Some(data) if data.len() + text.len() < LONGEST => {
                data.push('\n');
                data.push_str(text);
            }
            Some(_) => said.push(Said::Garbage(format!("an event of more than {LONGEST} bytes"))),
            None => match value(text, self.error) {
                Some(one) => said.push(one),
                None if text.is_empty() => {}
                None => self.data = Some(text.to_owned()),
            },
        }
    }
}

fn value(text: &str, error: bool) -> Option<Said> {
    if text.trim() == "[DONE]" {
        return Some(Said::Done);
    }
    serde_json::from_str(text).ok().map(|value| Said::Value(value, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(pieces: &[&[u8]]) -> Vec<Said> {
        let (mut body, mut said) = (Body::default(), Vec::new());
        pieces.iter().for_each(|piece| body.push(piece, &mut said));
        body.end(&mut said);
        said
    }

    #[test]
    fn events_in_any_pieces() {
        let text = "\u{feff}: hello\r\nid: 7\r\ndata: {\"a\": \"é€\"}\r\n\r\ndata:{\ndata: \"b\":\rdata: 1}\r\r\
            event: error\ndata: {\"c\": 2}\n\ndata: {\"d\": 3}\ndata: {\"e\": 4}\n\ndata: oops\n\ndata: [DONE]";
        let whole = vec![
            Said::Value(json!({"a": "é€"}), false),
            Said::Value(json!({"b": 1}), false),
            Said::Value(json!({"c": 2}), true),
            Said::Value(json!({"d": 3}), false),
            Said::Value(json!({"e": 4}), false),
            Said::Garbage("oops".into()),
            Said::Done,
        ];
        let bytes = text.as_bytes();
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn documents_and_pages() {
        assert_eq!(read(&[b" \n{\"a\":", b" 1}\n"]), [Said::Value(json!({"a": 1}), false), Said::Done]);
        assert_eq!(read(&[b"{\"a\":"]), []);
        assert_eq!(read(&[b"{a}"]), [Said::Garbage("{a}".into())]);
        assert_eq!(read(&[b"\r\n<!doctype html><p>data: {}\n\n"]), [Said::Page]);
        assert_eq!(read(&[b"  "]), []);
    }

    #[test]
    fn an_error_between_events_and_half_a_character() {
        assert_eq!(read(&[b": \n{\"error\": \"x\"}\n"]), [Said::Value(json!({"error": "x"}), true)]);
        assert_eq!(read(&[b"data: {\"a\": \"\xe2\x82\"}\n\n"]), [Said::Value(json!({"a": "\u{fffd}"}), false)]);
    }

    #[test]
    fn an_endless_line_ends() {
        let (mut body, mut said) = (Body::default(), Vec::new());
        body.push(b"data: ", &mut said);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            body.push(&block, &mut said);
        }
        assert!(matches!(said[..], [Said::Garbage(_)]) && body.line.len() < LONGEST);
    }
}
