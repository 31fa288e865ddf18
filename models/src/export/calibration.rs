//! Which weights matter: a text is run through the model, and what its products are given is summed up. The sums can be kept
//! in a file of their own, which is a GGUF file too; llama.cpp takes it as an importance matrix (`--imatrix`), and of those
//! that llama.cpp makes the sums of squares are read.

use super::file::write_whole;
use super::tensors::{self, Data};
use crate::checkpoint::Map;
use crate::checkpoint::gguf::{Listed, Metadata, Value, header, parse, type_number};
use crate::spec::Spec;
use crate::{Checkpoint, Decoder, Error, LoadOptions, Result};
use nano_kernels::cpu::{Cpu, Inputs};
use nano_kernels::format::Importance;
use nano_kernels::{Backend, Format, HostTensor, KvFormat, PAGE_ROWS, Pick, Row, SequenceRows, Step};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Tokens that are read in one go, each lot for itself.
pub const WINDOW: usize = 512;
/// Rows of a lot that the head is given: one of so many.
const HEAD_ROWS: usize = 8;
/// Inputs that are summed together, at most: what makes up for an error is looked for among these.
const LONGEST: usize = 256;
/// Fewer rows than this times the inputs that are summed together say little of how they go together.
const ENOUGH: u64 = 2;

/// What was seen of the inputs of a model's matrices.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    /// Sums, each of the inputs of one or several matrices.
    inputs: Vec<Inputs>,
    /// Which of them belong to a matrix, by its name in GGUF.
    of: BTreeMap<String, usize>,
}

impl Calibration {
    /// Runs the model on `tokens`, on the processor. `report` is told how many tokens are done. Experts are left out: too
    /// few tokens go through each.
    pub fn measure(
        checkpoint: &dyn Checkpoint,
        tokens: &[u32],
        threads: usize,
        report: &mut dyn FnMut(usize),
    ) -> Result<Calibration> {
        let spec = Spec::read(checkpoint)?.for_context(WINDOW);
        let mut backend = Cpu::new(threads)?;
        backend.watch(LONGEST);
        let (rows, logits_rows) = (WINDOW, WINDOW.div_ceil(HEAD_ROWS));
        let options = LoadOptions { quantization: None, head: None, rows, logits_rows, threads };
        let mut decoder = Decoder::load(checkpoint, &mut backend, &spec, &options, &mut |_| ())?;
        let pages = WINDOW / PAGE_ROWS;
        let mut kv = backend.pages(spec.page_layout(pages, KvFormat::F32))?;
        let mut done = 0;
        for lot in tokens.chunks(WINDOW) {
            let row = |(i, token): (usize, &u32)| {
                let at = i as u32;
                Row { token: *token, position: at, slot: at, sequence: 0, visible: at + 1 }
            };
            let step = Step {
                rows: lot.iter().enumerate().map(row).collect(),
                sequences: vec![SequenceRows { pages: (0..pages as u32).collect() }],
                logits: (0..lot.len() as u32).step_by(HEAD_ROWS).collect(),
                pick: Pick::None,
            };
            backend.run(&step, None, &mut |b| decoder.forward(b, &mut kv))?;
            done += lot.len();
            report(done);
        }
        let inputs: Vec<Inputs> = backend.watched().into_iter().filter(|inputs| inputs.rows > 0).collect();
        let mut of = BTreeMap::new();
        for item in tensors::list(checkpoint, &spec)?.iter().filter(|item| item.matrix) {
            let Data::Parts(parts) = &item.data else { continue };
            let [part] = &parts[..] else { continue };
            // A gate and its up are told apart by what follows the name.
            let same = |name: &String| {
                name.strip_prefix(&part.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
            };
            if let Some(found) = inputs.iter().position(|inputs| inputs.names.iter().any(same)) {
                of.insert(item.name.clone(), found);
            }
        }
        Ok(Calibration { inputs, of })
    }

    /// Of a matrix, by its name in GGUF; `None` if nothing is known.
    pub fn of(&self, name: &str) -> Option<Importance> {
        let inputs = &self.inputs[*self.of.get(name)?];
        Some(match inputs.stretch > 1 && inputs.rows >= ENOUGH * inputs.stretch as u64 {
            true => Importance::of_products(inputs.stretch, &inputs.products),
            false => Importance::of_squares(inputs.squares().collect()),
        })
    }

    /// Inputs of a matrix, for a check of shapes.
    pub fn cols(&self, name: &str) -> Option<usize> {
        self.of.get(name).map(|at| self.inputs[*at].cols)
    }

    /// How many matrices it is about.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether it is about none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Keeps it in a file.
    pub fn save(&self, to: &Path) -> Result<()> {
        let rows = self.inputs.iter().map(|inputs| inputs.rows).max().unwrap_or(0);
        let values = vec![
            ("general.type".into(), "imatrix".into()),
            ("imatrix.datasets".into(), vec!["calibration".to_owned()].into()),
            ("imatrix.chunk_count".into(), (rows.div_ceil(WINDOW as u64) as u32).into()),
            ("imatrix.chunk_size".into(), (WINDOW as u32).into()),
            ("calibration.tensors".into(), self.of.keys().cloned().collect::<Vec<_>>().into()),
            ("calibration.inputs".into(), self.of.values().map(|at| *at as i32).collect::<Vec<_>>().into()),
        ];
        let mut all: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for (name, at) in &self.of {
            let inputs = &self.inputs[*at];
            all.push((format!("{name}.in_sum2"), vec![1, inputs.cols], inputs.squares().collect()));
            all.push((format!("{name}.counts"), vec![1, 1], vec![inputs.rows as f32]));
        }
        for (at, inputs) in self.inputs.iter().enumerate() {
            all.push((products_of(at), vec![inputs.cols, inputs.stretch], inputs.products.clone()));
        }
        let number = type_number(Format::F32);
        let listed = all.iter().map(|(name, dims, values)| Listed {
            name,
            dims,
            number,
            bytes: 4 * values.len() as u64,
            offset: None,
        });
        let (header, starts) = header(3, 32, &values, &listed.collect::<Vec<_>>());
        write_whole(to, &mut |put| {
            put(0, &header)?;
            all.iter().zip(&starts).try_for_each(|((.., values), start)| {
                put(*start, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
            })
        })
    }

    /// Reads what [`save`](Calibration::save) or llama.cpp wrote.
    pub fn open(path: &Path) -> Result<Calibration> {
        let map = Arc::new(Map::open(path)?);
        let header = parse(path, &map)?;
        let metadata = Metadata::new(header.values, Arc::clone(&map));
        if metadata.get("general.type") != Some(&Value::Text("imatrix".into())) {
            return Err(Error::file(path, "is no calibration; make one with --calibrate TEXT --calibration FILE"));
        }
        let tensors: BTreeMap<&str, _> = header.tensors.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let read = |name: &str| -> Result<Option<(usize, usize, Vec<f32>)>> {
            let Some(entry) = tensors.get(name) else { return Ok(None) };
            let info = entry.info;
            let bytes = map.get(entry.range.clone()).ok_or_else(|| Error::tensor(path, name, "is cut short"))?;
            let tensor = HostTensor::new(name, info.format, info.rows, info.cols, Cow::Borrowed(bytes))?;
            let values = tensor.to_f32();
            match values.iter().all(|x| x.is_finite()) {
                true => Ok(Some((info.rows, info.cols, values))),
                false => Err(Error::tensor(path, name, "has values that are not finite numbers")),
            }
        };
        let mut out = Calibration::default();
        let of = list(path, &metadata)?;
        for name in tensors.keys().filter_map(|name| name.strip_suffix(".in_sum2")) {
            let missing = || Error::tensor(path, name, "has sums, and no counts");
            let (rows, cols, squares) = read(&format!("{name}.in_sum2"))?.ok_or_else(missing)?;
            let counts = read(&format!("{name}.counts"))?.ok_or_else(missing)?.2;
            let seen = counts.iter().fold(0.0_f32, |most, count| most.max(*count)) as u64;
            if rows != 1 || of.contains_key(name) {
                continue; // of experts, or with products
            }
            out.of.insert(name.to_owned(), out.inputs.len());
            out.inputs.push(Inputs { cols, stretch: 1, rows: seen, products: squares, ..Inputs::default() });
        }
        let mut known: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, at) in of {
            let place = match known.get(&at) {
                Some(place) => *place,
                None => {
                    let of_products = products_of(at);
                    let missing = || Error::tensor(path, &of_products, "is missing");
                    let (cols, stretch, products) = read(&of_products)?.ok_or_else(missing)?;
                    if stretch == 0 || !cols.is_multiple_of(stretch) {
                        let why = format!("has {stretch} columns, of which {cols} rows are no whole number");
                        return Err(Error::tensor(path, &of_products, why));
                    }
                    let counts = read(&format!("{name}.counts"))?.ok_or_else(missing)?.2;
                    let rows = counts.first().copied().unwrap_or(0.0) as u64;
                    out.inputs.push(Inputs { cols, stretch, rows, products, ..Inputs::default() });
                    known.insert(at, out.inputs.len() - 1);
                    out.inputs.len() - 1
                }
            };
            out.of.insert(name, place);
        }
        Ok(out)
    }
}

fn products_of(at: usize) -> String {
    format!("calibration.{at}.products")
}

/// Which products belong to which matrix, where a file has any.
fn list(path: &Path, metadata: &Metadata) -> Result<BTreeMap<String, usize>> {
    let values = |key: &str| -> Result<Vec<Value>> {
        match metadata.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(array)) => {
                metadata.values(array).map(|v| v.map_err(|e| Error::key(path, key, format!("has {e}")))).collect()
            }
            Some(_) => Err(Error::key(path, key, "is no list")),
        }
    };
    let (names, places) = (values("calibration.tensors")?, values("calibration.inputs")?);
    let pair = |pair| match pair {
        (Value::Text(name), Value::Signed(at)) => Some((name, usize::try_from(at).ok()?)),
        _ => None,
    };
    let whole = names.len() == places.len();
    let list: Option<BTreeMap<String, usize>> = names.into_iter().zip(places).map(pair).collect();
    list.filter(|_| whole).ok_or_else(|| Error::key(path, "calibration.inputs", "does not fit calibration.tensors"))
}
