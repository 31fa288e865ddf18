//! The CUDA backend: the same operations as the CPU's, on hand-written kernels (`kernels/cuda/*.cu`), on any
//! [`Driver`]. Steps of a few rows are recorded once per shape and replayed. Which image a device gets, and the device
//! itself, are in `device/`.

mod arena;
mod attend;
mod decode;
pub mod device;
mod driver;
mod embed;
mod experts;
mod linear;
mod norm;
mod pack;
mod pages;
mod pick;
mod prefill;
mod room;
mod rope;
mod step;
mod store;
mod weight;

pub use arena::SLAB_BYTES;
pub use driver::{About, Arg, Driver, Launch, MARKS};
pub use experts::Mixture;
pub use pages::Pages;
use room::{Room, Wants};
pub use step::{DECODE_ROWS, Sizes};
pub use weight::Weight;

use crate::format::{f16_to_f32, f32_to_f16};
use crate::{
    After, Attend, Backend, Candidate, Error, Experts, Format, HostTensor, Linear, Norm, PageLayout, Precision,
    Products,
};
use crate::{Result, Rope, Rows, Step};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A machine that runs CUDA kernels, with its memory and its recordings.
pub struct Cuda<D: Driver> {
    driver: D,
    arena: RefCell<arena::Arena>,
    /// Two pieces of host memory through which everything but the step goes, and whose turn it is.
    staging: RefCell<[D::Host; 2]>,
    turn: Cell<usize>,
    current: step::Current<D>,
    shape: step::Shape,
    fill: Cell<step::Fill>,
    room: Room,
    wants: Cell<Wants>,
    picks: pick::Picks<D>,
    /// Host copies of what [`Backend::read`] gives.
    read: Vec<f32>,
    graphs: HashMap<(u32, step::Shape), D::Graph>,
    recording: bool,
}

/// Marks in the stream.
mod marks {
    /// Uploads of steps.
    pub const STEP: [usize; 2] = [0, 1];
    /// Copies through the staging memory.
    pub const STAGING: [usize; 2] = [2, 3];
    /// Picks of a run.
    pub const PICKS: [usize; 2] = [4, 5];
}

/// Bytes of each piece of staging memory.
const STAGING_BYTES: usize = 8 << 20;

/// A buffer of rows in device memory, float32 or f16.
pub struct Buf {
    at: u64,
    rows: usize,
    cols: usize,
    /// Values from one row to the next: `cols` rounded up to whole 8. What lies between stays zero.
    stride: usize,
    half: bool,
}

impl Buf {
    fn value_bytes(&self) -> usize {
        if self.half { 2 } else { 4 }
    }
}

fn shape(what: &str, found: impl ToString, expected: impl ToString) -> Error {
    Error::Shape { what: what.to_string(), found: found.to_string(), expected: expected.to_string() }
}

impl<D: Driver> Cuda<D> {
    /// A backend on `driver` for steps of these sizes.
    pub fn new(driver: D, sizes: Sizes) -> Result<Self> {
        let mut arena = arena::Arena::default();
        let current = step::Current::new(&driver, &mut arena, sizes)?;
        let picks = pick::Picks::new(&driver, &mut arena, sizes.logits.max(DECODE_ROWS))?;
        let staging = [driver.host(STAGING_BYTES)?, driver.host(STAGING_BYTES)?];
        Ok(Cuda {
            driver,
            arena: RefCell::new(arena),
            staging: RefCell::new(staging),
            turn: Cell::new(0),
            current,
            shape: step::Shape::default(),
            fill: Cell::default(),
            room: Room::default(),
            wants: Cell::default(),
            picks,
            read: Vec::new(),
            graphs: HashMap::new(),
            recording: true,
        })
    }

    /// Runs every step as it is: nothing is recorded from here on. For comparisons.
    pub fn without_recording(mut self) -> Self {
        self.recording = false;
        self
    }

    /// The machine.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Recorded step shapes so far.
    pub fn recordings(&self) -> usize {
        self.graphs.len()
    }

    /// Bytes of device memory taken.
    pub fn device_bytes(&self) -> usize {
        self.arena.borrow().bytes()
    }

    fn take(&self, bytes: usize, what: &str) -> Result<u64> {
        self.arena.borrow_mut().take(&self.driver, bytes, what)
    }

    /// Fills device memory from `fill`, piece by piece, through the staging memory: `fill(start, bytes)` writes what
    /// belongs at `start`. A piece is a whole number of `unit` bytes.
    fn stream(&self, to: u64, bytes: usize, unit: usize, fill: &mut dyn FnMut(usize, &mut [u8])) -> Result<()> {
        let piece = (STAGING_BYTES / unit.max(1) * unit).max(unit).max(1);
        if piece > STAGING_BYTES {
            return Err(shape("a row of a weight", format!("{unit} bytes"), format!("at most {STAGING_BYTES} bytes")));
        }
        let mut staging = self.staging.borrow_mut();
        for start in (0..bytes).step_by(piece) {
            let n = piece.min(bytes - start);
            let turn = self.turn.replace(self.turn.get() ^ 1);
            self.driver.wait(marks::STAGING[turn])?;
            fill(start, &mut staging[turn].as_mut()[..n]);
            self.driver.upload(to + start as u64, &staging[turn], 0..n)?;
            self.driver.mark(marks::STAGING[turn])?;
        }
        Ok(())
    }

    /// Copies device memory to the host, waits for it, and hands it over piece by piece: whole numbers of `unit` bytes,
    /// of which one must fit the staging memory.
    fn fetch(&self, from: u64, bytes: usize, unit: usize, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut staging = self.staging.borrow_mut();
        let piece = STAGING_BYTES / unit.max(1) * unit.max(1);
        if piece == 0 {
            return Err(shape("a row to read", format!("{unit} bytes"), format!("at most {STAGING_BYTES} bytes")));
        }
        for start in (0..bytes).step_by(piece) {
            let n = piece.min(bytes - start);
            let turn = self.turn.replace(self.turn.get() ^ 1);
            self.driver.wait(marks::STAGING[turn])?;
            self.driver.download(from + start as u64, &mut staging[turn], 0..n)?;
            self.driver.mark(marks::STAGING[turn])?;
            self.driver.wait(marks::STAGING[turn])?;
            take(&staging[turn].as_ref()[..n]);
        }
        Ok(())
    }

    fn launch(&self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: u32, args: &[Arg]) -> Result<()> {
        self.driver.launch(Launch { kernel, grid, threads, shared, args })
    }

    /// Rows that an operation works on, and where their indices are (0: all rows in order).
    fn rows(&self, rows: Rows) -> (u32, u64) {
        match rows {
            Rows::All => (self.shape.rows, 0),
            Rows::Logits => (self.shape.logits, self.current.arrays().logits),
        }
    }
}

impl<D: Driver> Backend for Cuda<D> {
    type Buf = Buf;
    type Weight = Weight;
    type Pages = Pages;
    type Mixture = Mixture;

    fn native(format: Format) -> Format {
        match format.native() {
            Format::F32 | Format::Bf16 => Format::F16,
            other => other,
        }
    }

    fn buf(&self, rows: usize, cols: usize, precision: Precision) -> Result<Buf> {
        let half = precision == Precision::Half;
        let stride = cols.next_multiple_of(8);
        let mut buf = Buf { at: 0, rows, cols, stride, half };
        let bytes = rows.checked_mul(stride).and_then(|n| n.checked_mul(buf.value_bytes()));
        let bytes = bytes.ok_or(Error::Memory { what: format!("a buffer of {rows} x {cols}"), bytes: usize::MAX })?;
        buf.at = self.take(bytes, "buffers")?;
        Ok(buf)
    }

    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<Weight> {
        self.pack(parts)
    }

    const LAYOUT: Option<&'static str> = Some(store::LAYOUT);

    fn store_weight(&self, weight: &Weight, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.store(weight, out)
    }

    fn load_weight(&self, bytes: &[u8]) -> Result<Weight> {
        let other = || Err(shape("a packed weight", format!("{} other bytes", bytes.len()), "one of this machine's"));
        self.load(bytes).unwrap_or_else(other)
    }

    fn weight_bytes(format: Format, rows: usize, cols: usize) -> usize {
        weight::bytes(Self::native(format), rows, cols)
    }

    fn buf_bytes(rows: usize, cols: usize, precision: Precision) -> usize {
        rows * cols.next_multiple_of(8) * if precision == Precision::Half { 2 } else { 4 }
    }

    fn room_bytes(products: &Products) -> usize {
        room::bytes(products)
    }

    fn mixture(&self, experts: Experts<Self>) -> Result<Mixture> {
        self.new_mixture(experts)
    }

    fn pages(&self, layout: PageLayout) -> Result<Pages> {
        self.new_pages(layout)
    }

    fn page_bytes(layout: &PageLayout) -> usize {
        pages::page_bytes(layout)
    }

    fn shares_memory(&self) -> bool {
        self.driver.about().integrated
    }

    fn write(&mut self, buf: &mut Buf, values: &[f32]) -> Result<()> {
        let rows = values.len().div_ceil(buf.cols.max(1));
        if rows > buf.rows {
            return Err(shape("values for a buffer", values.len(), format!("at most {}", buf.rows * buf.cols)));
        }
        let (row_bytes, size) = (buf.stride * buf.value_bytes(), buf.value_bytes());
        self.stream(buf.at, rows * row_bytes, row_bytes, &mut |start, bytes| {
            let from = &values[start / row_bytes * buf.cols..];
            for (row, values) in bytes.chunks_exact_mut(row_bytes).zip(from.chunks(buf.cols)) {
                row.fill(0);
                for (to, value) in row.chunks_exact_mut(size).zip(values) {
                    match buf.half {
                        true => to.copy_from_slice(&f32_to_f16(value.clamp(-65504.0, 65504.0)).to_le_bytes()),
                        false => to.copy_from_slice(&value.to_le_bytes()),
                    }
                }
            }
        })
    }

    fn run(&mut self, step: &Step, program: Option<u32>, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.make_room()?;
        let fill = self.fill.get();
        self.shape = self.current.set(&self.driver, step, marks::STEP, &fill)?;
        match program.filter(|_| self.recording && self.shape.decode) {
            Some(program) => {
                let key = (program, self.shape);
                if !self.graphs.contains_key(&key) {
                    self.driver.begin_record()?;
                    let made = body(self);
                    // The recording must end whatever happened in it.
                    let graph = self.driver.end_record();
                    made?;
                    self.graphs.insert(key, graph?);
                }
                if let Some(graph) = self.graphs.get(&key) {
                    self.driver.replay(graph)?;
                }
            }
            None => body(self)?,
        }
        self.picks.fetch(&self.driver, self.shape.pick, step.logits.len(), marks::PICKS)
    }

    fn read<'a>(&'a mut self, buf: &'a Buf, rows: usize) -> Result<&'a [f32]> {
        if rows > buf.rows {
            return Err(shape("rows to read", rows, format!("at most {}", buf.rows)));
        }
        let row_bytes = buf.stride * buf.value_bytes();
        let mut read = std::mem::take(&mut self.read);
        read.clear();
        let fetched = self.fetch(buf.at, rows * row_bytes, row_bytes, &mut |bytes| {
            for row in bytes.chunks_exact(row_bytes.max(1)) {
                match buf.half {
                    true => read.extend(
                        row.chunks_exact(2).take(buf.cols).map(|b| f16_to_f32(u16::from_le_bytes([b[0], b[1]]))),
                    ),
                    false => read.extend(
                        row.chunks_exact(4).take(buf.cols).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                    ),
                }
            }
        });
        self.read = read;
        fetched?;
        Ok(&self.read)
    }

    fn picks(&mut self, ago: usize) -> Result<&[Candidate]> {
        self.picks.get(&self.driver, ago, marks::PICKS)
    }

    fn embed(&mut self, x: &mut Buf, table: &Weight, scale: f32, shelf: Option<&Buf>) -> Result<()> {
        self.launch_embed(x, table, scale, shelf)
    }

    fn linear(
        &mut self,
        out: &mut Buf,
        x: &Buf,
        norm: Option<&Norm<Self>>,
        w: &Linear<Self>,
        after: After,
        rows: Rows,
    ) -> Result<()> {
        self.launch_linear(out, x, norm, w, after, rows)
    }

    fn experts(
        &mut self,
        x: &mut Buf,
        h: &mut Buf,
        norm: Option<&Norm<Self>>,
        logits: &Buf,
        mixture: &Mixture,
    ) -> Result<()> {
        self.launch_experts(x, h, norm, logits, mixture)
    }

    fn norm(&mut self, out: &mut Buf, x: &Buf, norm: &Norm<Self>, after: After) -> Result<()> {
        self.launch_norm(out, x, norm, after)
    }

    fn softcap(&mut self, x: &mut Buf, cap: f32) -> Result<()> {
        self.launch_softcap(x, cap)
    }

    fn rope_store(&mut self, q: &mut Buf, qkv: &Buf, kv: &mut Pages, layer: usize, rope: &Rope<Self>) -> Result<()> {
        self.launch_rope_store(q, qkv, kv, layer, rope)
    }

    fn attend(
        &mut self,
        out: &mut Buf,
        q: &Buf,
        kv: &Pages,
        layer: usize,
        attend: Attend,
        sinks: Option<&Buf>,
    ) -> Result<()> {
        self.launch_attend(out, q, kv, layer, attend, sinks)
    }

    fn attend_all(&mut self, out: &mut Buf, qkv: &Buf, attend: Attend) -> Result<()> {
        self.launch_attend_all(out, qkv, attend)
    }

    fn pick(&mut self, logits: &Buf) -> Result<()> {
        self.launch_pick(logits)
    }

    fn shift(&mut self, kv: &mut Pages, layer: usize, rope: &Rope<Self>, slots: &[u32], by: i32) -> Result<()> {
        self.launch_shift(kv, layer, rope, slots, by)
    }

    fn copy_rows(&mut self, kv: &mut Pages, from: &[u32], to: &[u32]) -> Result<()> {
        self.launch_copy_rows(kv, from, to)
    }

    fn read_page(&mut self, kv: &Pages, page: u32, into: &mut [u8]) -> Result<()> {
        self.fetch_page(kv, page, into)
    }

    fn write_page(&mut self, kv: &mut Pages, page: u32, from: &[u8]) -> Result<()> {
        self.store_page(kv, page, from)
    }
}
