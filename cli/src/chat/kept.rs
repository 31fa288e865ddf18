//! Conversations in files: sessions where the model is on this machine, with all that was computed; lists of messages in
//! JSON where it is not.

use super::talk::{Place, Talk};
use crate::listing::counted;
use anyhow::{Context, Result, bail, ensure};
use nano_runtime::{ChatHistory, Message};
use std::io::Write;
use std::path::Path;

/// No list of messages is longer.
const LONGEST: u64 = 256 << 20;

impl Talk {
    pub(super) fn save(&mut self, path: &Path) -> Result<()> {
        let saved = match (&self.place, self.chat.history()) {
            (Place::Here(here), Some(history)) => {
                if here.session.as_ref().is_some_and(|session| session.path() == path) {
                    let why = format!("{}: the conversation is saved there after each turn", path.display());
                    return self.fail(&why);
                }
                history.save(path).map_err(anyhow::Error::from)
            }
            _ => write_list(path, self.chat.messages()),
        };
        match saved {
            Err(error) => self.fail(&format_args!("{error:#}")),
            Ok(()) => {
                self.log.say_dim(&format!("(saved: {})", path.display()));
                Ok(())
            }
        }
    }

    pub(super) fn load(&mut self, path: &Path) -> Result<()> {
        let loaded = match (&self.place, self.chat.history()) {
            (Place::Here(here), Some(history)) => ChatHistory::load(&here.model, path, here.chat.clone())
                .map(|(loaded, notices)| {
                    notices.iter().for_each(|notice| self.log.warn(notice));
                    *history = loaded;
                    format!(", {} tokens", history.num_tokens())
                })
                .map_err(anyhow::Error::from),
            _ => read_list(path).map(|messages| {
                self.chat.set_messages(messages);
                String::new()
            }),
        };
        match loaded {
            Err(error) => self.fail(&format_args!("{error:#}")),
            Ok(tokens) => {
                let count = counted(self.chat.messages().len(), "message");
                self.changed(&format!("(loaded: {count}{tokens}; /history lists them)"))
            }
        }
    }

    pub(super) fn where_saved(&mut self) -> Result<()> {
        let (Place::Here(here), Some(history)) = (&self.place, self.chat.history()) else {
            let why =
                "/session needs a model on this machine; with --engine, /save FILE and /load FILE keep the messages";
            return self.fail(&why);
        };
        let counts = format!(
            "{}, {} tokens: {} rows computed, {} pending",
            counted(history.messages().len(), "message"),
            history.num_tokens(),
            history.num_rows(),
            history.num_pending()
        );
        let Some(session) = &here.session else {
            let text = format!("{counts}\n(not saved; --session FILE saves each turn, /save FILE does it now)");
            return self.show.answer("/session", &text);
        };
        let size = std::fs::metadata(session.path())
            .map_or_else(|error| format!("cannot be read: {error}"), |meta| crate::model::megabytes(meta.len()));
        self.show.answer("/session", &format!("{counts}\n{}: {size}", session.path().display()))
    }
}

/// Writes messages into a new file, or in the place of one that holds messages.
fn write_list(path: &Path, messages: &[Message]) -> Result<()> {
    if path.exists() {
        read_list(path).context("there is a file already, which is left alone")?;
    }
    // Whatever ends the program leaves the old file or the new one.
    let mut name = path.file_name().with_context(|| format!("{}: this is no file", path.display()))?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&part)?;
        serde_json::to_writer_pretty(&mut file, messages)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = std::fs::remove_file(&part);
        anyhow::Error::from(error).context(format!("{}: cannot be written", path.display()))
    })
}

/// The messages of a file.
fn read_list(path: &Path) -> Result<Vec<Message>> {
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{name}: cannot be read"))?.len();
    ensure!(size <= LONGEST, "{name}: {size} bytes are too many for a list of messages");
    let bytes = std::fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{name}: this is not a list of messages in JSON, as /save writes with --engine")
    };
    Message::parse_list(&text).with_context(|| format!("{name}: this is not a list of messages"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_models::testing::TempDir;

    #[test]
    fn lists_of_messages() {
        let dir = TempDir::new("kept");
        let path = dir.path().join("a.json");
        let messages = [Message::user("hi"), Message::assistant("Hello.")];
        write_list(&path, &messages).unwrap();
        assert_eq!(read_list(&path).unwrap(), messages);
        write_list(&path, &messages[..1]).unwrap();
        assert_eq!(read_list(&path).unwrap().len(), 1);
        let other = dir.write("notes.txt", "do not touch");
        let error = format!("{:#}", write_list(&other, &messages).unwrap_err());
        assert!(error.contains("left alone") && error.contains("notes.txt"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "do not touch");
        for (path, word) in [("/nowhere/x.json", "/nowhere/x.json"), ("/", "left alone")] {
            let error = format!("{:#}", write_list(path.as_ref(), &messages).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    }
}
