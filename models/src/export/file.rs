//! The file while it is written: under a name of its own until it is whole, and locked, so that two programs do not write
//! it at once.

use super::Named;
use super::tensors::{Data, Item, Part, Turn};
use crate::checkpoint::gguf::{Listed, header, type_number};
use crate::{Checkpoint, Error, Result};
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Alignment of tensor data.
const ALIGNMENT: u64 = 32;
/// About how many values are converted at once.
const SHARE: usize = 1 << 22;

/// How a matrix is converted.
pub struct Conversion<'a> {
    /// To what.
    pub format: Format,
    /// How much the errors of its inputs count.
    pub weights: Option<&'a [f32]>,
    /// On how many threads.
    pub threads: usize,
}

/// A file that is being written.
pub struct Output {
    to: PathBuf,
    part: PathBuf,
    file: File,
    /// Where each tensor begins, and where the last ends.
    starts: Vec<u64>,
    header: u64,
}

impl Output {
    /// Begins the file that is to be `to`: its header, and room for the data.
    pub fn create(to: &Path, values: &[Named], items: &[Item], formats: &[Format]) -> Result<Self> {
        let mut listed = Vec::new();
        for (item, format) in items.iter().zip(formats) {
            let (cols, rows) = item.shape();
            let bytes = format.row_bytes(cols).and_then(|row| row.checked_mul(rows));
            let bytes = bytes.ok_or_else(|| Error::tensor(to, &item.name, format!("cannot be held as {format}")))?;
            let number = type_number(*format);
            listed.push(Listed { name: &item.name, dims: &item.dims, number, bytes: bytes as u64, offset: None });
        }
        let (bytes, mut starts) = header(3, ALIGNMENT, values, &listed);
        let end = starts.last().zip(listed.last()).map_or(bytes.len() as u64, |(start, last)| start + last.bytes);
        let end = end.next_multiple_of(ALIGNMENT);
        starts.push(end);

        let (part, file) = locked(to)?;
        let mut output = Output { to: to.to_path_buf(), part, file, starts, header: bytes.len() as u64 };
        match output.begin(&bytes, end) {
            Ok(()) => Ok(output),
            Err(error) => {
                output.discard();
                Err(error)
            }
        }
    }

    fn begin(&mut self, header: &[u8], end: u64) -> Result<()> {
        // What another run left is not kept: it may be of other weights.
        self.file.set_len(0).or_else(refused).map_err(|e| self.io(e))?;
        self.file.write_all(header).map_err(|e| self.io(e))?;
        #[cfg(target_os = "linux")]
        if let Err(rustix::io::Errno::NOSPC) =
            rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, end)
        {
            // Better known now than in an hour.
            return Err(self.io(rustix::io::Errno::NOSPC.into()));
        }
        self.file.set_len(end).map_err(|e| self.io(e))
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(&self.part, "cannot be written", error)
    }

    /// Where it is while it is not whole.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or(self.header)
    }

    /// Bytes of its tensors.
    pub fn data_bytes(&self) -> u64 {
        self.bytes() - self.header
    }

    /// Writes the tensor that is number `at` of the list.
    pub fn write(&mut self, checkpoint: &dyn Checkpoint, item: &Item, at: usize, to: &Conversion<'_>) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.starts[at])).map_err(|e| self.io(e))?;
        match &item.data {
            Data::Values(values) => self.values(values),
            Data::Parts(parts) => parts.iter().try_for_each(|part| match item.matrix {
                true => self.matrix(checkpoint, part, to),
                false => self.vector(checkpoint, part, item.plus),
            }),
        }
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(|e| self.io(e))
    }

    fn vector(&mut self, checkpoint: &dyn Checkpoint, part: &Part, plus: f32) -> Result<()> {
        let tensor = tensor(checkpoint, &part.name)?;
        let values = tensor.to_f32();
        let turned: Vec<f32> = (0..values.len()).map(|at| values[source(&part.turns, at)] + plus).collect();
        checkpoint.release(&part.name);
        self.values(&turned)
    }

    fn matrix(&mut self, checkpoint: &dyn Checkpoint, part: &Part, to: &Conversion<'_>) -> Result<()> {
        let tensor = tensor(checkpoint, &part.name)?;
        let share = (SHARE / tensor.cols.max(1)).max(1);
        for from in part.rows.clone().step_by(share) {
            let rows = from..part.rows.end.min(from + share);
            let chunk = match part.turns.is_empty() {
                true => tensor.slice_rows(rows.start, rows.end),
                false => gathered(&tensor, rows.map(|row| source(&part.turns, row)))?,
            };
            let chunk = match to.weights {
                Some(weights) => chunk.convert_weighted(to.format, weights, to.threads)?,
                None => chunk.convert(to.format, to.threads)?,
            };
            self.file.write_all(&chunk.bytes).map_err(|e| self.io(e))?;
            // What was read of it need not stay.
            checkpoint.release(&part.name);
        }
        Ok(())
    }

    /// Gives the file its name.
    pub fn finish(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.io(e))?;
        std::fs::rename(&self.part, &self.to).map_err(|e| Error::io(&self.to, "cannot be written", e))
    }

    /// Removes what there is of it.
    pub fn discard(&self) {
        // If that fails too, the next run writes over it.
        let _ = std::fs::remove_file(&self.part);
    }
}

/// The file beside `to` that becomes it, and which nobody else is writing.
fn locked(to: &Path) -> Result<(PathBuf, File)> {
    let Some(name) = to.file_name() else { return Err(Error::file(to, "is no name for a file")) };
    let mut name = name.to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&part);
    let file = file.map_err(|e| Error::io(&part, "cannot be created", e))?;
    match file.try_lock() {
        Ok(()) | Err(TryLockError::Error(_)) => Ok((part, file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::file(&part, "is being written by another program; wait for it, or write elsewhere"))
        }
    }
}

/// Writes bytes at their place in a file.
type Put<'a> = dyn FnMut(u64, &[u8]) -> Result<()> + 'a;

/// Writes a file in the same way, in pieces that are each given with their place.
pub fn write_whole(to: &Path, write: &mut dyn FnMut(&mut Put<'_>) -> Result<()>) -> Result<()> {
    let (part, file) = locked(to)?;
    let mut output = Output { to: to.to_path_buf(), part, file, starts: Vec::new(), header: 0 };
    let mut put = |at: u64, bytes: &[u8]| {
        let mut file = &output.file;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).map_err(|e| output.io(e))
    };
    let done = put(0, &[]).and_then(|()| write(&mut put));
    match done.and_then(|()| output.finish()) {
        Ok(()) => Ok(()),
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

impl Item {
    /// Values side by side, and how many such rows.
    fn shape(&self) -> (usize, usize) {
        let (cols, outer) = self.dims.split_last().map_or((1, &[][..]), |(cols, outer)| (*cols, outer));
        (cols, outer.iter().product())
    }
}

/// What cannot be cut short is written over.
fn refused(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}

fn tensor<'a>(checkpoint: &'a dyn Checkpoint, name: &str) -> Result<HostTensor<'a>> {
    checkpoint.tensor(name)?.ok_or_else(|| crate::arch::missing(checkpoint, name))
}

/// Which row of a tensor comes to `row`.
fn source(turns: &[Turn], row: usize) -> usize {
    turns.iter().fold(row, |row, turn| turn.source(row))
}

/// Rows of a tensor in an order of their own.
fn gathered<'a>(tensor: &HostTensor<'a>, rows: impl Iterator<Item = usize>) -> Result<HostTensor<'a>> {
    let mut count = 0;
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(tensor.row(row));
        count += 1;
    }
    let chunk = HostTensor::new(tensor.name.clone(), tensor.format, count, tensor.cols, Cow::Owned(bytes))?;
    Ok(HostTensor { order: tensor.order.clone(), ..chunk })
}
