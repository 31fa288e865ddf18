//! Sessions under kills, power cuts and damage. Most of it runs on a disk in memory, which remembers what was asked of
//! it in which order and can be cut off anywhere; `files` runs on real ones.

mod crash;
mod damage;
mod disk;
mod files;

use super::*;
use disk::{Disk, Memory};

/// Bytes of a page in these tests.
const PAGE: usize = 24;

fn header() -> Header {
    let identity = Identity {
        model: "parrot".into(),
        weights: "0123456789abcdef".into(),
        quantization: "none".into(),
        kv_format: "f16".into(),
        template: "chatml 00".into(),
    };
    Header { identity, page_bytes: PAGE }
}

/// What a session should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    state: Vec<u8>,
    pages: Vec<Vec<u8>>,
}

impl Content {
    /// Pages full of these numbers.
    fn new(state: &str, pages: &[u8]) -> Self {
        let page = |n: &u8| (0..PAGE as u8).map(|i| n.wrapping_mul(37).wrapping_add(i)).collect();
        Self { state: state.into(), pages: pages.iter().map(page).collect() }
    }

    /// Commits this to a session, with the first page that differs from what is there.
    fn commit<P: Place>(&self, session: &mut Session<P>, changed: usize) -> Result<()> {
        session.commit(&self.state, self.pages.len(), changed, &mut |index, into| {
            into.extend(&self.pages[index]);
            Ok(())
        })
    }
}

/// Four turns: two pages, two more with the second rewritten, fewer pages, and one more.
fn conversation() -> [(Content, usize); 4] {
    [
        (Content::new("one", &[1, 2]), 0),
        (Content::new("second", &[1, 3, 4, 5]), 1),
        (Content::new("3", &[1, 3]), 2),
        (Content::new("the fourth", &[1, 3, 6]), 2),
    ]
}

/// A session with those turns, and where each one ended.
fn written() -> (Disk, Session<Memory>, Vec<u64>) {
    let disk = Disk::default();
    let mut session = Session::create(disk.place(), &header()).unwrap();
    let ends = conversation().map(|(content, changed)| {
        content.commit(&mut session, changed).unwrap();
        disk.file().len() as u64
    });
    (disk, session, ends.to_vec())
}

/// Opens a file of these bytes.
fn open(bytes: Vec<u8>) -> Result<(Session<Memory>, Option<Turn>, Option<String>)> {
    let disk = Disk::with(bytes);
    let (place, file) = disk.open();
    Session::open(place, file)
}

/// Reads all pages, which must be right.
fn content<P: Place>(session: &mut Session<P>, turn: Turn) -> Content {
    let pages = (0..turn.pages).map(|index| {
        let mut page = vec![7; 3];
        session.log.read_page(index, &mut page).unwrap();
        page
    });
    Content { pages: pages.collect(), state: turn.state }
}

#[test]
fn what_was_committed_is_read_again() {
    let (disk, mut session, ends) = written();
    for (index, end) in ends.into_iter().enumerate() {
        let (mut opened, turn, notice) = open(disk.file()[..end as usize].to_vec()).unwrap();
        assert_eq!((opened.log.header(), notice), (&header(), None));
        assert_eq!(content(&mut opened, turn.unwrap()), conversation()[index].0);
    }
    let last = conversation()[3].0.clone();
    assert_eq!(content(&mut session, Turn { state: last.state.clone(), pages: 3 }), last);
    let error = session.log.read_page(3, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "talk.session: has no page 3; its last turn has 3");
}

#[test]
fn a_turn_costs_what_is_new() {
    let disk = Disk::default();
    let mut session = Session::create(disk.place(), &Header { page_bytes: 1 << 16, ..header() }).unwrap();
    let mut read = Vec::new();
    let mut commit = |session: &mut Session<Memory>, pages, changed| {
        let (before, mut asked) = (disk.file().len(), Vec::new());
        let put = &mut |index, into: &mut Vec<u8>| {
            asked.push(index);
            into.resize(1 << 16, index as u8);
            Ok(())
        };
        session.commit(b"state", pages, changed, put).unwrap();
        read.push(asked);
        disk.file().len() - before
    };
    assert!(commit(&mut session, 20, 0) < (20 << 16) + 4096 + 1024);
    let grown = commit(&mut session, 21, 19);
    assert!((2 << 16..(2 << 16) + 4096 + 1024).contains(&grown), "{grown} bytes for two pages");
    let grown = commit(&mut session, 21, 21);
    assert!(grown < 4096 + 1024, "{grown} bytes for no page");
    // What the caller takes for unchanged and is not there is read too.
    commit(&mut session, 22, 100);
    assert_eq!(read[1..], [vec![19, 20], vec![], vec![21]]);
}

#[test]
fn a_session_goes_on_after_it_was_opened() {
    let (disk, session, _) = written();
    drop(session);
    let (place, file) = disk.open();
    let (mut session, _, _) = Session::open(place, file).unwrap();
    let next = Content::new("fifth", &[1, 3, 6, 7]);
    next.commit(&mut session, 3).unwrap();
    let (mut opened, turn, notice) = open(disk.file()).unwrap();
    assert_eq!((content(&mut opened, turn.unwrap()), notice), (next, None));
}
