//! Turns from a pipe: each line is one. With `--json`, a line that is an object says which kind it is.

use super::Said;
use super::command::Command;
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, Read};

/// Longer lines are refused: they would only fill the memory.
const LONGEST: u64 = 16 << 20;

/// Reads turns line by line.
pub struct Lines<R> {
    input: R,
    json: bool,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R, json: bool) -> Self {
        Self { input, json, number: 0 }
    }

    /// The next turn. Blank lines are none.
    pub fn next(&mut self) -> Result<Said> {
        loop {
            self.number += 1;
            let mut bytes = Vec::new();
            let read =
                (&mut self.input).take(LONGEST + 1).read_until(b'\n', &mut bytes).context("stdin cannot be read")?;
            if read == 0 {
                return Ok(Said::End);
            }
            if read as u64 > LONGEST && bytes.last() != Some(&b'\n') {
                drop(bytes);
                self.skip_line()?;
                return Ok(self.bad(&format!("is longer than {} MiB", LONGEST >> 20)));
            }
            let line = match String::from_utf8(bytes) {
                Ok(line) => line,
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let byte = error.as_bytes()[at];
                    return Ok(self.bad(&format!("is not UTF-8 (byte {at} is {byte:#04x})")));
                }
            };
            let line = line.trim_end_matches(['\n', '\r']);
            let line = if self.number == 1 { line.trim_start_matches('\u{feff}') } else { line };
            if line.trim().is_empty() {
                continue;
            }
            return Ok(match self.json && line.trim_start().starts_with('{') {
                true => self.object(line),
                false => Said::line(line.to_owned()),
            });
        }
    }

    fn object(&self, line: &str) -> Said {
        const FORM: &str = r#"{"user": TEXT} or {"command": "/reset"} is needed"#;
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => return self.bad(&format!("is no JSON object ({error}); {FORM}")),
        };
        let field = |name: &str| value.get(name).and_then(Value::as_str);
        match (value.as_object().map_or(0, |o| o.len()), field("user"), field("command")) {
            (1, Some(text), None) => Said::User(text.to_owned()),
            (1, None, Some(name)) => {
                let slash = if name.trim_start().starts_with('/') { "" } else { "/" };
                let command = Command::parse(&format!("{slash}{}", name.trim_start()));
                Said::Command(command.unwrap_or_else(|| Command::Unknown(name.to_owned())))
            }
            _ => self.bad(&format!("is another object; {FORM}")),
        }
    }

    fn bad(&self, why: &str) -> Said {
        Said::Bad(format!("stdin, line {} {why}; it is skipped", self.number))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let buffer = self.input.fill_buf().context("stdin cannot be read")?;
            let (end, len) = match buffer.iter().position(|&b| b == b'\n') {
                Some(at) => (true, at + 1),
                None => (buffer.is_empty(), buffer.len()),
            };
            self.input.consume(len);
            if end {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], json: bool) -> Vec<Said> {
        let mut lines = Lines::new(input, json);
        let mut out = Vec::new();
        loop {
            match lines.next().unwrap() {
                Said::End => return out,
                said => out.push(said),
            }
        }
    }

    fn user(text: &str) -> Said {
        Said::User(text.into())
    }

    #[test]
    fn each_line_is_a_turn() {
        assert_eq!(
            all(b"\xef\xbb\xbfone\r\n\n  \n two \n/reset\n{\"user\": 1}\nlast", false),
            [user("one"), user(" two "), Said::Command(Command::Reset), user("{\"user\": 1}"), user("last")]
        );
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_one_read() {
        let said = all(b"a\nb\xff\nc\n", false);
        assert_eq!((&said[0], &said[2]), (&user("a"), &user("c")));
        assert!(matches!(&said[1], Said::Bad(why) if why.contains("line 2") && why.contains("0xff")), "{said:?}");
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let long = std::io::BufReader::new(std::io::repeat(b'x').take(LONGEST * 2).chain(&b"\nnext\n"[..]));
        let mut lines = Lines::new(long, false);
        assert!(matches!(lines.next().unwrap(), Said::Bad(why) if why.contains("16 MiB")));
        assert_eq!(lines.next().unwrap(), user("next"));
        assert_eq!(lines.next().unwrap(), Said::End);
    }

    #[test]
    fn objects() {
        assert_eq!(
            all(b"{\"user\": \"a\\nb\"}\n{\"user\":\"/reset\"}\n{\"command\": \"/reset\"}\n{\"command\":\"stats\"}\nplain\n", true),
            [
                user("a\nb"),
                user("/reset"),
                Said::Command(Command::Reset),
                Said::Command(Command::Stats),
                user("plain")
            ]
        );
        for bad in [
            "{",
            "{}",
            "{\"user\": 1}",
            "{\"user\":\"a\",\"command\":\"/reset\"}",
            "{\"usr\":\"a\"}",
            "{\"user\":\"a\"} x",
        ] {
            let said = all(bad.as_bytes(), true);
            assert!(matches!(&said[..], [Said::Bad(why)] if why.contains("line 1")), "{bad}: {said:?}");
        }
    }
}
