//! `linear`: matrix products with fused norm, bias, activation and residual.
//!
//! The input rows are normed and, for quantized weights, turned into int8 blocks of 32 (scale: greatest magnitude / 127,
//! values rounded to even) in a standing [`Panel`]. Then every thread takes blocks of 16 outputs. One row streams the
//! records of a block; more rows spread the block over a scratch once and sweep it in tiles.
//!
//! The definition, per output, groups of 32 k in order, `acc` starting at 0:
//! `acc = fma(f32(Σ q·a), d·da, acc)`, then with a minimum `acc = fma(m, da·Σa, acc)`; Q4 takes 8·Σa off the integer
//! sum; Q6K does it for each half of a group, with 32·Σa of that half. Float weights: `acc = fma(w, x, acc)`, k in order.

use super::lanes::{GROUP, Isa, Job, LANES, LINE, Lanes};
use super::pack::{Kind, Packed, SUPER};
use super::pool::Pool;
use super::{math, norm};
use crate::{Act, After};

/// Rows in a tile of the panel.
pub const TILE_ROWS: usize = 8;

/// Input rows made ready for products. Tiles of eight rows: `values[tile][group][8][32]`, the rest `[tile][group][8]`.
#[derive(Default)]
pub struct Panel {
    /// Normed rows, row after row.
    floats: Vec<f32>,
    values: Vec<i8>,
    scales: Vec<f32>,
    /// scale · Σ values
    offsets: Vec<f32>,
    sums: Vec<i32>,
    /// Σ of the first 16 values.
    firsts: Vec<i32>,
}

impl Panel {
    /// Makes room for `rows` rows of `cols` values; allocates only when it must grow.
    pub fn reserve(&mut self, rows: usize, cols: usize) {
        let tiles = rows.div_ceil(TILE_ROWS) * TILE_ROWS;
        let groups = tiles * cols.div_ceil(GROUP);
        if self.floats.len() < tiles * cols {
            self.floats.resize(tiles * cols, 0.0);
        }
        if self.scales.len() < groups {
            self.values.resize(groups * GROUP, 0);
            self.scales.resize(groups, 0.0);
            self.offsets.resize(groups, 0.0);
            self.sums.resize(groups, 0);
            self.firsts.resize(groups, 0);
        }
    }
}

/// Raw views of a panel, for the threads.
#[derive(Clone, Copy)]
struct View {
    floats: *mut f32,
    values: *mut i8,
    scales: *mut f32,
    offsets: *mut f32,
    sums: *mut i32,
    firsts: *mut i32,
    cols: usize,
}

// SAFETY: threads write disjoint rows while the panel is filled and only read afterwards.
unsafe impl Sync for View {}

impl View {
    /// Index of (row, group) in the per-group arrays.
    #[inline(always)]
    fn at(&self, row: usize, group: usize) -> usize {
        (row / TILE_ROWS * (self.cols / GROUP) + group) * TILE_ROWS + row % TILE_ROWS
    }
}

/// What one call of `linear` works on.
pub struct Product<'a> {
    /// Parts of the weight, stacked.
    pub parts: &'a [Packed],
    /// Bias over all outputs.
    pub bias: Option<&'a [f32]>,
    /// Input rows.
    pub x: &'a [f32],
    /// Norm of the input rows.
    pub norm: Option<norm::View<'a>>,
    /// Which input row is row i; `None`: row i.
    pub pick: Option<&'a [u32]>,
    /// Rows.
    pub rows: usize,
    /// Outputs, `rows x outs`.
    pub out: &'a mut [f32],
    /// What to do with the result.
    pub after: After,
}

/// One thread's room for a block that is spread (two for a gated pair).
#[derive(Default)]
pub struct Scratch {
    lines: Vec<u8>,
    scales: Vec<f32>,
}

impl Scratch {
    /// Makes room for blocks of `cols` inputs; allocates only when it must grow.
    pub fn reserve(&mut self, cols: usize) {
        let groups = cols.div_ceil(GROUP);
        if self.lines.len() < 2 * groups * 8 * LINE + LINE {
            self.lines.resize(2 * groups * 8 * LINE + LINE, 0);
            self.scales.resize(2 * groups * 2 * LANES, 0.0);
        }
    }
}

/// Runs a product on all threads of the pool.
pub fn linear(pool: &mut Pool, isa: Isa, panel: &mut Panel, scratch: &mut [Scratch], p: Product<'_>) {
    let cols = p.parts[0].cols;
    panel.reserve(p.rows, cols);
    for s in scratch.iter_mut() {
        s.reserve(cols);
    }
    let view = View {
        floats: panel.floats.as_mut_ptr(),
        values: panel.values.as_mut_ptr(),
        scales: panel.scales.as_mut_ptr(),
        offsets: panel.offsets.as_mut_ptr(),
        sums: panel.sums.as_mut_ptr(),
        firsts: panel.firsts.as_mut_ptr(),
        cols,
    };
    let quantize = p.parts.iter().any(|part| part.kind.quantized());
    let fill = |row: usize| {
        let from = p.pick.map_or(row, |pick| pick[row] as usize);
        let x = &p.x[from * cols..(from + 1) * cols];
        // SAFETY: the set is available; the panel has room for `rows` rows, and every row is written by one thread.
        unsafe { isa.run(Fill { view, row, x, norm: p.norm, quantize }) }
    };
    // Rows that pad the last tile are swept with the others; what they hold is never stored, but must be finite work.
    if p.rows * cols < 4096 {
        (0..p.rows).for_each(fill);
    } else {
        pool.run(p.rows, |row, _| fill(row));
    }

    let outs: usize = match p.after {
        After::Glu(_) => p.parts[0].rows,
        _ => p.parts.iter().map(|part| part.rows).sum(),
    };
    let blocks: usize = match p.after {
        After::Glu(_) => p.parts[0].blocks(),
        _ => p.parts.iter().map(Packed::blocks).sum(),
    };
    let out = Out(p.out.as_mut_ptr());
    let rooms = Rooms(scratch.as_mut_ptr());
    // Enough tasks that threads finish together, few enough that taking one costs nothing.
    let per_task = (blocks / (pool.threads() * 8)).clamp(1, 64);
    let (parts, bias, rows, after) = (p.parts, p.bias, p.rows, p.after);
    pool.run(blocks.div_ceil(per_task), |task, thread| {
        for block in task * per_task..blocks.min((task + 1) * per_task) {
            let (part, first, block) = locate(parts, block);
            let job = Block {
                view,
                part,
                gated: matches!(after, After::Glu(_)).then(|| &parts[1]),
                block,
                bias,
                first,
                out: &out,
                outs,
                rows,
                after,
                // SAFETY: `thread` is below the number of scratches and its own.
                scratch: unsafe { &mut *rooms.at(thread) },
            };
            // SAFETY: the set is available; shapes were checked when the weight and the buffers were made.
            unsafe { isa.run(job) }
        }
    });
}

/// The part that holds a block, the number of its first output, and the block's number within it.
fn locate(parts: &[Packed], mut block: usize) -> (&Packed, usize, usize) {
    let mut first = 0;
    let mut parts = parts.iter();
    let mut part = parts.next().expect("a weight has a part");
    while block >= part.blocks() {
        block -= part.blocks();
        first += part.rows;
        part = parts.next().expect("block numbers stay below the weight's");
    }
    (part, first, block)
}

struct Out(*mut f32);
// SAFETY: every thread writes outputs of its own blocks.
unsafe impl Sync for Out {}

struct Rooms(*mut Scratch);
// SAFETY: every thread takes the scratch of its own number.
unsafe impl Sync for Rooms {}
impl Rooms {
    fn at(&self, thread: usize) -> *mut Scratch {
        // SAFETY: `linear` gives one scratch per thread.
        unsafe { self.0.add(thread) }
    }
}

/// Norms and quantizes one row into the panel.
struct Fill<'a> {
    view: View,
    row: usize,
    x: &'a [f32],
    norm: Option<norm::View<'a>>,
    quantize: bool,
}

impl Job for Fill<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let View { floats, values, scales, offsets, sums, firsts, cols } = self.view;
        // SAFETY: the row lies in the panel; it is this thread's.
        unsafe {
            let row = std::slice::from_raw_parts_mut(floats.add(self.row * cols), cols);
            match self.norm {
                Some(norm) => norm::row::<L>(norm, self.x, row),
                None => row.copy_from_slice(self.x),
            }
            if !self.quantize {
                return;
            }
            for group in 0..cols / GROUP {
                let x = row.as_ptr().add(group * GROUP);
                let (low, high) = (L::load(x), L::load(x.add(LANES)));
                let most = L::greatest(L::max(L::abs(low), L::abs(high)));
                let scale = most / 127.0;
                let inverse = L::splat(if most > 0.0 { 127.0 / most } else { 0.0 });
                let at = self.view.at(self.row, group);
                let q = values.add(at * GROUP);
                L::store_i8(q, L::mul(low, inverse));
                L::store_i8(q.add(LANES), L::mul(high, inverse));
                let (sum, first) = L::sums_i8(q);
                *scales.add(at) = scale;
                *offsets.add(at) = scale * sum as f32;
                *sums.add(at) = sum;
                *firsts.add(at) = first;
            }
        }
    }
}

/// One block of 16 outputs (and its partner under a gate), for all rows.
struct Block<'a> {
    view: View,
    part: &'a Packed,
    gated: Option<&'a Packed>,
    block: usize,
    bias: Option<&'a [f32]>,
    /// Number of the part's first output.
    first: usize,
    out: &'a Out,
    /// Columns of the output.
    outs: usize,
    rows: usize,
    after: After,
    scratch: &'a mut Scratch,
}

impl Job for Block<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller of the job vouches for set and shapes.
        unsafe {
            if self.rows == 1 {
                let y = dot::<L>(self.part, self.block, &self.view);
                let up = self.gated.map(|part| dot::<L>(part, self.block, &self.view));
                self.finish::<L>(0, y, up);
                return;
            }
            let groups = self.part.cols / GROUP;
            let lines = self.scratch.lines.as_mut_ptr();
            let lines = lines.add(lines.align_offset(LINE));
            let scales = self.scratch.scales.as_mut_ptr();
            let one = Spread { lines, scales };
            let two = Spread { lines: lines.add(groups * 8 * LINE), scales: scales.add(groups * 2 * LANES) };
            spread::<L>(self.part, self.block, one);
            if let Some(part) = self.gated {
                spread::<L>(part, self.block, two);
            }
            let mut row = 0;
            while row < self.rows {
                let left = self.rows - row;
                if L::TILE == 8 && left > 4 {
                    self.tile::<L, 8>(row, one, two);
                    row += 8;
                } else if left > 2 {
                    self.tile::<L, 4>(row, one, two);
                    row += 4;
                } else {
                    self.tile::<L, 2>(row, one, two);
                    row += 2;
                }
            }
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize>(&self, row: usize, one: Spread, two: Spread) {
        // SAFETY: rows row..row + R lie in one tile of the panel, which is filled up to a whole tile.
        unsafe {
            let y = sweep::<L, R>(self.part, self.block, one, &self.view, row, self.rows);
            let up = self.gated.map(|part| sweep::<L, R>(part, self.block, two, &self.view, row, self.rows));
            for r in 0..R.min(self.rows - row) {
                self.finish::<L>(row + r, y[r], up.map(|up| up[r]));
            }
        }
    }

    /// Bias, activation or residual, and the store of up to 16 outputs of one row.
    #[inline(always)]
    unsafe fn finish<L: Lanes>(&self, row: usize, y: L::F, up: Option<L::F>) {
        let from = self.first + self.block * LANES;
        let valid = LANES.min(self.part.rows - self.block * LANES);
        // SAFETY: `valid` outputs from `from` on exist in every row and in the bias; other lanes go through arrays.
        unsafe {
            let biased = |y: L::F, from: usize| match self.bias {
                Some(bias) => L::add(y, load_some::<L>(bias.as_ptr().add(from), valid)),
                None => y,
            };
            let y = biased(y, from);
            let out = self.out.0.add(row * self.outs + from);
            let y = match (self.after, up) {
                (After::Store, _) => y,
                (After::Add, _) => L::add(load_some::<L>(out, valid), y),
                (After::Act(act), _) => math::act::<L>(act, y),
                (After::Glu(act), Some(up)) => gate::<L>(act, y, biased(up, self.outs + from)),
                (After::Glu(_), None) => y,
            };
            store_some::<L>(out, y, valid);
        }
    }
}

#[inline(always)]
unsafe fn gate<L: Lanes>(act: Act, gate: L::F, up: L::F) -> L::F {
    // SAFETY: as the caller's.
    unsafe { L::mul(math::act::<L>(act, gate), up) }
}

#[inline(always)]
unsafe fn load_some<L: Lanes>(p: *const f32, valid: usize) -> L::F {
    // SAFETY: the caller vouches for `valid` values.
    unsafe {
        if valid == LANES {
            return L::load(p);
        }
        let mut lanes = [0.0; LANES];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), valid);
        L::load(lanes.as_ptr())
    }
}

#[inline(always)]
unsafe fn store_some<L: Lanes>(p: *mut f32, x: L::F, valid: usize) {
    // SAFETY: the caller vouches for `valid` values.
    unsafe {
        if valid == LANES {
            return L::store(p, x);
        }
        let mut lanes = [0.0; LANES];
        L::store(lanes.as_mut_ptr(), x);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, valid);
    }
}

/// A block in scratch: 8 lines a group, and 16 scales with 16 minima (Q6K: scales of both halves) as f32.
#[derive(Clone, Copy)]
struct Spread {
    lines: *mut u8,
    scales: *mut f32,
}

/// The scales of a record as f32: (of the products, of the offsets or of the second half).
#[inline(always)]
unsafe fn scales<L: Lanes>(kind: Kind, head: *const u8, record: *const u8) -> (L::F, L::F) {
    // SAFETY: the record and its head are whole.
    unsafe {
        let none = L::splat(0.0);
        match kind {
            Kind::Q4Min => (L::load_f16(record.cast()), L::load_f16(record.add(32).cast())),
            Kind::Q4K => {
                let d = L::mul(L::load_f16(head.cast()), L::load_u8(record));
                let m = L::mul(L::load_f16(head.add(32).cast()), L::load_u8(record.add(LANES)));
                (d, L::sub(none, m))
            }
            Kind::Q6K => {
                let d = L::load_f16(head.cast());
                (L::mul(d, L::load_i8(record.cast())), L::mul(d, L::load_i8(record.add(LANES).cast())))
            }
            _ => (L::load_f16(record.cast()), none),
        }
    }
}

/// Where a group's record and its head lie in a block.
#[inline(always)]
fn place(kind: Kind, group: usize) -> (usize, usize) {
    let (record, head) = kind.record();
    if head == 0 {
        return (0, group * record);
    }
    let start = group / SUPER * (SUPER * record + head);
    (start, start + head + group % SUPER * record)
}

/// Bytes of scales at the front of a record.
#[inline(always)]
fn front(kind: Kind) -> usize {
    if matches!(kind, Kind::Q4Min) { 64 } else { 32 }
}

#[inline(always)]
unsafe fn spread<L: Lanes>(part: &Packed, block: usize, into: Spread) {
    let kind = part.kind;
    if !kind.quantized() {
        return;
    }
    let bytes = part.block(block).as_ptr();
    // SAFETY: the scratch has room for every group.
    unsafe {
        for group in 0..part.groups() {
            let (head, record) = place(kind, group);
            let (first, second) = scales::<L>(kind, bytes.add(head), bytes.add(record));
            let to = into.scales.add(group * 2 * LANES);
            L::store(to, first);
            L::store(to.add(LANES), second);
            let (q, lines) = (bytes.add(record + front(kind)), into.lines.add(group * 8 * LINE));
            match kind {
                Kind::Q8 => L::spread8(q, lines),
                Kind::Q6K => L::spread6(q, lines),
                _ => L::spread4(q, lines),
            }
        }
    }
}

/// `R` rows times a block.
#[inline(always)]
unsafe fn sweep<L: Lanes, const R: usize>(
    part: &Packed,
    block: usize,
    spread: Spread,
    view: &View,
    row: usize,
    rows: usize,
) -> [L::F; R] {
    // SAFETY: the panel's last tile is whole; float rows past the end are read from the last one.
    unsafe {
        match part.kind {
            Kind::Q8 => sweep_int::<L, 8, R>(part, spread, view, row, false, 0),
            Kind::Q4 => sweep_int::<L, 4, R>(part, spread, view, row, false, 8),
            Kind::Q4Min | Kind::Q4K => sweep_int::<L, 4, R>(part, spread, view, row, true, 0),
            Kind::Q6K => sweep_halves::<L, R>(part, spread, view, row),
            Kind::F32 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load(p.cast()), 64),
            Kind::F16 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load_f16(p.cast()), 32),
            Kind::Bf16 => sweep_float::<L, R>(part, block, view, row, rows, |p| L::load_bf16(p.cast()), 32),
        }
    }
}

#[inline(always)]
unsafe fn sweep_int<L: Lanes, const BITS: u32, const R: usize>(
    part: &Packed,
    spread: Spread,
    view: &View,
    row: usize,
    minimum: bool,
    middle: i32,
) -> [L::F; R] {
    // SAFETY: as sweep.
    unsafe {
        let mut acc = [L::splat(0.0); R];
        for group in 0..part.groups() {
            let at = view.at(row, group);
            let lines = spread.lines.add(group * 8 * LINE);
            let sums = view.sums.add(at);
            let isum = L::tile::<BITS, 8, R>(lines, view.values.add(at * GROUP), sums);
            let scale = L::load(spread.scales.add(group * 2 * LANES));
            for r in 0..R {
                let isum = if middle == 0 { isum[r] } else { L::sub_int(isum[r], L::int(middle * *sums.add(r))) };
                let scale = L::mul(scale, L::splat(*view.scales.add(at + r)));
                acc[r] = L::fma(L::float(isum), scale, acc[r]);
            }
            if minimum {
                let m = L::load(spread.scales.add(group * 2 * LANES + LANES));
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = L::fma(m, L::splat(*view.offsets.add(at + r)), *acc);
                }
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn sweep_halves<L: Lanes, const R: usize>(part: &Packed, spread: Spread, view: &View, row: usize) -> [L::F; R] {
    // SAFETY: as sweep.
    unsafe {
        let mut acc = [L::splat(0.0); R];
        for group in 0..part.groups() {
            let at = view.at(row, group);
            for half in 0..2 {
                let lines = spread.lines.add((group * 8 + 4 * half) * LINE);
                let values = view.values.add(at * GROUP + LANES * half);
                let isum = L::tile::<6, 4, R>(lines, values, view.sums.add(at));
                let scale = L::load(spread.scales.add((group * 2 + half) * LANES));
                for r in 0..R {
                    let isum = L::sub_int(isum[r], L::int(32 * half_sum(view, at + r, half)));
                    let scale = L::mul(scale, L::splat(*view.scales.add(at + r)));
                    acc[r] = L::fma(L::float(isum), scale, acc[r]);
                }
            }
        }
        acc
    }
}

#[inline(always)]
unsafe fn half_sum(view: &View, at: usize, half: usize) -> i32 {
    // SAFETY: `at` lies in the panel.
    unsafe {
        let first = *view.firsts.add(at);
        if half == 0 { first } else { *view.sums.add(at) - first }
    }
}

#[inline(always)]
unsafe fn sweep_float<L: Lanes, const R: usize>(
    part: &Packed,
    block: usize,
    view: &View,
    row: usize,
    rows: usize,
    load: impl Fn(*const u8) -> L::F,
    record: usize,
) -> [L::F; R] {
    // SAFETY: rows past the end read the last row's values.
    unsafe {
        let w = part.block(block).as_ptr();
        let x: [*const f32; R] =
            std::array::from_fn(|r| view.floats.add((row + r).min(rows - 1) * view.cols).cast_const());
        let mut acc = [L::splat(0.0); R];
        for k in 0..part.cols {
            let w = load(w.add(k * record));
            for r in 0..R {
                acc[r] = L::fma(w, L::splat(*x[r].add(k)), acc[r]);
            }
        }
        acc
    }
}

/// One row times a block, from the records as stored.
#[inline(always)]
unsafe fn dot<L: Lanes>(part: &Packed, block: usize, view: &View) -> L::F {
    // SAFETY: as sweep, for row 0.
    unsafe {
        match part.kind {
            Kind::F32 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load(p.cast()), 64)[0],
            Kind::F16 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load_f16(p.cast()), 32)[0],
            Kind::Bf16 => sweep_float::<L, 1>(part, block, view, 0, 1, |p| L::load_bf16(p.cast()), 32)[0],
            Kind::Q8 => dot_int::<L>(Kind::Q8, part, block, view),
            Kind::Q4 => dot_int::<L>(Kind::Q4, part, block, view),
            Kind::Q4Min => dot_int::<L>(Kind::Q4Min, part, block, view),
            Kind::Q4K => dot_int::<L>(Kind::Q4K, part, block, view),
            Kind::Q6K => dot_int::<L>(Kind::Q6K, part, block, view),
        }
    }
}

/// Bytes ahead of their use at which records are asked for: a few hundred nanoseconds of streaming.
const AHEAD: usize = 4096;

#[inline(always)]
unsafe fn dot_int<L: Lanes>(kind: Kind, part: &Packed, block: usize, view: &View) -> L::F {
    // SAFETY: as sweep, for row 0; prefetches never fault.
    unsafe {
        let bytes = part.block(block).as_ptr();
        let (record_bytes, _) = kind.record();
        let mut acc = L::splat(0.0);
        for group in 0..part.groups() {
            let (head, record) = place(kind, group);
            let (head, record) = (bytes.add(head), bytes.add(record));
            for line in 0..record_bytes.div_ceil(LINE) {
                L::prefetch(record.wrapping_add(AHEAD + line * LINE));
            }
            let at = view.at(0, group);
            let a = view.values.add(at * GROUP).cast_const();
            let (sum, da) = (*view.sums.add(at), *view.scales.add(at));
            let (first, second) = scales::<L>(kind, head, record);
            let q = record.add(front(kind));
            match kind {
                Kind::Q8 => acc = L::fma(L::float(L::dot8(q, a, sum)), L::mul(first, L::splat(da)), acc),
                Kind::Q6K => {
                    let mut lines = [0; 8 * LINE];
                    L::spread6(q, lines.as_mut_ptr());
                    for (half, scale) in [first, second].into_iter().enumerate() {
                        let lines = lines.as_ptr().add(4 * half * LINE);
                        let [isum] = L::tile::<6, 4, 1>(lines, a.add(LANES * half), std::ptr::null());
                        let isum = L::sub_int(isum, L::int(32 * half_sum(view, at, half)));
                        acc = L::fma(L::float(isum), L::mul(scale, L::splat(da)), acc);
                    }
                }
                _ => {
                    let mut isum = L::dot4(q, a);
                    if kind == Kind::Q4 {
                        isum = L::sub_int(isum, L::int(8 * sum));
                    }
                    acc = L::fma(L::float(isum), L::mul(first, L::splat(da)), acc);
                    if kind != Kind::Q4 {
                        acc = L::fma(second, L::splat(*view.offsets.add(at)), acc);
                    }
                }
            }
        }
        acc
    }
}
