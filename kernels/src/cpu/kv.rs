//! The pool of cache pages. A page holds 32 rows of every layer; a *field* is one page's part of one layer and KV head:
//! keys transposed, `[head_dim][32]`, so that a lane is a row and scores need no sums over lanes; values
//! `[32][head_dim rounded up to 16]`, so that a lane is an output. Q8 fields start with a scale per row: 32 for keys,
//! 32 for values. Memory is taken as rows are first written.

use super::lanes::{LANES, Lanes};
use super::memory::Memory;
use crate::{KvFormat, PAGE_ROWS, PageLayout, Result};

/// The pool.
pub struct Pages {
    pub layout: PageLayout,
    pub geometry: Geometry,
    memory: Memory,
}

/// Sizes of a field.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub format: KvFormat,
    pub head_dim: usize,
    /// Values of a row, padded to whole vectors.
    pub width: usize,
    layers: usize,
    kv_heads: usize,
    field_bytes: usize,
}

impl Pages {
    pub fn new(layout: PageLayout) -> Result<Pages> {
        let geometry = Geometry {
            format: layout.format,
            head_dim: layout.head_dim,
            width: layout.width(),
            layers: layout.layers,
            kv_heads: layout.kv_heads,
            field_bytes: layout.field_bytes(),
        };
        let bytes = layout.pages * layout.page_bytes();
        Ok(Pages { layout, geometry, memory: Memory::new(bytes, "the KV cache")? })
    }

    /// For threads that write rows of their own.
    pub fn shared(&mut self) -> Shared {
        Shared { base: self.memory.bytes_mut().as_mut_ptr(), geometry: self.geometry }
    }

    /// One field.
    pub fn field(&self, page: usize, layer: usize, head: usize) -> &[u8] {
        &self.memory.bytes()[self.geometry.field(page, layer, head)..][..self.geometry.field_bytes]
    }

    /// One field, to write.
    pub fn field_mut(&mut self, page: usize, layer: usize, head: usize) -> &mut [u8] {
        let at = self.geometry.field(page, layer, head);
        &mut self.memory.bytes_mut()[at..][..self.geometry.field_bytes]
    }

    /// For threads that only read.
    pub fn view(&self) -> View<'_> {
        View { bytes: self.memory.bytes(), geometry: self.geometry }
    }
}

/// The pool, written by several threads.
pub struct Shared {
    base: *mut u8,
    pub geometry: Geometry,
}

// SAFETY: `place` and `field` are unsafe: callers vouch that no two threads write the same row.
unsafe impl Sync for Shared {}

impl Shared {
    /// Where a row's key and value of one layer and head go.
    ///
    /// # Safety
    /// `slot` must lie in the pool, and no other thread may write it.
    pub unsafe fn place(&self, slot: u32, layer: usize, head: usize) -> Place {
        let (page, row) = (slot as usize / PAGE_ROWS, slot as usize % PAGE_ROWS);
        // SAFETY: the slot lies in the pool.
        let field = unsafe { self.base.add(self.geometry.field(page, layer, head)) };
        Place { field, row, geometry: self.geometry }
    }

    /// A whole field.
    ///
    /// # Safety
    /// The page must lie in the pool, and nobody else may read or write this field as long as it is borrowed.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn field(&self, page: usize, layer: usize, head: usize) -> &mut [u8] {
        // SAFETY: the field lies in the pool.
        unsafe {
            let field = self.base.add(self.geometry.field(page, layer, head));
            std::slice::from_raw_parts_mut(field, self.geometry.field_bytes)
        }
    }
}

impl Geometry {
    /// Where a field starts.
    fn field(&self, page: usize, layer: usize, head: usize) -> usize {
        ((page * self.layers + layer) * self.kv_heads + head) * self.field_bytes
    }

    /// Bytes of a value.
    pub fn size(&self) -> usize {
        match self.format {
            KvFormat::F32 => F32::SIZE,
            KvFormat::F16 => F16::SIZE,
            KvFormat::Q8 => Q8::SIZE,
        }
    }

    /// Where in a field the keys and the values start.
    pub fn starts(&self) -> (usize, usize) {
        let keys = if self.format == KvFormat::Q8 { 2 * PAGE_ROWS * 4 } else { 0 };
        (keys, keys + PAGE_ROWS * self.head_dim * self.size())
    }
}

/// The place of one row in a field.
pub struct Place {
    field: *mut u8,
    row: usize,
    geometry: Geometry,
}

impl Place {
    /// Stores a key and a value.
    ///
    /// # Safety
    /// The place must be this caller's own; both slices hold head_dim values.
    #[inline(always)]
    pub unsafe fn store<L: Lanes>(&self, key: &[f32], value: &[f32]) {
        let Geometry { format, head_dim, width, .. } = self.geometry;
        // SAFETY: all writes stay in the field.
        unsafe {
            match format {
                KvFormat::F32 => {
                    let keys = self.field.cast::<f32>();
                    for (d, x) in key.iter().enumerate() {
                        *keys.add(d * PAGE_ROWS + self.row) = *x;
                    }
                    let values = keys.add(head_dim * PAGE_ROWS + self.row * width);
                    std::ptr::copy_nonoverlapping(value.as_ptr(), values, head_dim);
                }
                KvFormat::F16 => {
                    let keys = self.field.cast::<u16>();
                    each::<L>(key, |at, x, n| {
                        let mut half = [0u16; LANES];
                        F16::store::<L>(half.as_mut_ptr().cast(), x);
                        for (i, h) in half[..n].iter().enumerate() {
                            *keys.add((at + i) * PAGE_ROWS + self.row) = *h;
                        }
                    });
                    let values = keys.add(head_dim * PAGE_ROWS + self.row * width);
                    each::<L>(value, |at, x, _| F16::store::<L>(values.add(at).cast(), x));
                }
                KvFormat::Q8 => {
                    let scales = self.field.cast::<f32>();
                    let keys = self.field.add(2 * PAGE_ROWS * 4).cast::<i8>();
                    let (scale, inverse) = scale_of::<L>(key);
                    *scales.add(self.row) = scale;
                    each::<L>(key, |at, x, n| {
                        let mut bytes = [0; LANES];
                        L::store_i8(bytes.as_mut_ptr(), L::mul(x, L::splat(inverse)));
                        for (i, b) in bytes[..n].iter().enumerate() {
                            *keys.add((at + i) * PAGE_ROWS + self.row) = *b;
                        }
                    });
                    let values = keys.add(head_dim * PAGE_ROWS + self.row * width);
                    let (scale, inverse) = scale_of::<L>(value);
                    *scales.add(PAGE_ROWS + self.row) = scale;
                    each::<L>(value, |at, x, _| {
                        L::store_i8(values.add(at), L::mul(x, L::splat(inverse)));
                    });
                }
            }
        }
    }
}

/// Greatest magnitude / 127, and its inverse (0 for a row of zeros).
#[inline(always)]
unsafe fn scale_of<L: Lanes>(x: &[f32]) -> (f32, f32) {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let mut most = L::splat(0.0);
        each::<L>(x, |_, x, _| most = L::max(L::abs(x), most));
        let most = L::greatest(most);
        (most / 127.0, if most > 0.0 { 127.0 / most } else { 0.0 })
    }
}

/// Vectors of a slice, the last one padded with zeros: (index, lanes, how many count).
#[inline(always)]
unsafe fn each<L: Lanes>(x: &[f32], mut f: impl FnMut(usize, L::F, usize)) {
    for at in (0..x.len()).step_by(LANES) {
        let n = LANES.min(x.len() - at);
        let mut lanes = [0.0; LANES];
        lanes[..n].copy_from_slice(&x[at..at + n]);
        // SAFETY: 16 values.
        f(at, unsafe { L::load(lanes.as_ptr()) }, n);
    }
}

/// The pool, read by several threads.
#[derive(Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
    pub geometry: Geometry,
}

impl View<'_> {
    /// A field's keys and values.
    pub fn field(&self, page: u32, layer: usize, head: usize) -> Field {
        let at = self.geometry.field(page as usize, layer, head);
        let field = &self.bytes[at..at + self.geometry.field_bytes];
        let (keys, values) = self.geometry.starts();
        Field { scales: field.as_ptr().cast(), keys: field[keys..].as_ptr(), values: field[values..].as_ptr() }
    }
}

/// Raw views of a field; valid as long as the pool is not written.
#[derive(Clone, Copy)]
pub struct Field {
    pub scales: *const f32,
    pub keys: *const u8,
    pub values: *const u8,
}

/// How a cache stores values.
pub trait Element {
    /// Bytes of a value.
    const SIZE: usize;
    /// Whether rows have a scale.
    const SCALED: bool;
    /// Sixteen values from `p` on.
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F;
    /// Sixteen values to `p` and on: f16 saturates at ±65504, so that no infinity enters the cache; i8 must be in range.
    unsafe fn store<L: Lanes>(p: *mut u8, x: L::F);
}

pub struct F32;
impl Element for F32 {
    const SIZE: usize = 4;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(p: *mut u8, x: L::F) {
        // SAFETY: as the caller's.
        unsafe { L::store(p.cast(), x) }
    }
}

pub struct F16;
impl Element for F16 {
    const SIZE: usize = 2;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(p: *mut u8, x: L::F) {
        // SAFETY: as the caller's.
        unsafe { L::store_f16(p.cast(), L::max(L::splat(-65504.0), L::min(L::splat(65504.0), x))) }
    }
}

pub struct Q8;
impl Element for Q8 {
    const SIZE: usize = 1;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::F {
        // SAFETY: as the caller's.
        unsafe { L::load_i8(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(p: *mut u8, x: L::F) {
        // SAFETY: as the caller's.
        unsafe { L::store_i8(p.cast(), x) }
    }
}
