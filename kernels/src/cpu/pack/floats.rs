//! Blocks of float weights: sixteen rows become lines of one value each. Rows are read sixteen values at a time, so that
//! a block is written once, in order.

use crate::cpu::lanes::LANES;

/// Interleaves rows of values of `N` bytes, at most sixteen. Lanes without a row keep what they hold.
pub fn interleave<const N: usize>(rows: &[&[u8]], out: &mut [u8]) {
    let out = out.as_chunks_mut::<N>().0.as_chunks_mut::<LANES>().0;
    let rows: Vec<&[[u8; N]]> = rows.iter().map(|row| row.as_chunks().0).collect();
    let Ok(rows) = <[&[[u8; N]]; LANES]>::try_from(&rows[..]) else {
        for (lane, row) in rows.iter().enumerate() {
            out.iter_mut().zip(*row).for_each(|(line, value)| line[lane] = *value);
        }
        return;
    };
    let rows = rows.map(|row| row.as_chunks::<LANES>());
    let (tiles, rest) = out.as_chunks_mut::<LANES>();
    for (i, lines) in tiles.iter_mut().enumerate() {
        let tile = rows.map(|(tiles, _)| tiles[i]);
        for (k, line) in lines.iter_mut().enumerate() {
            *line = std::array::from_fn(|lane| tile[lane][k]);
        }
    }
    for (k, line) in rest.iter_mut().enumerate() {
        *line = std::array::from_fn(|lane| rows[lane].1[k]);
    }
}
