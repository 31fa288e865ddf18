//! Looking at text that may go on: whether it begins with something, and how much of its end must wait.

/// White space beside markers is dropped with them, as much as this: more is no layout, and would have to be held back.
pub(crate) const SPACE: usize = 64;

/// A name or another short word in a call is no longer than this.
pub(crate) const WORD: usize = 128;

/// Whether text begins with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    Yes,
    No,
    /// More text decides.
    Perhaps,
}

/// Whether text that may go on begins with `what`.
pub(crate) fn begins(text: &str, what: &str) -> Begins {
    if text.starts_with(what) {
        Begins::Yes
    } else if what.starts_with(text) {
        Begins::Perhaps
    } else {
        Begins::No
    }
}

/// Length of the white space that text begins with.
pub(crate) fn space(text: &str) -> usize {
    text.bytes().take_while(|&byte| is_space(byte)).count()
}

/// Length of text without the white space at its end that a marker would take along.
pub(crate) fn without_space(text: &str) -> usize {
    text.len() - text.bytes().rev().take(SPACE).take_while(|&byte| is_space(byte)).count()
}

/// The first of several markers in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The marker with this index begins at this byte.
    At(usize, usize),
    /// There is none, but from this byte on the text may be the beginning of one.
    Perhaps(usize),
    No,
}

/// Looks for the marker that begins first; of two that begin there, the one that is listed first counts.
pub(crate) fn find(text: &str, markers: &[&str]) -> Found {
    let bytes = text.as_bytes();
    for at in 0..bytes.len() {
        let mut perhaps = false;
        for (index, marker) in markers.iter().enumerate() {
            let marker = marker.as_bytes();
            if bytes[at] != marker[0] {
                continue;
            }
            let here = &bytes[at..bytes.len().min(at + marker.len())];
            if here == marker {
                return Found::At(at, index);
            }
            perhaps |= marker.starts_with(here);
        }
        if perhaps {
            return Found::Perhaps(at);
        }
    }
    Found::No
}

/// The place of something that begins at most `most` bytes after `at`.
pub(crate) fn find_near(text: &str, at: usize, most: usize, what: &str) -> Option<usize> {
    let near = &text.as_bytes()[at..text.len().min(at + most + what.len())];
    near.windows(what.len()).position(|window| window == what.as_bytes()).map(|found| at + found)
}

/// Finds what ends a stretch of text, looking at every byte once however the text comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seek {
    looked: usize,
}

impl Seek {
    /// The first place of `needle` at or after `from` in a text that only ever grows.
    pub(crate) fn find(&mut self, text: &str, from: usize, needle: &str) -> Option<usize> {
        let mut start = self.looked.max(from);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let found = text[start..].find(needle).map(|at| start + at);
        self.looked = (text.len() + 1).saturating_sub(needle.len()).max(from);
        found
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}
