//! The tensors of a checkpoint, whatever its container: names, shapes, and where their bytes lie. Containers build
//! this; all access goes through it.

use super::TensorInfo;
use super::map::Map;
use crate::{Error, Result};
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Tensors by name, over one or several files.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    files: Vec<(PathBuf, Arc<Map>)>,
    entries: BTreeMap<String, Entry>,
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

    /// Adds a tensor. `false` if the name is taken.
    pub(super) fn add(&mut self, name: String, entry: Entry) -> bool {
        use std::collections::btree_map::Entry as Slot;
        match self.entries.entry(name) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
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

    pub(super) fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    pub(super) fn info(&self, name: &str) -> Option<TensorInfo> {
        self.entries.get(name).map(|e| e.info)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<HostTensor<'_>>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let (path, map) = &self.files[entry.file];
        let bytes =
            map.get(entry.range.clone()).ok_or_else(|| Error::tensor(path, name, "its data lies outside the file"))?;
        let TensorInfo { format, rows, cols, .. } = entry.info;
        Ok(Some(HostTensor::new(name, format, rows, cols, Cow::Borrowed(bytes))?))
    }

    pub(super) fn release(&self, name: &str) {
        if let Some(entry) = self.entries.get(name) {
            self.files[entry.file].1.release(entry.range.clone());
        }
    }

    /// Releases a tensor's bytes, from the system's cache too.
    pub(super) fn evict(&self, name: &str) {
        if let Some(entry) = self.entries.get(name) {
            self.files[entry.file].1.evict(entry.range.clone());
        }
    }
}

/// A shape as rows of values, and its size, or what is wrong with it. `dims` has the longest stride first.
pub(super) fn shape(format: Format, dims: &[u64]) -> std::result::Result<TensorInfo, String> {
    let shown = || dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
    if dims.contains(&0) {
        return Err(format!("its shape {} has no values", shown()));
    }
    let too_large = || format!("its shape {} is larger than any memory", shown());
    let (cols, outer) = dims.split_last().map_or((1, dims), |(cols, outer)| (*cols, outer));
    let cols = usize::try_from(cols).map_err(|_| too_large())?;
    let rows = outer.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?)).ok_or_else(too_large)?;
    if !cols.is_multiple_of(format.block_len()) {
        return Err(format!(
            "its rows of {cols} values are no whole number of {format} blocks of {}",
            format.block_len()
        ));
    }
    let bytes = format.row_bytes(cols).and_then(|row| row.checked_mul(rows)).ok_or_else(too_large)?;
    // Values are counted as well as bytes: code that widens a tensor to float32 multiplies these.
    rows.checked_mul(cols).and_then(|n| n.checked_mul(4)).ok_or_else(too_large)?;
    Ok(TensorInfo { format, rows, cols, bytes })
}
