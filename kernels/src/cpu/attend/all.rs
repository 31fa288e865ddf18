//! `attend_all`: encoders' attention. Keys and values of a step go into pages of their own, in float32, where `attend`
//! finds them: so the sums are in its order, and every row sees all rows of its sequence.

use super::super::kv::{Pages, Shared};
use super::super::lanes::{Isa, Job, Lanes};
use super::super::pool::Pool;
use super::{Queries, Room};
use crate::{Attend, KvFormat, PAGE_ROWS, PageLayout, Result, Row, SequenceRows, Step};

/// Standing room of the operation.
#[derive(Default)]
pub struct Encoder {
    pages: Option<Pages>,
    /// The current step as `attend` must see it.
    step: Step,
}

impl Encoder {
    /// Gives every sequence of `step` pages of its own, and their number.
    fn place(&mut self, step: &Step) -> usize {
        let own = &mut self.step;
        own.rows.clear();
        let (mut sequences, mut pages) = (0, 0u32);
        for rows in step.rows.chunk_by(|a, b| a.sequence == b.sequence) {
            if own.sequences.len() == sequences {
                own.sequences.push(SequenceRows::default());
            }
            let first = pages;
            pages += rows.len().div_ceil(PAGE_ROWS) as u32;
            let table = &mut own.sequences[sequences].pages;
            table.clear();
            table.extend(first..pages);
            own.rows.extend(rows.iter().enumerate().map(|(i, row)| Row {
                slot: first * PAGE_ROWS as u32 + i as u32,
                sequence: sequences as u32,
                visible: rows.len() as u32,
                ..*row
            }));
            sequences += 1;
        }
        pages as usize
    }
}

/// The operation, over all rows of the step.
#[allow(clippy::too_many_arguments)]
pub fn attend_all(
    pool: &mut Pool,
    isa: Isa,
    encoder: &mut Encoder,
    room: &mut Room,
    out: &mut [f32],
    qkv: &[f32],
    step: &Step,
    a: Attend,
) -> Result<()> {
    let needed = encoder.place(step);
    let fits = |pages: &Pages| {
        let PageLayout { pages, kv_heads, head_dim, .. } = pages.layout;
        (kv_heads, head_dim) == (a.kv_heads, a.head_dim) && pages >= needed
    };
    let pages = match encoder.pages.take().filter(fits) {
        Some(pages) => pages,
        None => Pages::new(PageLayout {
            pages: needed.next_power_of_two(),
            layers: 1,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            format: KvFormat::F32,
        })?,
    };
    let pages = encoder.pages.insert(pages);
    let width = (a.heads + 2 * a.kv_heads) * a.head_dim;
    let rows = &encoder.step.rows;
    let shared = pages.shared();
    pool.run(rows.len().div_ceil(8), |task, _| {
        for r in task * 8..rows.len().min(task * 8 + 8) {
            let (k, v) = qkv[r * width..(r + 1) * width][a.heads * a.head_dim..].split_at(a.kv_heads * a.head_dim);
            for (head, (key, value)) in k.chunks_exact(a.head_dim).zip(v.chunks_exact(a.head_dim)).enumerate() {
                let store = Store { pages: &shared, slot: rows[r].slot, head, key, value };
                // SAFETY: the set is available; `place` gave every row a slot of its own in the pool.
                unsafe { isa.run(store) }
            }
        }
    });
    let queries = Queries { q: qkv, stride: width, sinks: None };
    super::attend(pool, isa, room, out, queries, pages.view(), 0, &encoder.step, a);
    Ok(())
}

struct Store<'a> {
    pages: &'a Shared,
    slot: u32,
    head: usize,
    key: &'a [f32],
    value: &'a [f32],
}

impl Job for Store<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the place is this row's own.
        unsafe { self.pages.place(self.slot, 0, self.head).store::<L>(self.key, self.value) }
    }
}
