//! Rows and pages that move: from slot to slot, and to and from the form that all backends share. Bytes are moved as they
//! are; machines that this backend has lanes for are little-endian, as that form is.

use super::kv::{Geometry, Pages};
use super::pool::Pool;
use crate::PAGE_ROWS;

/// Copies rows of all layers, as if all were read before any is written. All slots lie in the pool.
pub fn copy_rows(pool: &mut Pool, pages: &mut Pages, from: &[u32], to: &[u32]) {
    let heads = pages.layout.kv_heads;
    let fields = pages.layout.layers * heads;
    let geometry = pages.geometry;
    let pages = pages.shared();
    pool.run(fields, |field, _| {
        // SAFETY: the slots lie in the pool, and this task alone sees this layer and head.
        let field = |slot: u32| unsafe { pages.field(slot as usize / PAGE_ROWS, field / heads, field % heads) };
        let bytes = row_bytes(&geometry);
        let mut rows = vec![0; from.len() * bytes];
        for (slot, row) in from.iter().zip(rows.chunks_exact_mut(bytes)) {
            each_part(&geometry, *slot as usize % PAGE_ROWS, |in_row, in_field, n| {
                row[in_row..in_row + n].copy_from_slice(&field(*slot)[in_field..in_field + n]);
            });
        }
        for (slot, row) in to.iter().zip(rows.chunks_exact(bytes)) {
            each_part(&geometry, *slot as usize % PAGE_ROWS, |in_row, in_field, n| {
                field(*slot)[in_field..in_field + n].copy_from_slice(&row[in_row..in_row + n]);
            });
        }
    });
}

/// Bytes of one row of a field.
fn row_bytes(geometry: &Geometry) -> usize {
    let scales = if geometry.starts().0 > 0 { 8 } else { 0 };
    scales + (geometry.head_dim + geometry.width) * geometry.size()
}

/// Calls `f(offset in the row, offset in the field, bytes)` for every stretch of a row.
fn each_part(geometry: &Geometry, row: usize, mut f: impl FnMut(usize, usize, usize)) {
    let ((keys, values), size) = (geometry.starts(), geometry.size());
    let mut at = 0;
    let mut part = |in_field: usize, n: usize| {
        f(at, in_field, n);
        at += n;
    };
    if keys > 0 {
        part(4 * row, 4);
        part(4 * (PAGE_ROWS + row), 4);
    }
    for d in 0..geometry.head_dim {
        part(keys + (d * PAGE_ROWS + row) * size, size);
    }
    part(values + row * geometry.width * size, geometry.width * size);
}

/// Writes a page to `into`, which is as long as the shared form.
pub fn read_page(pages: &Pages, page: usize, into: &mut [u8]) {
    let geometry = pages.geometry;
    for (layer, head, range) in fields(pages, into.len()) {
        let (field, into) = (pages.field(page, layer, head), &mut into[range]);
        each_stretch(&geometry, |shared, own, n| into[shared..shared + n].copy_from_slice(&field[own..own + n]));
    }
}

/// Fills a page from the shared form.
pub fn write_page(pages: &mut Pages, page: usize, from: &[u8]) {
    let geometry = pages.geometry;
    for (layer, head, range) in fields(pages, from.len()) {
        let (field, from) = (pages.field_mut(page, layer, head), &from[range]);
        each_stretch(&geometry, |shared, own, n| field[own..own + n].copy_from_slice(&from[shared..shared + n]));
    }
}

/// Layer, head and place in the shared form of every field of a page.
fn fields(pages: &Pages, bytes: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> + use<> {
    let heads = pages.layout.kv_heads;
    let fields = pages.layout.layers * heads;
    let each = bytes / fields.max(1);
    (0..fields).map(move |i| (i / heads, i % heads, i * each..(i + 1) * each))
}

/// Calls `f(offset in the shared form, offset in the field, bytes)` for every stretch of a field.
fn each_stretch(geometry: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let ((keys, values), size, dims) = (geometry.starts(), geometry.size(), geometry.head_dim);
    let mut at = 0;
    let mut stretch = |own: usize, n: usize| {
        f(at, own, n);
        at += n;
    };
    let scales = keys / 2;
    stretch(0, scales);
    for row in 0..PAGE_ROWS {
        for d in 0..dims {
            stretch(keys + (d * PAGE_ROWS + row) * size, size);
        }
    }
    stretch(scales, scales);
    for row in 0..PAGE_ROWS {
        stretch(values + row * geometry.width * size, dims * size);
    }
}
