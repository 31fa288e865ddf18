//! The tensors of a checkpoint, whatever its container: names, shapes, and where their bytes lie. Containers build
//! this; all access goes through it.

use super::TensorInfo;
use super::map::Map;
use super::packed::{Array, Packed};
use super::woven::{Place, Woven};
use crate::{Error, Result};
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is wrong where pieces make a tensor that is there anyway.
pub(super) const TWICE: &str = "is there twice: as it is, and in pieces";

/// Tensors by name, over one or several files.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    files: Vec<(PathBuf, Arc<Map>)>,
    entries: BTreeMap<String, Held>,
    /// How many scales of which tensors were rounded when these were read.
    rounded: Mutex<BTreeMap<String, usize>>,
}

/// How a tensor lies in the files.
#[derive(Debug)]
enum Held {
    Whole(Entry),
    Packed(Box<Packed>, TensorInfo),
    Woven(Woven),
}

/// One tensor. `range` lies inside its file, and its length fits `info`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) info: TensorInfo,
    pub(super) file: usize,
    pub(super) range: Range<usize>,
}

impl Tensors {
    /// Adds a file and gives its number for [`Entry::file`].
    pub(super) fn add_file(&mut self, path: PathBuf, map: Arc<Map>) -> usize {
        self.files.push((path, map));
        self.files.len() - 1
    }

    /// The path of a file.
    pub(super) fn path(&self, file: usize) -> &Path {
        &self.files[file].0
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, file: usize) -> &[u8] {
        &self.files[file].1
    }

    /// Adds a tensor. `false` if the name is taken.
    pub(super) fn add(&mut self, name: String, entry: Entry) -> bool {
        self.hold(name, Held::Whole(entry))
    }

    /// Adds a tensor that lies in pieces, if these fit together. An error if the name is taken.
    pub(super) fn add_packed(&mut self, name: String, packed: Packed) -> Result<()> {
        let path = self.path(packed.quants.file);
        let info = packed.check().map_err(|why| Error::tensor(path, &name, why))?;
        let twice = Error::tensor(path, &name, TWICE);
        if self.hold(name, Held::Packed(Box::new(packed), info)) { Ok(()) } else { Err(twice) }
    }

    /// Adds a tensor that is woven together with others. An error if the name is taken.
    pub(super) fn add_woven(&mut self, name: String, woven: Woven) -> Result<()> {
        let file = woven.places().next().map_or(0, |(file, _)| *file);
        let twice = Error::tensor(self.path(file), &name, TWICE);
        if self.hold(name, Held::Woven(woven)) { Ok(()) } else { Err(twice) }
    }

    fn hold(&mut self, name: String, held: Held) -> bool {
        use std::collections::btree_map::Entry as Slot;
        match self.entries.entry(name) {
            Slot::Vacant(slot) => {
                slot.insert(held);
                true
            }
            Slot::Occupied(_) => false,
        }
    }

    /// Gives every tensor the name that `new` makes of its own, and drops those without one; tells how many.
    pub(super) fn rename(&mut self, new: impl Fn(&str) -> Option<String>) -> usize {
        let before = self.entries.len();
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.into_iter().filter_map(|(name, entry)| Some((new(&name)?, entry))).collect();
        before - self.entries.len()
    }

    /// The files' paths.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let on_disk = self.files.iter().filter(|(_, map)| matches!(**map, Map::File(..)));
        on_disk.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    pub(super) fn info(&self, name: &str) -> Option<TensorInfo> {
        self.entries.get(name).map(|held| match held {
            Held::Whole(entry) => entry.info,
            Held::Packed(_, info) => *info,
            Held::Woven(woven) => woven.info(),
        })
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>> {
        const OUTSIDE: &str = "its data lies outside the file";
        match self.entries.get(name) {
            None => Ok(None),
            Some(Held::Whole(entry)) => {
                let (path, map) = &self.files[entry.file];
                let bytes = map.get(entry.range.clone()).ok_or_else(|| Error::tensor(path, name, OUTSIDE))?;
                let TensorInfo { format, rows, cols, .. } = entry.info;
                Ok(Some(HostTensor::new(name, format, rows, cols, Cow::Borrowed(bytes))?))
            }
            Some(Held::Packed(packed, _)) => {
                let bytes = |array: &Array| self.files[array.file].1.get(array.range.clone()).ok_or(OUTSIDE.to_owned());
                let path = self.path(packed.quants.file);
                let (tensor, rounded) = packed.read(name, &bytes).map_err(|why| Error::tensor(path, name, why))?;
                if rounded > 0 {
                    let mut all = self.rounded.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert(name.to_owned(), rounded);
                }
                Ok(Some(tensor))
            }
            Some(Held::Woven(woven)) => {
                let bytes = |(file, range): &Place| self.files[*file].1.get(range.clone());
                let path = woven.places().next().map_or(Path::new(""), |(file, _)| self.path(*file));
                let tensor = woven.read(name, bytes).ok_or_else(|| Error::tensor(path, name, OUTSIDE))?;
                Ok(Some(tensor?))
            }
        }
    }

    /// Some of a tensor's bytes as they lie in the files: all of them, or its quants.
    pub(super) fn stored(&self, name: &str) -> Option<&[u8]> {
        let (file, range) = self.places(name).into_iter().next()?;
        self.files[file].1.get(range)
    }

    /// What was lost when tensors were read.
    pub(super) fn notices(&self) -> Vec<String> {
        let all = self.rounded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((first, _)) = all.first_key_value() else { return Vec::new() };
        let (n, count) = (all.values().sum::<usize>(), all.len());
        let of = if count == 1 { format!("tensor {first}") } else { format!("{count} tensors ({first} first)") };
        vec![format!("{n} scales of {of} were rounded to float16, in which scales are held")]
    }

    /// Where a tensor's bytes lie.
    fn places(&self, name: &str) -> Vec<Place> {
        match self.entries.get(name) {
            None => Vec::new(),
            Some(Held::Whole(entry)) => vec![(entry.file, entry.range.clone())],
            Some(Held::Packed(packed, _)) => packed.arrays().map(|array| (array.file, array.range.clone())).collect(),
            Some(Held::Woven(woven)) => woven.places().cloned().collect(),
        }
    }

    pub(super) fn release(&self, name: &str) {
        self.places(name).into_iter().for_each(|(file, range)| self.files[file].1.release(range));
    }

    /// Releases a tensor's bytes, from the system's cache too.
    pub(super) fn evict(&self, name: &str) {
        self.places(name).into_iter().for_each(|(file, range)| self.files[file].1.evict(range));
    }
}

/// A shape as rows of values, and its size, or what is wrong with it. `dims` has the longest stride first.
pub(super) fn shape(format: Format, dims: &[u64]) -> std::result::Result<TensorInfo, String> {
    let (rows, cols) = rows_of(dims)?;
    if !cols.is_multiple_of(format.block_len()) {
        return Err(format!(
            "its rows of {cols} values are no whole number of {format} blocks of {}",
            format.block_len()
        ));
    }
    let bytes = format.row_bytes(cols).and_then(|row| row.checked_mul(rows)).ok_or_else(|| too_large(dims))?;
    Ok(TensorInfo { format, rows, cols, bytes })
}

/// Rows and columns of a shape. Eight bytes for each value are less than any address.
pub(super) fn rows_of(dims: &[u64]) -> std::result::Result<(usize, usize), String> {
    if dims.contains(&0) {
        return Err(format!("its shape {} has no values", shown(dims)));
    }
    let (cols, outer) = dims.split_last().map_or((1, dims), |(cols, outer)| (*cols, outer));
    let number = |n: u64| usize::try_from(n).map_err(|_| too_large(dims));
    let cols = number(cols)?;
    let rows = outer.iter().try_fold(1usize, |n, d| n.checked_mul(number(*d)?).ok_or_else(|| too_large(dims)))?;
    // Values are counted as well as bytes: code that widens a tensor multiplies these.
    rows.checked_mul(cols).and_then(|n| n.checked_mul(8)).ok_or_else(|| too_large(dims))?;
    Ok((rows, cols))
}

fn shown(dims: &[u64]) -> String {
    dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}

fn too_large(dims: &[u64]) -> String {
    format!("its shape {} is larger than any memory", shown(dims))
}
