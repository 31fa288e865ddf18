//! `shift`: turns keys that are in the cache by further positions. Keys are stored transposed, so a lane is a row: a
//! half page turns at once, and rows that were not asked for are left as they were.

use super::kv::{Element, F16, F32, Pages, Q8, Shared};
use super::lanes::{Isa, Job, LANES, Lanes};
use super::pool::Pool;
use crate::{KvFormat, MAX_HEAD_DIM, PAGE_ROWS, Pairing};

/// Turns the keys of `slots`, which lie in the pool, in one layer. `turns` are the cos and then the sin of the angles.
///
/// The definition: (a, b) becomes (a·cos − b·sin, b·cos + a·sin). Q8 rows are dequantized, turned and quantized again
/// as when they were stored.
pub fn shift(
    pool: &mut Pool,
    isa: Isa,
    pages: &mut Pages,
    layer: usize,
    slots: &[u32],
    turns: &[f32],
    pairing: Pairing,
) {
    let heads = pages.layout.kv_heads;
    let pages = pages.shared();
    // A slot that is named twice turns twice: one thread sees to all of a head.
    // SAFETY: the set is available; tasks write fields of their own.
    pool.run(heads, |head, _| unsafe { isa.run(Turn { pages: &pages, layer, head, slots, turns, pairing }) });
}

struct Turn<'a> {
    pages: &'a Shared,
    layer: usize,
    head: usize,
    slots: &'a [u32],
    turns: &'a [f32],
    pairing: Pairing,
}

impl Job for Turn<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: as the operation's.
        unsafe {
            match self.pages.geometry.format {
                KvFormat::F32 => self.all::<L, F32>(),
                KvFormat::F16 => self.all::<L, F16>(),
                KvFormat::Q8 => self.all::<L, Q8>(),
            }
        }
    }
}

impl Turn<'_> {
    /// Gathers neighbouring slots of one half page, again and again.
    #[inline(always)]
    unsafe fn all<L: Lanes, E: Element>(&self) {
        let (keys, _) = self.pages.geometry.starts();
        let mut slots = self.slots.iter().map(|slot| *slot as usize).peekable();
        while let Some(&slot) = slots.peek() {
            let mut which = 0;
            let fresh = |next: &usize, which: u16| next / LANES == slot / LANES && which >> (next % LANES) & 1 == 0;
            while let Some(next) = slots.next_if(|next| fresh(next, which)) {
                which |= 1 << (next % LANES);
            }
            let row = slot % PAGE_ROWS / LANES * LANES;
            // SAFETY: the slot lies in the pool, and the field is this task's.
            unsafe {
                let field = self.pages.field(slot / PAGE_ROWS, self.layer, self.head).as_mut_ptr();
                let half = Half { scales: field.cast::<f32>().add(row), keys: field.add(keys + row * E::SIZE), which };
                self.half::<L, E>(half);
            }
        }
    }

    /// The two values that turn together, and their cos and sin.
    #[inline(always)]
    fn pairs(&self) -> impl Iterator<Item = (usize, usize, f32, f32)> {
        let (cos, sin) = self.turns.split_at(self.turns.len() / 2);
        let pairing = self.pairing;
        cos.iter().zip(sin).enumerate().map(move |(i, (cos, sin))| match pairing {
            Pairing::Halves => (i, i + self.turns.len() / 2, *cos, *sin),
            Pairing::Adjacent => (2 * i, 2 * i + 1, *cos, *sin),
        })
    }

    #[inline(always)]
    unsafe fn half<L: Lanes, E: Element>(&self, half: Half) {
        // SAFETY: the half page is the caller's own.
        unsafe {
            if !E::SCALED {
                for (a, b, cos, sin) in self.pairs() {
                    let (x, y) = turn::<L>(half.load::<L, E>(a), half.load::<L, E>(b), cos, sin);
                    half.store::<L, E>(a, x);
                    half.store::<L, E>(b, y);
                }
                return;
            }
            let head_dim = self.pages.geometry.head_dim;
            let scale = L::load(half.scales);
            let mut values = [L::splat(0.0); MAX_HEAD_DIM];
            for (d, x) in values[..head_dim].iter_mut().enumerate() {
                *x = L::mul(half.load::<L, E>(d), scale);
            }
            for (a, b, cos, sin) in self.pairs() {
                (values[a], values[b]) = turn::<L>(values[a], values[b], cos, sin);
            }
            let most = values[..head_dim].iter().fold(L::splat(0.0), |most, x| L::max(L::abs(*x), most));
            let mut lanes = [0.0; LANES];
            L::store(lanes.as_mut_ptr(), most);
            let inverse = lanes.map(|most| if most > 0.0 { 127.0 / most } else { 0.0 });
            let inverse = L::load(inverse.as_ptr());
            for (d, x) in values[..head_dim].iter().enumerate() {
                half.store::<L, E>(d, L::mul(*x, inverse));
            }
            for (lane, most) in lanes.iter().enumerate().filter(|(lane, _)| half.which >> lane & 1 == 1) {
                *half.scales.add(lane) = most / 127.0;
            }
        }
    }
}

/// 16 rows of a field, and which of them turn.
#[derive(Clone, Copy)]
struct Half {
    scales: *mut f32,
    keys: *mut u8,
    which: u16,
}

impl Half {
    #[inline(always)]
    unsafe fn load<L: Lanes, E: Element>(&self, d: usize) -> L::F {
        // SAFETY: the caller vouches for `d`.
        unsafe { E::load::<L>(self.keys.add(d * PAGE_ROWS * E::SIZE)) }
    }

    #[inline(always)]
    unsafe fn store<L: Lanes, E: Element>(&self, d: usize, x: L::F) {
        // SAFETY: as in load; 64 bytes hold 16 values of any size.
        unsafe {
            let keys = self.keys.add(d * PAGE_ROWS * E::SIZE);
            if self.which == u16::MAX {
                return E::store::<L>(keys, x);
            }
            let mut bytes = [0u8; 4 * LANES];
            E::store::<L>(bytes.as_mut_ptr(), x);
            for lane in (0..LANES).filter(|lane| self.which >> lane & 1 == 1) {
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(lane * E::SIZE), keys.add(lane * E::SIZE), E::SIZE);
            }
        }
    }
}

#[inline(always)]
unsafe fn turn<L: Lanes>(a: L::F, b: L::F, cos: f32, sin: f32) -> (L::F, L::F) {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (cos, sin) = (L::splat(cos), L::splat(sin));
        (L::sub(L::mul(a, cos), L::mul(b, sin)), L::add(L::mul(b, cos), L::mul(a, sin)))
    }
}
