//! Attention: launchers of the decode, prefill and encoder kernels (`cuda/attend_*.cu`). Grids depend on the step's
//! shape only; what a row sees, and where its pages are, the kernels find in device memory.

use super::driver::{Arg, Driver};
use super::step::{Fill, TILES};
use super::{Buf, Cuda, Pages, Wants};
use crate::{Attend, Error, KvFormat, Result};
use std::f32::consts::LOG2_E;

/// Threads of a block of decode attention; blocks of the others have at most as many.
const THREADS: u32 = 256;
/// Queries that a block of decode attention takes, at most.
const QUERIES: u32 = 8;
/// Queries of a warp of the other kernels.
const WARP_QUERIES: u32 = 16;

/// The heads that a kernel was made for, and its names.
struct Kernels {
    /// The widest head, whole 32.
    width: u32,
    decode: [&'static str; 2],
    prefill: [&'static str; 2],
    all: &'static str,
}

macro_rules! kernels {
    ($($width:literal),*) => {
        [$(Kernels {
            width: $width,
            decode: [concat!("attend_decode_f16_", $width), concat!("attend_decode_q8_", $width)],
            prefill: [concat!("attend_prefill_f16_", $width), concat!("attend_prefill_q8_", $width)],
            all: concat!("attend_all_", $width),
        }),*]
    };
}

const KERNELS: [Kernels; 4] = kernels![64, 96, 128, 256];

/// The narrowest kernels that take a head.
fn kernels(a: &Attend) -> Result<&'static Kernels> {
    let found = KERNELS.iter().find(|k| a.head_dim <= k.width as usize);
    found.filter(|_| a.head_dim > 0 && a.head_dim.is_multiple_of(2)).ok_or_else(|| {
        let found = format!("{} values per head", a.head_dim);
        Error::Unsupported(format!("attention with {found}: CUDA takes even numbers up to {}", crate::MAX_HEAD_DIM))
    })
}

/// How the query heads of a KV head are shared among blocks.
#[derive(Clone, Copy)]
struct Parts {
    group: u32,
    parts: u32,
    /// Heads of a part, at most.
    most: u32,
}

impl Parts {
    fn new(a: &Attend, most: u32) -> Parts {
        let group = (a.heads / a.kv_heads) as u32;
        let parts = group.div_ceil(most);
        Parts { group, parts, most: group.div_ceil(parts) }
    }
}

/// Queries of a block of prefill and encoder attention, at most: what fits in shared memory and registers.
fn block_queries(width: u32) -> u32 {
    if width > 128 { 64 } else { 128 }
}

/// Attention over the cache, as its launchers take it.
struct Asked<'a> {
    q: &'a Buf,
    out: &'a Buf,
    kv: &'a Pages,
    layer: usize,
    a: Attend,
    sinks: Option<&'a Buf>,
    kernels: &'static Kernels,
}

impl Asked<'_> {
    fn q8(&self) -> bool {
        self.kv.layout.format == KvFormat::Q8
    }

    /// What both kernels are told first.
    fn args(&self, heads: Parts) -> Vec<Arg> {
        let window = self.a.window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX);
        let field = (self.layer * self.kv.layout.kv_heads) as u32;
        let mut args = Vec::with_capacity(24);
        args.extend(buffer(self.q));
        args.extend(buffer(self.out));
        args.extend(self.kv.args());
        args.extend([field, heads.group, heads.most, self.a.head_dim as u32, window].map(Arg::U32));
        args.extend(rule(&self.a));
        args.push(Arg::Ptr(self.sinks.map_or(0, |sinks| sinks.at)));
        args
    }
}

/// Factor on scores and cap, as `Rule` in `cuda/attend.cuh` has them.
fn rule(a: &Attend) -> [Arg; 2] {
    let (scale, cap) = match a.softcap {
        Some(cap) => (2.0 * LOG2_E * a.scale / cap, cap * LOG2_E),
        None => (a.scale * LOG2_E, 0.0),
    };
    [Arg::F32(scale), Arg::F32(cap)]
}

fn buffer(buf: &Buf) -> [Arg; 3] {
    [Arg::Ptr(buf.at), Arg::U32(buf.stride as u32), Arg::U32(u32::from(buf.half))]
}

/// Bytes of a page in shared memory: `Staged` in `cuda/attend_rows.cuh`.
fn staged_bytes(width: u32, q8: bool, gaps: bool) -> u32 {
    let (size, gap) = (if q8 { 1 } else { 2 }, if gaps { 32 } else { 0 });
    width / 8 * (256 * size + gap) + 4 * (width * 8 * size + gap) + if q8 { 256 } else { 0 }
}

impl<D: Driver> Cuda<D> {
    /// Whether the machine runs the kernels of ARCH 80.
    fn copies_pages(&self) -> bool {
        self.driver.about().capability >= 80
    }

    pub(super) fn launch_attend(
        &mut self,
        out: &mut Buf,
        q: &Buf,
        kv: &Pages,
        layer: usize,
        a: Attend,
        sinks: Option<&Buf>,
    ) -> Result<()> {
        let kernels = kernels(&a)?;
        let cols = a.heads * a.head_dim;
        assert!(q.cols == cols && out.cols == cols, "buffers of attention have a head of each query");
        assert!(kv.layout.kv_heads == a.kv_heads && kv.layout.head_dim == a.head_dim, "pages fit the heads");
        assert!(sinks.is_none_or(|sinks| sinks.cols == a.heads && !sinks.half), "each head has a sink");
        self.want_splits(&a, kernels.width, kv.layout.format == KvFormat::Q8);
        if self.shape.rows == 0 {
            return Ok(());
        }
        let asked = Asked { q, out, kv, layer, a, sinks, kernels };
        // Tiles of one row each: many sequences that decode together.
        if self.shape.decode || self.shape.tiles[0] == self.shape.rows {
            self.attend_decode(&asked)
        } else {
            self.attend_prefill(&asked)
        }
    }

    /// Says how far the cache should be split, and what room the parts need.
    fn want_splits(&self, a: &Attend, width: u32, q8: bool) {
        let blocks = a.kv_heads as u32 * Parts::new(a, QUERIES).parts;
        // Registers leave room for one block at a time, or for two that have little on its way.
        let wanted = self.driver.about().multiprocessors * if q8 && width <= 64 { 2 } else { 1 };
        self.fill.set(Fill { blocks, wanted });
        // There are never more parts than wanted, but where one row has as many without.
        let (bytes, count) = (partial_bytes(width) * wanted as usize, wanted as usize);
        self.want(Wants { partial: bytes, counters: count, ..Wants::default() });
    }

    fn attend_decode(&self, asked: &Asked<'_>) -> Result<()> {
        let Asked { ref a, kernels, .. } = *asked;
        let heads = Parts::new(a, QUERIES);
        let blocks = a.kv_heads as u32 * heads.parts * self.shape.rows;
        // Until the first step has said what it needs, there is no room for parts.
        let (made, parts) = (self.room.made, (blocks * self.shape.splits) as usize);
        let room = made.partial >= parts * partial_bytes(kernels.width) && made.counters >= blocks as usize;
        let splits = if room { self.shape.splits } else { 1 };
        let arrays = self.current.arrays();
        let mut args = asked.args(heads);
        args.extend([arrays.visible, arrays.table, arrays.pages].map(Arg::Ptr));
        args.extend([self.room.partial, self.room.counters].map(Arg::Ptr));
        let dims = kernels.width.min(128);
        // `Merge` in `cuda/attend_merge.cuh`.
        let shared = THREADS / 32 * 64 + 128 + THREADS / 32 * 8 * (dims + 4) * 4;
        let name = kernels.decode[usize::from(asked.q8())];
        self.launch(name, [splits, a.kv_heads as u32 * heads.parts, self.shape.rows], THREADS, shared, &args)
    }

    fn attend_prefill(&self, asked: &Asked<'_>) -> Result<()> {
        let Asked { ref a, kernels, .. } = *asked;
        let queries = block_queries(kernels.width);
        let heads = Parts::new(a, QUERIES.min(queries / TILES[0] as u32));
        let per_tile = a.kv_heads as u32 * heads.parts;
        // The largest tiles that a block can take, unless too few blocks come of it.
        let mut size = TILES.iter().rposition(|rows| *rows as u32 * heads.most <= queries).unwrap_or(0);
        while size > 0 && 2 * self.shape.tiles[size] * per_tile <= self.driver.about().multiprocessors {
            size -= 1;
        }
        let warps = (TILES[size] as u32 * heads.most).div_ceil(WARP_QUERIES);
        let arrays = self.current.arrays();
        let mut args = asked.args(heads);
        args.extend([arrays.tiles[size], arrays.visible, arrays.table, arrays.pages].map(Arg::Ptr));
        let shared = self.block_bytes(kernels.width, warps, asked.q8(), false);
        let name = kernels.prefill[usize::from(asked.q8())];
        self.launch(name, [self.shape.tiles[size], per_tile, 1], warps * 32, shared, &args)
    }

    /// Shared memory of a block of prefill or (`all`) encoder attention: see `cuda/attend_block.cuh`.
    fn block_bytes(&self, width: u32, warps: u32, q8: bool, all: bool) -> u32 {
        let queries = warps * WARP_QUERIES;
        let placed = queries * (width + 8) * 2;
        let list = queries * 8;
        if self.copies_pages() {
            let rest = if width > 128 { warps * (width / 32 - 1) * 1024 } else { 0 };
            return list + placed.max(2 * staged_bytes(width, q8, true) + rest);
        }
        list + placed + queries * 80 + if all { staged_bytes(width, q8, false) } else { 0 }
    }

    pub(super) fn launch_attend_all(&mut self, out: &mut Buf, qkv: &Buf, a: Attend) -> Result<()> {
        let kernels = kernels(&a)?;
        assert!(a.window.is_none(), "encoders have no window");
        assert!(qkv.cols == (a.heads + 2 * a.kv_heads) * a.head_dim, "a row has a head of each query, key and value");
        assert!(out.cols == a.heads * a.head_dim, "buffers of attention have a head of each query");
        let rows = self.shape.rows;
        if rows == 0 {
            return Ok(());
        }
        let queries = block_queries(kernels.width);
        let heads = Parts::new(&a, QUERIES);
        let per_tile = a.kv_heads as u32 * heads.parts;
        let mut tokens = queries / heads.most;
        while tokens * heads.most > WARP_QUERIES
            && 2 * rows.div_ceil(tokens) * per_tile <= self.driver.about().multiprocessors
        {
            tokens = tokens.div_ceil(2);
        }
        let warps = (tokens * heads.most).div_ceil(WARP_QUERIES);
        let mut args = Vec::with_capacity(16);
        args.extend(buffer(qkv));
        args.extend(buffer(out));
        args.extend([heads.group, heads.most, rows, tokens, a.head_dim as u32].map(Arg::U32));
        args.extend(rule(&a));
        args.push(Arg::Ptr(self.current.arrays().span));
        let shared = self.block_bytes(kernels.width, warps, false, true);
        self.launch(kernels.all, [rows.div_ceil(tokens), per_tile, 1], warps * 32, shared, &args)
    }
}

/// Bytes of a block's partial result: `Merge` in `cuda/attend_merge.cuh`.
fn partial_bytes(width: u32) -> usize {
    QUERIES as usize * (2 + width as usize) * 4
}
