//! A file's bytes in memory: mapped, or held. The crate's only `unsafe` is here.

use crate::{Error, Result};
use std::ops::{Deref, Range};
use std::path::Path;

/// Bytes of a file. Dereferences to the whole of it.
pub(crate) enum Map {
    File(memmap2::Mmap, std::fs::File),
    Memory(Vec<u8>),
}

impl Map {
    /// Maps a whole file, read-only. Nothing is read yet.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, "cannot be opened", e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, "cannot be examined", e))?;
        if !meta.is_file() {
            return Err(Error::file(path, "is not a regular file"));
        }
        if meta.len() == 0 {
            return Err(Error::file(path, "is empty; download or copy it again"));
        }
        // SAFETY: the map is read-only and private to this value. That nobody shortens or rewrites the file meanwhile
        // cannot be enforced; every program that maps its model files relies on it.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, "cannot be mapped", e))?;
        Ok(Map::File(map, file))
    }

    /// Tells the system that `range` need not stay in our memory. It remains readable: a later look reads the file
    /// again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Map::File(map, _) = self {
            let Some(range) = widen(map.as_ptr() as usize, map.len(), range) else { return };
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: for a read-only map of a file, dropped pages are read from the file again on the next access, so
            // every slice of it stays valid and unchanged. A refusal by the system costs memory only.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Releases `range`, and tells the system that its cache of the file need not keep it either. Pages that others map
    /// stay. A refusal costs memory only.
    pub(crate) fn evict(&self, range: Range<usize>) {
        self.release(range.clone());
        #[cfg(target_os = "linux")]
        if let Map::File(_, file) = self {
            let len = std::num::NonZeroU64::new(range.len() as u64);
            if len.is_some() {
                let _ = rustix::fs::fadvise(file, range.start as u64, len, rustix::fs::Advice::DontNeed);
            }
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Map::File(map, _) => map,
            Map::Memory(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

/// Linux maps up to this many bytes around a page that is touched, aligned by address: where the system's cache holds the file
/// in large pages, a whole one.
#[cfg(unix)]
const FAULT_AROUND: usize = 2 << 20;

/// `range` grown to the borders of [`FAULT_AROUND`], within the map: reading a tensor also brings in the neighbours'
/// edges, and they would stay if only the tensor's own pages went.
#[cfg(unix)]
fn widen(base: usize, len: usize, range: Range<usize>) -> Option<Range<usize>> {
    if range.is_empty() || range.end > len {
        return None;
    }
    let start = (base.checked_add(range.start)? & !(FAULT_AROUND - 1)).saturating_sub(base);
    let end = base.checked_add(range.end)?.checked_next_multiple_of(FAULT_AROUND)?.checked_sub(base)?.min(len);
    // Where the map begins inside such a window, its own first byte is the border.
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn widens_to_windows_inside_the_map() {
        let w = FAULT_AROUND;
        assert_eq!(widen(w * 9, 10 * w, w + 5..w + 6), Some(w..2 * w));
        assert_eq!(widen(w * 9 + 4096, 10 * w, 5..6), Some(0..w - 4096));
        assert_eq!(widen(w * 9, 2 * w - 7, w + 5..w + 6), Some(w..2 * w - 7));
        assert_eq!(widen(w * 9, w, 5..5), None);
        assert_eq!(widen(w * 9, w, 5..w + 1), None);
        assert_eq!(widen(usize::MAX - 10, w, 50..60), None);
    }

    #[test]
    fn released_bytes_can_still_be_read() {
        let path = std::env::temp_dir().join(format!("nano-map-{}", std::process::id()));
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = Map::open(&path).unwrap();
        assert_eq!(&map[..], &bytes[..]);
        map.release(1000..250_000);
        map.release(0..usize::MAX);
        map.evict(70_000..250_000);
        map.evict(5..5);
        assert_eq!(&map[..], &bytes[..]);
        std::fs::remove_file(&path).unwrap();
    }
}
