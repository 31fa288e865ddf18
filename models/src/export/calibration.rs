//! Which weights matter: a text is taken through the model, and the squares of what its products are given are summed up. The
//! sums can be kept in a file, an importance matrix as llama.cpp reads (`--imatrix`) and writes it.

use super::file::write_whole;
use super::tensors::{self, Data};
use super::walk::{WINDOW, Walk};
use crate::checkpoint::Map;
use crate::checkpoint::gguf::{Listed, Value, header, parse, type_number};
use crate::names::Role;
use crate::spec::Spec;
use crate::{Checkpoint, Error, Result};
use nano_kernels::cpu::Inputs;
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// What follows a tensor's name.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What was seen of the inputs of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration(BTreeMap<String, Seen>);

/// What was seen of one matrix's.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    rows: u64,
    /// Σ x² of each.
    squares: Vec<f32>,
}

impl Seen {
    fn add(&mut self, inputs: &Inputs) {
        self.rows += inputs.rows;
        self.squares.resize(inputs.squares.len(), 0.0);
        self.squares.iter_mut().zip(&inputs.squares).for_each(|(sum, x)| *sum += x);
    }
}

impl Calibration {
    /// A short text of many kinds to measure on where nobody names one: less exact than a long one of the kind that a model
    /// is for, and far better than to take all inputs for alike.
    pub const SAMPLE: &str = include_str!("sample.txt");

    /// Takes `tokens` through the model, on the processor, one block in memory at a time. `report` is told how many tokens are
    /// done. Experts are left out: too few tokens go through each.
    pub fn measure(
        checkpoint: &dyn Checkpoint,
        tokens: &[u32],
        threads: usize,
        report: &mut dyn FnMut(usize),
    ) -> Result<Calibration> {
        let spec = Spec::read(checkpoint)?.for_context(WINDOW);
        let mut walk = Walk::new(checkpoint, &spec, threads)?;
        walk.go(tokens, report)?;
        let (inputs, head) = walk.seen();
        let read_by_head = if spec.tied { Role::Embed } else { Role::Head };
        let mut seen = BTreeMap::new();
        for item in tensors::list(checkpoint, &spec)?.iter().filter(|item| item.matrix) {
            let Data::Parts(parts) = &item.data else { continue };
            let [part] = &parts[..] else { continue };
            // A gate and its up in one are told apart by what follows the name.
            let is = |name: &String| {
                name.strip_prefix(&part.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
            };
            let mut of_item = Seen { rows: 0, squares: Vec::new() };
            let of_blocks = inputs.iter().filter(|inputs| inputs.rows > 0 && inputs.names.iter().any(is));
            of_blocks.chain([&head].into_iter().filter(|_| item.role == read_by_head)).for_each(|x| of_item.add(x));
            if of_item.rows > 0 {
                seen.insert(item.name.clone(), of_item);
            }
        }
        Ok(Calibration(seen))
    }

    /// How much the error of each input of a matrix counts, by the matrix's name in GGUF; `None` if that is not known.
    pub fn of(&self, name: &str) -> Option<&[f32]> {
        self.0.get(name).map(|seen| &seen.squares[..])
    }

    /// How many matrices it is about.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is about none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps it in a file.
    pub fn save(&self, to: &Path) -> Result<()> {
        let rows = self.0.values().map(|seen| seen.rows).max().unwrap_or(0);
        let values = vec![
            ("general.type".into(), "imatrix".into()),
            ("imatrix.datasets".into(), vec!["calibration".to_owned()].into()),
            ("imatrix.chunk_count".into(), (rows.div_ceil(WINDOW as u64) as u32).into()),
            ("imatrix.chunk_size".into(), (WINDOW as u32).into()),
        ];
        let sums = self.0.iter().map(|(name, seen)| (format!("{name}{SUMS}"), seen.squares.clone()));
        let counts = self.0.iter().map(|(name, seen)| (format!("{name}{COUNTS}"), vec![seen.rows as f32]));
        let all: Vec<(String, Vec<f32>)> = sums.chain(counts).collect();
        let dims: Vec<[usize; 2]> = all.iter().map(|(_, values)| [1, values.len()]).collect();
        let number = type_number(Format::F32);
        let listed = all.iter().zip(&dims).map(|((name, values), dims)| Listed {
            name,
            dims,
            number,
            bytes: 4 * values.len() as u64,
            offset: None,
        });
        let (header, starts) = header(3, 32, &values, &listed.collect::<Vec<_>>());
        write_whole(to, &mut |put| {
            put(0, &header)?;
            all.iter().zip(&starts).try_for_each(|((_, values), start)| {
                let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                // Some readers want the last whole, too.
                bytes.resize(bytes.len().next_multiple_of(32), 0);
                put(*start, &bytes)
            })
        })
    }

    /// Reads what [`save`](Calibration::save) or llama.cpp wrote.
    pub fn open(path: &Path) -> Result<Calibration> {
        Calibration::parse(path, &Map::open(path)?)
    }

    /// Reads the bytes of such a file.
    pub(crate) fn parse(path: &Path, map: &[u8]) -> Result<Calibration> {
        let header = parse(path, map)?;
        if header.values.get("general.type") != Some(&Value::Text("imatrix".into())) {
            return Err(Error::file(path, "is no calibration; make one with --calibrate TEXT --calibration FILE"));
        }
        let tensors: BTreeMap<&str, _> = header.tensors.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let read = |name: String| -> Result<(usize, Vec<f32>)> {
            let wrong = |why| Error::tensor(path, &name, why);
            let entry = tensors.get(name.as_str()).ok_or_else(|| wrong("is missing"))?;
            let bytes = map.get(entry.range.clone()).ok_or_else(|| wrong("is cut short"))?;
            let (rows, cols) = (entry.info.rows, entry.info.cols);
            let values = HostTensor::new(&*name, entry.info.format, rows, cols, Cow::Borrowed(bytes))?.to_f32();
            match values.iter().all(|x| x.is_finite() && *x >= 0.0) {
                true => Ok((rows, values)),
                false => Err(wrong("has values that are no sums of squares")),
            }
        };
        let mut seen = BTreeMap::new();
        for name in tensors.keys().filter_map(|name| name.strip_suffix(SUMS)) {
            let (matrices, squares) = read(format!("{name}{SUMS}"))?;
            let (_, counts) = read(format!("{name}{COUNTS}"))?;
            // Several are experts.
            if matrices == 1 {
                let rows = counts.first().copied().unwrap_or(0.0) as u64;
                seen.insert(name.to_owned(), Seen { rows, squares });
            }
        }
        Ok(Calibration(seen))
    }
}
