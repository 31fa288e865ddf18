//! The pool of cache pages in device memory: its layout (`cuda/pages.cuh`), copies of rows, and pages to and from the
//! host.

use super::driver::{Arg, Driver};
use super::{Cuda, SLAB_BYTES, shape};
use crate::{Error, KvFormat, MAX_HEAD_DIM, NO_SLOT, PAGE_ROWS, PageLayout, Result};

/// The pool: slabs of pages, all of the same size but perhaps the last.
pub struct Pages {
    pub(super) layout: PageLayout,
    /// Device address of the u64 addresses of the slabs.
    pub(super) slabs: u64,
    /// A slab holds 2^shift pages.
    pub(super) shift: u32,
    /// The slabs' addresses.
    pub(super) addresses: Vec<u64>,
    room: Room,
}

/// What copies between slots need; taken when first needed.
#[derive(Clone, Copy, Default)]
struct Room {
    /// Slots of which lists fit.
    rows: usize,
    /// Device address of two lists of slots.
    lists: u64,
    /// Device address of rows between their places, piece by piece.
    pieces: u64,
    /// Pieces that fit.
    most: usize,
}

/// Lists of slots in device memory.
pub(super) struct Lists {
    pub from: u64,
    pub to: u64,
}

/// Bytes of a piece of a row: eight dims of key and value, see `cuda/copy_rows.cu`.
const PIECE_BYTES: usize = 32;
/// The least room for pieces, and for lists of slots.
const ROOM_PIECES: usize = (4 << 20) / PIECE_BYTES;
const ROOM_ROWS: usize = 4096;
/// What a grid can have in y.
const MOST_BLOCKS: usize = 65535;

/// `head_dim` rounded up to whole 16: what a row of a field holds.
pub fn width(layout: &PageLayout) -> usize {
    layout.head_dim.next_multiple_of(16)
}

/// Bytes that one page takes for one layer and KV head.
pub fn field_bytes(layout: &PageLayout) -> usize {
    let values = 2 * PAGE_ROWS * width(layout);
    match layout.format {
        KvFormat::Q8 => values + 2 * PAGE_ROWS * 4,
        KvFormat::F16 | KvFormat::F32 => 2 * values,
    }
}

/// Bytes of one page over all layers.
pub fn page_bytes(layout: &PageLayout) -> usize {
    layout.layers * layout.kv_heads * field_bytes(layout)
}

impl Pages {
    /// How kernels are told of the pool: `slabs`, `shift`, `page_bytes`, `field_bytes`.
    pub(super) fn args(&self) -> [Arg; 4] {
        let [page, field] = [page_bytes(&self.layout), field_bytes(&self.layout)].map(|bytes| Arg::U32(bytes as u32));
        [Arg::Ptr(self.slabs), Arg::U32(self.shift), page, field]
    }

    /// Whether values are i8 with scales.
    pub(super) fn q8(&self) -> Arg {
        Arg::U32(u32::from(self.layout.format == KvFormat::Q8))
    }

    /// Checks that slots lie in the pool.
    pub(super) fn holds(&self, slots: &[u32]) -> Result<()> {
        match slots.iter().find(|slot| **slot as usize / PAGE_ROWS >= self.layout.pages) {
            Some(slot) => Err(shape("a slot", slot, format!("below {}", self.layout.pages * PAGE_ROWS))),
            None => Ok(()),
        }
    }

    fn page(&self, page: u32, bytes: usize) -> Result<u64> {
        if page as usize >= self.layout.pages {
            return Err(shape("a page", page, format!("below {}", self.layout.pages)));
        }
        if bytes != self.layout.portable_bytes() {
            return Err(shape("bytes of a page", bytes, self.layout.portable_bytes()));
        }
        let in_slab = page as usize & ((1 << self.shift) - 1);
        Ok(self.addresses[page as usize >> self.shift] + (in_slab * page_bytes(&self.layout)) as u64)
    }
}

/// Which slots of a pool have been seen.
pub(super) struct Seen(Vec<u32>);

impl Seen {
    pub fn new(layout: &PageLayout) -> Seen {
        Seen(vec![0; layout.pages])
    }

    /// Whether this is the first time for a slot, which lies in the pool.
    pub fn first(&mut self, slot: u32) -> bool {
        let (page, bit) = (&mut self.0[slot as usize / PAGE_ROWS], 1 << (slot as usize % PAGE_ROWS));
        let first = *page & bit == 0;
        *page |= bit;
        first
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_pages(&self, layout: PageLayout) -> Result<Pages> {
        self.pages_in_slabs(layout, SLAB_BYTES)
    }

    /// A pool in allocations of at most `slab_bytes`, or of a page each if a page is larger.
    pub fn pages_in_slabs(&self, layout: PageLayout, slab_bytes: usize) -> Result<Pages> {
        if layout.format == KvFormat::F32 {
            return Err(Error::Unsupported("a CUDA device holds keys and values in f16 or q8, not in f32".into()));
        }
        if !(1..=MAX_HEAD_DIM).contains(&layout.head_dim) {
            return Err(shape("head_dim", layout.head_dim, format!("1 to {MAX_HEAD_DIM}")));
        }
        let most = NO_SLOT as usize / PAGE_ROWS;
        if layout.pages > most {
            return Err(shape("pages of the KV cache", layout.pages, format!("at most {most}")));
        }
        let bytes = page_bytes(&layout);
        if bytes > SLAB_BYTES {
            return Err(shape("bytes of a page of the KV cache", bytes, format!("at most {SLAB_BYTES}")));
        }
        let whole = layout.pages.saturating_mul(bytes);
        if whole as u64 > self.driver.about().memory {
            return Err(Error::Memory {
                what: format!("the KV cache ({} pages of {bytes} bytes)", layout.pages),
                bytes: whole,
            });
        }
        let shift = (slab_bytes / bytes.max(1)).max(1).ilog2();
        let pages_of = |first: usize| (layout.pages - first).min(1 << shift);
        let addresses: Vec<u64> = (0..layout.pages)
            .step_by(1 << shift)
            .map(|first| self.take(pages_of(first) * bytes, "the KV cache"))
            .collect::<Result<_>>()?;
        let slabs = self.take(8 * addresses.len(), "addresses of the KV cache")?;
        self.stream(slabs, 8 * addresses.len(), 8, &mut |start, out| {
            for (to, address) in out.chunks_exact_mut(8).zip(&addresses[start / 8..]) {
                to.copy_from_slice(&address.to_le_bytes());
            }
        })?;
        Ok(Pages { layout, slabs, shift, addresses, room: Room::default() })
    }

    pub(super) fn launch_copy_rows(&self, kv: &mut Pages, from: &[u32], to: &[u32]) -> Result<()> {
        if from.len() != to.len() {
            return Err(shape("slots to copy to", to.len(), format!("{}, as many as slots to copy from", from.len())));
        }
        kv.holds(from)?;
        kv.holds(to)?;
        // Where several rows go to one slot, the last one stays.
        let mut seen = Seen::new(&kv.layout);
        let last = from.iter().zip(to).rev().filter(|(_, to)| seen.first(**to));
        let (from, to): (Vec<u32>, Vec<u32>) = last.unzip();
        if from.is_empty() {
            return Ok(());
        }
        let lists = self.upload_slots(kv, &from, &to)?;
        let (n, width) = (from.len() as u32, width(&kv.layout));
        let pieces = kv.layout.layers * kv.layout.kv_heads * width / 8;
        let batch = (kv.room.most / from.len()).min(MOST_BLOCKS);
        for first in (0..pieces).step_by(batch) {
            for (kernel, list) in [("copy_rows_out", lists.from), ("copy_rows_in", lists.to)] {
                let args = [
                    &[Arg::Ptr(list), Arg::U32(n), Arg::Ptr(kv.room.pieces), Arg::U32(first as u32)][..],
                    &[Arg::U32(width as u32), kv.q8()],
                    &kv.args(),
                ]
                .concat();
                self.launch(kernel, [n.div_ceil(128), batch.min(pieces - first) as u32, 1], 128, 0, &args)?;
            }
        }
        Ok(())
    }

    /// Lists of slots for the launches that follow, and room for a piece of each row.
    pub(super) fn upload_slots(&self, kv: &mut Pages, from: &[u32], to: &[u32]) -> Result<Lists> {
        if from.len() > kv.room.rows {
            let rows = from.len().next_power_of_two().max(ROOM_ROWS);
            let most = rows.max(ROOM_PIECES);
            let lists = self.take(2 * 4 * rows, "lists of cache rows")?;
            let pieces = self.take(most * PIECE_BYTES, "copies of cache rows")?;
            kv.room = Room { rows, lists, pieces, most };
        }
        let lists = Lists { from: kv.room.lists, to: kv.room.lists + 4 * kv.room.rows as u64 };
        for (at, slots) in [(lists.from, from), (lists.to, to)] {
            self.stream(at, 4 * slots.len(), 4, &mut |start, out| {
                for (to, slot) in out.chunks_exact_mut(4).zip(&slots[start / 4..]) {
                    to.copy_from_slice(&slot.to_le_bytes());
                }
            })?;
        }
        Ok(lists)
    }

    pub(super) fn fetch_page(&self, kv: &Pages, page: u32, into: &mut [u8]) -> Result<()> {
        let at = kv.page(page, into.len())?;
        let (own, shared) = (field_bytes(&kv.layout), portable_field_bytes(&kv.layout));
        let mut fields = into.chunks_exact_mut(shared);
        self.fetch(at, page_bytes(&kv.layout), own, &mut |bytes| {
            for (field, into) in bytes.chunks_exact(own).zip(&mut fields) {
                stretches(&kv.layout, |shared, own, n| into[shared..shared + n].copy_from_slice(&field[own..own + n]));
            }
        })
    }

    pub(super) fn store_page(&self, kv: &mut Pages, page: u32, from: &[u8]) -> Result<()> {
        let at = kv.page(page, from.len())?;
        let (own, shared) = (field_bytes(&kv.layout), portable_field_bytes(&kv.layout));
        self.stream(at, page_bytes(&kv.layout), own, &mut |start, out| {
            let from = &from[start / own * shared..];
            for (field, from) in out.chunks_exact_mut(own).zip(from.chunks_exact(shared)) {
                fill_field(&kv.layout, field, from);
            }
        })
    }
}

/// Bytes of a field in the form that backends share.
fn portable_field_bytes(layout: &PageLayout) -> usize {
    layout.portable_bytes() / (layout.layers * layout.kv_heads).max(1)
}

/// A field from the form that backends share; zeros between head_dim and the width.
fn fill_field(layout: &PageLayout, field: &mut [u8], from: &[u8]) {
    field.fill(0);
    stretches(layout, |shared, own, n| field[own..own + n].copy_from_slice(&from[shared..shared + n]));
}

/// Calls `f(offset in the shared form, offset in the field, bytes)` for every stretch that is whole in both.
fn stretches(layout: &PageLayout, mut f: impl FnMut(usize, usize, usize)) {
    let (dims, width) = (layout.head_dim, width(layout));
    let (size, scales) = if layout.format == KvFormat::Q8 { (1, 4 * PAGE_ROWS) } else { (2, 0) };
    let own_scales = 2 * PAGE_ROWS * width * size;
    f(0, own_scales, scales);
    for row in 0..PAGE_ROWS {
        for first in (0..dims).step_by(8) {
            let shared = scales + (row * dims + first) * size;
            f(shared, key_place(row, first) * size, 8.min(dims - first) * size);
        }
    }
    let values = scales + PAGE_ROWS * dims * size;
    f(values, own_scales + scales, scales);
    for row in 0..PAGE_ROWS {
        for dim in 0..dims {
            let shared = values + scales + (row * dims + dim) * size;
            f(shared, value_place(width, row, dim) * size, size);
        }
    }
}

/// Where a value lies in a field, in values, as `cuda/pages.cuh` has it.
fn key_place(row: usize, dim: usize) -> usize {
    dim / 8 * (PAGE_ROWS * 8) + row * 8 + dim % 8
}

fn value_place(width: usize, row: usize, dim: usize) -> usize {
    width * PAGE_ROWS + (row / 2 % 4 * width + dim) * 8 + row / 8 * 2 + row % 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_place_and_the_rest_of_a_field_is_zeros() {
        for (format, head_dim) in
            [KvFormat::F16, KvFormat::Q8].into_iter().flat_map(|f| [1, 16, 20, 256].map(|d| (f, d)))
        {
            let layout = PageLayout { pages: 1, layers: 1, kv_heads: 1, head_dim, format };
            let shared = vec![0xff; portable_field_bytes(&layout)];
            let mut field = vec![0x11; field_bytes(&layout)];
            fill_field(&layout, &mut field, &shared);
            assert_eq!(field.iter().filter(|b| **b == 0xff).count(), shared.len(), "{format:?}, {head_dim}");
            assert!(field.iter().all(|b| [0, 0xff].contains(b)), "{format:?}, {head_dim}");
        }
    }
}
