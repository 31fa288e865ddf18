//! Experts at load: where each one's parts lie, in tables that kernels read, since who is chosen is known to the device
//! only. What this machine does not run is refused here.

use super::super::decode::shared as shared_bytes;
use super::super::driver::Driver;
use super::super::weight::{Kind, TILE_COLS, Weight};
use super::super::{Buf, Cuda, DECODE_ROWS, Wants};
use super::room_bytes;
use crate::{Act, After, Error, Experts, MAX_TOP_K, Result};

/// Bytes of a `Card` of `cuda/experts.cuh`.
const CARD_BYTES: usize = 56;
/// Bytes of shared memory that a block of a decode step takes at most, if that is enough for one row.
const MOST_SHARED: usize = 96 << 10;
/// Blocks that a launch may have in y or z, and so choices of a step.
const MOST_BLOCKS: usize = 65535;

/// The experts of a layer.
pub struct Mixture {
    pub(super) up: Stack,
    pub(super) down: Stack,
    pub(super) shared: Option<(Weight, Weight)>,
    pub(super) act: Act,
    pub(super) count: usize,
    pub(super) chosen: usize,
    pub(super) normalize: bool,
    /// Rows of a block in a decode step.
    pub(super) decode_rows: usize,
}

/// One matrix of each expert.
pub struct Stack {
    /// First parts of all experts, their second parts, and so on.
    pub(super) layers: Vec<Parts>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Whether gates and ups can be had together, of all experts.
    pub(super) glued: bool,
    /// Device address of the addresses of each one's order of columns, and of a 0 for rows that only pad; 0 if none has one.
    pub(super) orders: u64,
}

/// A part of each expert's matrix.
pub struct Parts {
    /// Device address of a card for each expert.
    pub(super) cards: u64,
    /// Kinds that there are among them; one for all lengths of groups.
    pub(super) kinds: Vec<Kind>,
    /// Outputs of the tallest.
    pub(super) rows: usize,
}

impl<D: Driver> Cuda<D> {
    pub(in super::super) fn new_mixture(&self, experts: Experts<Self>) -> Result<Mixture> {
        let Experts { up, down, shared, act, up_bias, down_bias, chosen, normalize } = experts;
        let count = up.len();
        assert!((1..=count.min(MAX_TOP_K)).contains(&chosen), "no more experts are chosen than there are");
        assert!(down.len() == count, "experts are whole");
        let (up, down) = (self.stack(&up, up_bias.as_ref())?, self.stack(&down, down_bias.as_ref())?);
        let widths = [Some((up.rows, down.cols)), shared.as_ref().map(|(up, down)| (up.rows, down.cols))];
        for (rows, width) in widths.into_iter().flatten() {
            assert!(rows == 2 * width, "experts have a gate and an up for each value of down");
            if !width.is_multiple_of(8) {
                return Err(unsupported(format!("experts of {width} values; their width must be a multiple of 8")));
            }
        }
        let rows = self.current.sizes().rows;
        if rows * chosen > MOST_BLOCKS || count > MOST_BLOCKS {
            return Err(unsupported(format!("{chosen} of {count} experts for each of {rows} rows of a step")));
        }
        let tiles = up.cols.max(down.cols).div_ceil(TILE_COLS);
        let one = shared_bytes(tiles, 1, 8);
        let most = MOST_SHARED.min(self.driver.about().shared_bytes as usize);
        if one > most {
            return Err(unsupported(format!("experts of {} inputs", up.cols.max(down.cols))));
        }
        // Room for gates and ups where these are not made at once.
        let outputs = if up.glued { 0 } else { chosen * up.rows };
        let [routes, mixed] = room_bytes(rows, chosen, count, down.rows);
        // What is between the products may have to be brought into order: a row for each choice.
        let cols = if down.orders == 0 { up.cols } else { up.cols.max(chosen * down.cols) };
        self.want(Wants { cols, outputs, routes, mixed, ..Wants::default() });
        let decode_rows = (most / one).clamp(1, DECODE_ROWS);
        Ok(Mixture { up, down, shared, act, count, chosen, normalize, decode_rows })
    }

    /// Tables of equal matrices; `bias` has a row of each, one after the other.
    fn stack(&self, weights: &[Weight], bias: Option<&Buf>) -> Result<Stack> {
        let (rows, cols) = weights.first().map_or((0, 0), |weight| (weight.rows, weight.cols));
        assert!(weights.iter().all(|w| (w.rows, w.cols) == (rows, cols)), "experts are of one width");
        assert!(bias.is_none_or(|b| b.cols == weights.len() * rows && !b.half), "each row of experts has its bias");
        let bias = bias.map_or(0, |bias| bias.at);
        let depth = weights.iter().map(|weight| weight.parts.len()).max().unwrap_or(0);
        let layers = (0..depth).map(|layer| self.cards(weights, layer, bias)).collect::<Result<_>>()?;
        let mut orders = 0;
        if weights.iter().any(|weight| weight.order != 0) {
            let all = weights.iter().map(|weight| weight.order).chain([0]);
            orders = self.table(&all.flat_map(u64::to_le_bytes).collect::<Vec<_>>(), 8)?;
        }
        Ok(Stack { layers, rows, cols, glued: weights.iter().all(|weight| weight.glued), orders })
    }

    /// Writes entries of `each` bytes.
    fn table(&self, bytes: &[u8], each: usize) -> Result<u64> {
        let at = self.take(bytes.len(), "tables of experts")?;
        self.stream(at, bytes.len(), each, &mut |start, out| {
            out.copy_from_slice(&bytes[start..start + out.len()]);
        })?;
        Ok(at)
    }

    /// Writes the table of one part of each weight.
    fn cards(&self, weights: &[Weight], layer: usize, bias: u64) -> Result<Parts> {
        let mut parts = Parts { cards: 0, kinds: Vec::new(), rows: 0 };
        let mut bytes = vec![0; weights.len() * CARD_BYTES];
        for (expert, (weight, card)) in weights.iter().zip(bytes.chunks_exact_mut(CARD_BYTES)).enumerate() {
            let Some(part) = weight.parts.get(layer) else { continue };
            let own = if bias == 0 { 0 } else { bias + 4 * (expert * weight.rows) as u64 };
            for (to, address) in card.chunks_exact_mut(8).zip([part.quants, part.scales, part.supers, own]) {
                to.copy_from_slice(&address.to_le_bytes());
            }
            let shift = part.kind.shift().unwrap_or(0);
            let numbers = [part.unscale.to_bits(), number(part.kind), part.rows as u32, part.first as u32, shift];
            for (to, number) in card[32..].chunks_exact_mut(4).zip(numbers) {
                to.copy_from_slice(&number.to_le_bytes());
            }
            if parts.kinds.iter().all(|kind| number(*kind) != number(part.kind)) {
                parts.kinds.push(part.kind);
            }
            parts.rows = parts.rows.max(part.rows);
        }
        parts.cards = self.table(&bytes, CARD_BYTES)?;
        Ok(parts)
    }
}

impl Mixture {
    /// What the products to `h` end with.
    pub(super) fn after(&self) -> After {
        After::Glu(self.act)
    }
}

/// A kind's number in `cuda/weights.cuh`.
fn number(kind: Kind) -> u32 {
    match kind {
        Kind::F16 => 0,
        Kind::Q8 => 1,
        Kind::Q4 => 2,
        Kind::Q4M => 3,
        Kind::Q4K => 4,
        Kind::Q6K => 5,
        Kind::Z4(_) => 6,
        Kind::Z8(_) => 7,
        Kind::Mx4 => 8,
    }
}

fn unsupported(what: String) -> Error {
    Error::Unsupported(format!("{what}: this is not run on CUDA devices; use --device cpu"))
}
