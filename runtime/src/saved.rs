//! Conversations in session files: what of a history is saved, and how it comes back with its rows. The file itself is
//! the business of `session`.

use crate::cache::{KvCache, Stamp};
use crate::chat::{ChatHistory, Said, State};
use crate::segments::{Segment, Segments};
use crate::session::{Header, Opened, SessionFile};
use crate::{ChatOptions, Error, Identity, NanoModel, Result};
use nano_kernels::PAGE_ROWS;
use nano_templates::Message;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A file that follows a conversation: what is committed to it survives the end of the program, or of the machine, at
/// any moment after.
///
/// ```no_run
/// use nano_runtime::{ChatOptions, GenerateOptions, ModelOptions, NanoModel, Session};
///
/// let model = NanoModel::open("model.gguf".as_ref(), ModelOptions::default(), |_| ())?;
/// let (mut session, mut chat, notices) = Session::open("robot.session".as_ref(), &model, ChatOptions::default())?;
/// chat.user("Good morning.");
/// chat.reply(&GenerateOptions::default())?.wait()?;
/// session.commit(&mut chat)?;
/// # Ok::<(), nano_runtime::Error>(())
/// ```
pub struct Session {
    path: PathBuf,
    file: SessionFile,
    header: Header,
    /// The file is of another model: the next commit replaces it.
    stale: bool,
    /// The last commit.
    stamp: Stamp,
}

/// What a session file says, for those who have no model at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedChat {
    /// The model's name.
    pub model: String,
    /// The messages, each with its tokens. Together these are all tokens of the conversation.
    pub messages: Vec<(Message, Vec<u32>)>,
    /// Tokens that have a row in the file.
    pub rows: usize,
    /// Tokens that have none.
    pub pending: usize,
    /// What the user should know of the file.
    pub notices: Vec<String>,
}

/// The state that a session file holds.
#[derive(Serialize, Deserialize)]
struct Saved {
    messages: Vec<SavedMessage>,
    segments: Segments,
    starts: Vec<usize>,
    rows: usize,
}

#[derive(Serialize, Deserialize)]
struct SavedMessage {
    message: Message,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<Segment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cancelled: bool,
}

impl Session {
    /// Opens a session and goes on with its conversation, or starts both if there is no such file. What the user should
    /// know comes with it: a last turn that was cut off, a model that is another one now.
    ///
    /// The conversation's messages, its system prompt among them, are those of the file; all else is as in `options`.
    /// Nobody else can open the file while the session lives.
    pub fn open(path: &Path, model: &NanoModel, options: ChatOptions) -> Result<(Self, ChatHistory, Vec<String>)> {
        if !path.exists() {
            let chat = model.chat(options)?;
            let header = header(&chat)?;
            let file = SessionFile::create(path, &header)?;
            let session = Self { path: path.to_owned(), file, header, stale: false, stamp: Stamp::default() };
            return Ok((session, chat, Vec::new()));
        }
        let mut opened = SessionFile::open(path)?;
        let stamp = Stamp::default();
        let (chat, same) = resume(path, &mut opened, model, options, &stamp)?;
        let Opened { file, notices, .. } = opened;
        let session = Self { path: path.to_owned(), file, header: header(&chat)?, stale: !same, stamp };
        Ok((session, chat, notices))
    }

    /// Saves the conversation as it is now. It costs what is new: pages that changed since the last commit and a record
    /// of the messages. An error leaves the last commit.
    ///
    /// Commit between turns: like all that is done to a conversation, this takes back a turn whose reply did not join it
    /// yet.
    pub fn commit(&mut self, chat: &mut ChatHistory) -> Result<()> {
        let header = header(chat)?;
        let replaced = self.stale || header != self.header;
        let state = state(&self.path, chat)?;
        let model = chat.model.clone();
        let cache = chat.cache.get_or_insert_with(|| model.cache());
        let pages = cache.len().div_ceil(PAGE_ROWS);
        let mut read = |index: usize, into: &mut Vec<u8>| model.0.read_page(cache, index, into);
        if replaced {
            self.file.rewrite(&header, &state, pages, &mut read)?;
        } else {
            let changed = cache.saved_as(&self.stamp) / PAGE_ROWS;
            self.file.commit(&state, pages, changed, &mut read)?;
        }
        self.header = header;
        self.stale = false;
        self.stamp = Stamp::default();
        cache.saved(self.stamp.clone());
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ChatHistory {
    /// Saves the conversation into a new file, in the place of a session that may be there and that nobody has open.
    /// Between turns: a turn whose reply did not join the conversation yet is taken back.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let state = state(path, self)?;
        let header = header(self)?;
        let model = self.model.clone();
        let cache = self.cache.get_or_insert_with(|| model.cache());
        let mut read = |index: usize, into: &mut Vec<u8>| model.0.read_page(cache, index, into);
        SessionFile::write_whole(path, &header, &state, cache.len().div_ceil(PAGE_ROWS), &mut read)
    }

    /// A conversation that goes on where one was saved. What the user should know comes with it.
    pub fn load(model: &NanoModel, path: &Path, options: ChatOptions) -> Result<(Self, Vec<String>)> {
        let mut opened = SessionFile::open_to_read(path)?;
        let (chat, _) = resume(path, &mut opened, model, options, &Stamp::default())?;
        Ok((chat, opened.notices))
    }

    /// The logits after the last token of the conversation: what is pending is fed, or the last token again if nothing
    /// is.
    pub fn logits(&mut self) -> Result<Vec<f32>> {
        self.settle();
        let tokens = self.state.segments.tokens();
        let cache = self.cache.take().unwrap_or_else(|| self.model.cache());
        let (cache, logits) = self.model.0.logits(&tokens[cache.len()..], cache);
        self.cache = Some(cache);
        self.check();
        logits
    }
}

impl SavedChat {
    /// Reads a session file.
    pub fn read(path: &Path) -> Result<Self> {
        let Opened { header, turn, notices, .. } = SessionFile::open_to_read(path)?;
        let model = header.identity.model;
        let Some(turn) = turn else { return Ok(Self { model, messages: Vec::new(), rows: 0, pending: 0, notices }) };
        let Saved { messages, segments, starts, rows } = parse(path, &turn.state)?;
        let tokens = segments.tokens();
        let start = |i: usize| starts.get(i).copied().unwrap_or(tokens.len());
        let own = |(i, message): (usize, SavedMessage)| (message.message, tokens[start(i)..start(i + 1)].to_vec());
        let messages = messages.into_iter().enumerate().map(own).collect();
        Ok(Self { model, messages, rows, pending: tokens.len() - rows, notices })
    }
}

/// What a conversation's file says of its model.
fn header(chat: &ChatHistory) -> Result<Header> {
    let info = chat.model.info();
    let unknown = || Identity { model: info.name.clone(), ..Identity::default() };
    let identity = info.identity.clone().unwrap_or_else(unknown).with_template(&chat.template);
    Ok(Header { identity, page_bytes: chat.model.0.page_bytes()? })
}

fn state(path: &Path, chat: &mut ChatHistory) -> Result<Vec<u8>> {
    chat.settle();
    let State { messages, said, segments, starts, .. } = chat.state.clone();
    let message = |(message, Said { reply, cancelled })| SavedMessage { message, reply, cancelled };
    let messages = messages.into_iter().zip(said).map(message).collect();
    let saved = Saved { messages, segments, starts, rows: chat.num_rows() };
    let unsaved =
        |why: String| Error::Session { path: path.to_owned(), why: format!("the messages cannot be saved: {why}") };
    let state = serde_json::to_vec(&saved).map_err(|e| unsaved(e.to_string()))?;
    // A program may make messages of its own that no reader would take. A file is worth nothing if it cannot be read.
    serde_json::from_slice::<Saved>(&state).map_err(|e| unsaved(e.to_string()))?;
    Ok(state)
}

fn parse(path: &Path, state: &[u8]) -> Result<Saved> {
    let fail = |why: String| Error::Session { path: path.to_owned(), why };
    let saved: Saved = serde_json::from_slice(state).map_err(|e| fail(format!("its messages cannot be read: {e}")))?;
    let (tokens, starts) = (saved.segments.len(), &saved.starts);
    let owned = starts.first().copied().unwrap_or(tokens) == 0 && starts.last().is_none_or(|&last| last <= tokens);
    if saved.rows > tokens || starts.len() > saved.messages.len() || !starts.is_sorted() || !owned {
        return Err(fail("its messages and its tokens do not belong together".into()));
    }
    Ok(saved)
}

/// The conversation of a file, and whether its rows are of use to this model. Notices are added to those of the file.
fn resume(
    path: &Path,
    opened: &mut Opened,
    model: &NanoModel,
    options: ChatOptions,
    stamp: &Stamp,
) -> Result<(ChatHistory, bool)> {
    let mut chat = model.chat(options)?;
    let here = header(&chat)?;
    let there = &opened.header;
    let different = here.identity.difference(&there.identity);
    let different = different.or_else(|| (here.page_bytes != there.page_bytes).then(|| "the model's sizes".to_owned()));
    let Some(turn) = &opened.turn else { return Ok((chat, different.is_none())) };
    let Saved { messages, segments, starts, rows } = parse(path, &turn.state)?;
    let tokens = segments.tokens();
    let vocab = model.limits().vocab;
    if let (None, Some(token)) = (&different, tokens.iter().find(|&&token| token as usize >= vocab)) {
        let why = format!("it holds token {token}, and the model has {vocab}");
        return Err(Error::Session { path: path.to_owned(), why });
    }
    let mut state = State { settled: messages.len(), ..State::default() };
    for SavedMessage { message, reply, cancelled } in messages {
        state.messages.push(message);
        state.said.push(Said { reply: reply.filter(|_| different.is_none()), cancelled });
    }
    match &different {
        Some(what) => {
            let notice = format!("{}: {what} changed; the messages stay, and are fed again", path.display());
            opened.notices.push(notice);
        }
        None => (state.segments, state.starts) = (segments, starts),
    }
    chat.state = state;
    if different.is_none() {
        let (cache, why) = restore(&chat, opened, &tokens[..rows], turn_pages(opened));
        if let Some(why) = why {
            let fed_again = rows - cache.len();
            opened.notices.push(format!("{why}; {fed_again} of {rows} rows are computed again"));
        }
        chat.cache = Some(cache);
        if let Some(cache) = &mut chat.cache {
            cache.saved(stamp.clone());
        }
    }
    chat.check();
    Ok((chat, different.is_none()))
}

fn turn_pages(opened: &Opened) -> usize {
    opened.turn.as_ref().map_or(0, |turn| turn.pages)
}

/// A cache with the rows of `tokens`, or of their beginning and why not of all.
fn restore(chat: &ChatHistory, opened: &mut Opened, tokens: &[u32], pages: usize) -> (KvCache, Option<String>) {
    let mut cache = chat.model.cache();
    let context = chat.model.limits().context;
    let fits = tokens.len().min(context);
    for (index, rows) in tokens[..fits].chunks(PAGE_ROWS).enumerate() {
        if index >= pages {
            return (
                cache,
                Some(format!("{}: it holds {pages} pages and should hold more", opened.file.path().display())),
            );
        }
        let mut page = Vec::new();
        let done;
        (cache, done) = match opened.file.read_page(index, &mut page) {
            Ok(()) => chat.model.0.restore_page(cache, rows.to_vec(), page),
            Err(error) => (cache, Err(error)),
        };
        if let Err(error) = done {
            return (cache, Some(error.to_string()));
        }
    }
    let why = (fits < tokens.len()).then(|| format!("the context holds {context} tokens, and the session more"));
    (cache, why)
}
