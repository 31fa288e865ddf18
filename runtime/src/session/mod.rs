//! Session files: what a conversation needs to go on after the program, or the machine, has stopped at any moment.
//!
//! A session file is appended to. A turn adds the pages that are new, waits until they are on the disk, and then a
//! record of where all pages lie together with the caller's state; until that record is complete, the turn before it
//! is the last. When most of a file is pages that no turn needs any more, the next turn writes a new file beside it and
//! renames it over the old one.
//!
//! Bytes, pages and checksums are known here. What the pages and the state mean is not: conversations, tokens and
//! engines are the caller's.

mod folder;
mod format;
mod identity;
mod log;
#[cfg(test)]
mod tests;

pub use identity::Identity;

use crate::Result;
use folder::{Folder, Locked};
use log::{Log, Storage};
use std::path::Path;

/// A file with less than this of no use is left as it is.
const FLOOR: u64 = 16 << 20;

/// Gives a page's bytes: its index, and where to put them (empty at the call).
pub(crate) type ReadPage<'a> = &'a mut dyn FnMut(usize, &mut Vec<u8>) -> Result<()>;

/// What a session belongs to, and the size of its pages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    /// The model, and how it computes.
    pub(crate) identity: Identity,
    /// Bytes of a page, all of them the same.
    pub(crate) page_bytes: usize,
}

/// What the last complete turn left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The caller's state.
    pub(crate) state: Vec<u8>,
    /// Pages that can be read.
    pub(crate) pages: usize,
}

/// A session file that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file, to read pages from and to commit to.
    pub(crate) file: SessionFile,
    /// What the file says of itself.
    pub(crate) header: Header,
    /// The last complete turn. `None` if nothing was committed yet.
    pub(crate) turn: Option<Turn>,
    /// What the user should know; sentences.
    pub(crate) notices: Vec<String>,
}

/// An open session file. Nobody else can open it while this value lives.
#[derive(Debug)]
pub(crate) struct SessionFile(Session<Folder>);

impl SessionFile {
    /// Makes a new file, readable by its owner only. One that exists is an error.
    pub(crate) fn create(path: &Path, header: &Header) -> Result<Self> {
        Session::create(Folder::new(path)?, header).map(Self)
    }

    /// Opens a file and finds its last complete turn. What follows that, damaged or cut off, stays in the file until
    /// the next commit, and a notice says so.
    pub(crate) fn open(path: &Path) -> Result<Opened> {
        let (folder, storage) = Folder::open(path)?;
        folder.clean();
        Self::opened(folder, storage)
    }

    /// Opens a file that is not to be changed. It may be in use elsewhere, and may be read-only. A turn that is being
    /// written meanwhile looks like one that is cut off.
    pub(crate) fn open_to_read(path: &Path) -> Result<Opened> {
        let (folder, storage) = Folder::open_to_read(path)?;
        Self::opened(folder, storage)
    }

    fn opened(folder: Folder, storage: Locked) -> Result<Opened> {
        let (session, turn, notice) = Session::open(folder, storage)?;
        let header = session.log.header().clone();
        Ok(Opened { file: Self(session), header, turn, notices: Vec::from_iter(notice) })
    }

    /// Saves a turn: `state`, and the conversation's pages, of which all before `changed` are as in the last commit.
    /// `read` is called for the others in order, and for pages that cannot be copied when the file is rewritten. On an
    /// error the last commit still stands.
    pub(crate) fn commit(&mut self, state: &[u8], pages: usize, changed: usize, read: ReadPage<'_>) -> Result<()> {
        self.0.commit(state, pages, changed, read)
    }

    /// Puts a new file with this turn alone in the place of this one: for a conversation that belongs to another model
    /// now.
    pub(crate) fn rewrite(&mut self, header: &Header, state: &[u8], pages: usize, read: ReadPage<'_>) -> Result<()> {
        self.0.rewrite(header, state, pages, read)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.0.place.path()
    }

    /// Reads a page of the last commit, replacing what `into` held. Any error means that this page must be made anew.
    pub(crate) fn read_page(&mut self, index: usize, into: &mut Vec<u8>) -> Result<()> {
        self.0.log.read_page(index, into)
    }

    /// Writes a whole session into a new file and puts it at `path`, in the place of a session that may be there and
    /// that nobody has open. A file that is no session is not replaced.
    pub(crate) fn write_whole(
        path: &Path,
        header: &Header,
        state: &[u8],
        pages: usize,
        read: ReadPage<'_>,
    ) -> Result<()> {
        Session::write_whole(Folder::to_replace(path)?, header, state, pages, read).map(drop)
    }
}

/// Where a session file lies: what is needed to put a new one in its place.
trait Place {
    type File: Storage;

    /// The file, for messages.
    fn path(&self) -> &Path;
    /// A file can be written here at all.
    fn writable(&self) -> Result<()>;
    /// Makes an empty file beside the session, which is ours alone. `id` tells it from others.
    fn beside(&mut self, id: u64) -> Result<Self::File>;
    /// Puts the file made by `beside` in the session's place. `new`: nothing may be there.
    fn publish(&mut self, id: u64, new: bool) -> Result<()>;
    /// Returns once a power cut will not undo `publish`.
    fn settle(&mut self) -> Result<()>;
    /// Removes the file made by `beside`.
    fn discard(&mut self, id: u64);
}

#[derive(Debug)]
struct Session<P: Place> {
    place: P,
    log: Log<P::File>,
    /// Bytes of no use that are not worth a rewrite.
    floor: u64,
    /// Where rewriting failed: so many bytes of no use before it is tried again.
    put_off: u64,
    /// A power cut may still undo the last rewriting.
    unsettled: bool,
}

impl<P: Place> Session<P> {
    fn create(mut place: P, header: &Header) -> Result<Self> {
        let log = Self::replacement(&mut place, header, true, |_| Ok(()))?;
        place.settle()?;
        Ok(Self { place, log, floor: FLOOR, put_off: 0, unsettled: false })
    }

    fn open(place: P, storage: P::File) -> Result<(Self, Option<Turn>, Option<String>)> {
        let found = Log::open(place.path(), storage)?;
        let turn = found.state.map(|state| Turn { state, pages: found.log.pages() });
        Ok((Self { place, log: found.log, floor: FLOOR, put_off: 0, unsettled: false }, turn, found.notice))
    }

    fn write_whole(mut place: P, header: &Header, state: &[u8], pages: usize, read: ReadPage<'_>) -> Result<Self> {
        let log = Self::replacement(&mut place, header, false, |log| log.append(state, pages, 0, read))?;
        place.settle()?;
        Ok(Self { place, log, floor: FLOOR, put_off: 0, unsettled: false })
    }

    fn commit(&mut self, state: &[u8], pages: usize, changed: usize, read: ReadPage<'_>) -> Result<()> {
        self.place.writable()?;
        // A turn in a file that may vanish is not saved.
        self.settle()?;
        let (len, live) = self.log.sizes(state.len(), pages, changed);
        let waste = len.saturating_sub(live);
        if waste > live.max(self.floor).max(self.put_off) {
            match self.compact(state, pages, changed, read) {
                Ok(()) => return self.settle(),
                // Appending may still do: there may be no room for two files, or the folder may not be ours.
                Err(_) => self.put_off = waste.saturating_mul(2),
            }
        }
        self.log.append(state, pages, changed, read)
    }

    fn rewrite(&mut self, header: &Header, state: &[u8], pages: usize, read: ReadPage<'_>) -> Result<()> {
        self.place.writable()?;
        self.log = Self::replacement(&mut self.place, header, false, |log| log.append(state, pages, 0, read))?;
        self.unsettled = true;
        self.settle()
    }

    fn settle(&mut self) -> Result<()> {
        if self.unsettled {
            self.place.settle()?;
            self.unsettled = false;
        }
        Ok(())
    }

    /// Puts a new file with one turn in the place of this one. Pages that did not change are copied.
    fn compact(&mut self, state: &[u8], pages: usize, changed: usize, read: ReadPage<'_>) -> Result<()> {
        let header = self.log.header().clone();
        let old = &mut self.log;
        let copied = changed.min(old.pages());
        let mut either = |index: usize, into: &mut Vec<u8>| {
            if index < copied && old.read_page(index, into).is_ok() {
                return Ok(());
            }
            into.clear();
            read(index, into)
        };
        self.log = Self::replacement(&mut self.place, &header, false, |log| log.append(state, pages, 0, &mut either))?;
        (self.put_off, self.unsettled) = (0, true);
        Ok(())
    }

    /// Makes a new file, fills it, and puts it in the session's place. On an error it is gone, and what was there is
    /// there still.
    fn replacement(
        place: &mut P,
        header: &Header,
        new: bool,
        fill: impl FnOnce(&mut Log<P::File>) -> Result<()>,
    ) -> Result<Log<P::File>> {
        let id = folder::fresh_id();
        let storage = place.beside(id)?;
        let filled = Log::create(place.path(), storage, id, header).and_then(|mut log| {
            fill(&mut log)?;
            log.sync()?;
            place.publish(id, new)?;
            Ok(log)
        });
        if filled.is_err() {
            place.discard(id);
        }
        filled
    }
}
