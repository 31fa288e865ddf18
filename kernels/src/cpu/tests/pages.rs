//! What happens to pages between steps: keys that turn, rows and pages that move.

use super::*;

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8];
const HEADS: usize = 2;

fn layout(pages: usize, head_dim: usize, format: KvFormat) -> PageLayout {
    PageLayout { pages, layers: 3, kv_heads: HEADS, head_dim, format }
}

fn rope(cpu: &mut Cpu, pairing: Pairing, dims: usize, head_dim: usize) -> Rope<Cpu> {
    let frequencies: Vec<f32> = (0..dims / 2).map(|i| 0.7f32.powi(i as i32)).collect();
    Rope {
        pairing,
        dims,
        frequencies: filled(cpu, (dims / 2).max(1), &frequencies),
        factor: 1.25,
        heads: 1,
        kv_heads: HEADS,
        head_dim,
        q_norm: None,
        k_norm: None,
        whole_norms: false,
    }
}

/// Stores a row per (slot, position); its values depend on the seed alone.
fn store(cpu: &mut Cpu, kv: &mut Pages, rope: &Rope<Cpu>, at: &[(u32, u32)], seed: u64) {
    let width = (1 + 2 * HEADS) * rope.head_dim;
    for layer in 0..kv.0.layout.layers {
        let x = filled(cpu, width, &Random::new(seed + layer as u64).floats(at.len() * width));
        let mut q = cpu.buf(at.len(), rope.head_dim, Precision::Half).unwrap();
        let row =
            |(slot, position): &(u32, u32)| Row { token: 0, position: *position, slot: *slot, sequence: 0, visible: 1 };
        let step =
            Step { rows: at.iter().map(row).collect(), sequences: vec![SequenceRows::default()], ..Step::default() };
        cpu.run(&step, None, &mut |cpu| cpu.rope_store(&mut q, &x, kv, layer, rope)).unwrap();
    }
}

fn page(cpu: &mut Cpu, kv: &Pages, page: u32) -> Vec<u8> {
    let mut bytes = vec![0xaa; kv.0.layout.portable_bytes()];
    cpu.read_page(kv, page, &mut bytes).unwrap();
    bytes
}

fn image(cpu: &mut Cpu, kv: &Pages) -> Vec<Vec<u8>> {
    (0..kv.0.layout.pages as u32).map(|i| page(cpu, kv, i)).collect()
}

/// A row's keys (or values) in a page's shared form, as numbers.
fn numbers(l: &PageLayout, bytes: &[u8], layer: usize, head: usize, row: usize, values: bool) -> Vec<f32> {
    let field = &bytes[(layer * HEADS + head) * l.portable_bytes() / (l.layers * HEADS)..];
    let (size, scales) = match l.format {
        KvFormat::F32 => (4, 0),
        KvFormat::F16 => (2, 0),
        KvFormat::Q8 => (1, 4 * PAGE_ROWS),
    };
    let part = &field[if values { scales + PAGE_ROWS * l.head_dim * size } else { 0 }..];
    let float = |b: &[u8]| f32::from_le_bytes(b[..4].try_into().unwrap());
    let scale = if scales > 0 { float(&part[4 * row..]) } else { 1.0 };
    let row = &part[scales + row * l.head_dim * size..][..l.head_dim * size];
    let number = |b: &[u8]| match l.format {
        KvFormat::F32 => float(b),
        KvFormat::F16 => half::f16::from_le_bytes([b[0], b[1]]).to_f32(),
        KvFormat::Q8 => b[0] as i8 as f32 * scale,
    };
    row.chunks_exact(size).map(number).collect()
}

#[test]
fn a_page_in_the_shared_form_holds_what_was_stored() {
    // No factor, no turns: keys and values are the qkv rows' own.
    for (format, limit) in [(KvFormat::F32, 0.0), (KvFormat::F16, 1e-3), (KvFormat::Q8, 2e-2)] {
        let mut cpu = Cpu::new(1).unwrap();
        let l = layout(2, 20, format);
        let mut kv = cpu.pages(l).unwrap();
        let rope = rope(&mut cpu, Pairing::Halves, 0, 20);
        let at: Vec<(u32, u32)> = [33, 63, 40].map(|slot| (slot, 0)).to_vec();
        store(&mut cpu, &mut kv, &rope, &at, 90);
        let bytes = page(&mut cpu, &kv, 1);
        for (layer, head) in [(0, 0), (1, 1), (2, 0)] {
            let qkv = Random::new(90 + layer as u64).floats(at.len() * 100);
            for (i, (slot, _)) in at.iter().enumerate() {
                for (values, offset) in [(false, 20), (true, 60)] {
                    let found = numbers(&l, &bytes, layer, head, *slot as usize % PAGE_ROWS, values);
                    for (f, x) in found.iter().zip(&qkv[i * 100 + offset + head * 20..][..20]) {
                        assert!((f - x).abs() <= limit, "{format:?}: {f}, not {x}");
                    }
                }
            }
            assert!(numbers(&l, &bytes, layer, head, 5, true).iter().all(|x| *x == 0.0), "a row nobody stored");
        }
    }
}

#[test]
fn stored_and_shifted_is_stored_further_on() {
    for (format, limit) in [(KvFormat::F32, 1e-5), (KvFormat::F16, 2e-3), (KvFormat::Q8, 2e-2)] {
        for (pairing, dims, head_dim) in
            [(Pairing::Halves, 20, 20), (Pairing::Adjacent, 16, 24), (Pairing::Halves, 64, 80)]
        {
            for by in [5, -7] {
                // All of page 2, a part of page 0 and single rows of page 1, of which others stay.
                let slots: Vec<u32> = (64..96).chain(3..21).chain([41, 39, 63]).collect();
                let every: Vec<(u32, u32)> = (0..96).map(|slot| (slot, 10 + slot % 50)).collect();
                let l = layout(3, head_dim, format);
                let run = |isa, threads| {
                    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
                    let mut kv = cpu.pages(l).unwrap();
                    let rope = rope(&mut cpu, pairing, dims, head_dim);
                    store(&mut cpu, &mut kv, &rope, &every, 50);
                    cpu.shift(&mut kv, 1, &rope, &slots, by).unwrap();
                    image(&mut cpu, &kv)
                };
                let scalar = run(Isa::Scalar, 1);
                // The same rows, those that turned stored at their new positions right away.
                let mut cpu = Cpu::new(1).unwrap();
                let (mut before, mut after) = (cpu.pages(l).unwrap(), cpu.pages(l).unwrap());
                let rope = rope(&mut cpu, pairing, dims, head_dim);
                store(&mut cpu, &mut before, &rope, &every, 50);
                let moved = |slot: u32, p: u32| if slots.contains(&slot) { p.wrapping_add_signed(by) } else { p };
                let further: Vec<(u32, u32)> = every.iter().map(|(slot, p)| (*slot, moved(*slot, *p))).collect();
                store(&mut cpu, &mut after, &rope, &further, 50);
                let (before, after) = (image(&mut cpu, &before), image(&mut cpu, &after));
                let rows = (0..96).flat_map(|slot| (0..l.layers * HEADS).map(move |i| (slot, i / HEADS, i % HEADS)));
                for (slot, layer, head) in rows {
                    let (page, row) = (slot / PAGE_ROWS, slot % PAGE_ROWS);
                    let turns = layer == 1 && slots.contains(&(slot as u32));
                    let expected = if turns { &after } else { &before };
                    let [found, expected] =
                        [&scalar, expected].map(|image| numbers(&l, &image[page], layer, head, row, false));
                    let size = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let limit = if turns { limit * size } else { 0.0 };
                    for (f, e) in found.iter().zip(&expected) {
                        assert!((f - e).abs() <= limit, "{format:?} {pairing:?} by {by} slot {slot}: {f}, not {e}");
                    }
                    let values = |image: &Vec<Vec<u8>>| numbers(&l, &image[page], layer, head, row, true);
                    assert_eq!(values(&scalar), values(&before), "values stay");
                }
                for isa in Isa::available() {
                    for threads in [1, 2, 3] {
                        assert_eq!(run(isa, threads), scalar, "{} {threads} threads {format:?}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn a_shift_is_its_definition_bit_for_bit() {
    for format in FORMATS {
        for (pairing, dims, head_dim, by) in [(Pairing::Halves, 20, 20, 3), (Pairing::Adjacent, 8, 24, -900)] {
            let l = layout(1, head_dim, format);
            let mut cpu = Cpu::new(1).unwrap();
            let mut kv = cpu.pages(l).unwrap();
            let rope = rope(&mut cpu, pairing, dims, head_dim);
            store(&mut cpu, &mut kv, &rope, &(0..32).map(|slot| (slot, slot)).collect::<Vec<_>>(), 40);
            let before = page(&mut cpu, &kv, 0);
            cpu.shift(&mut kv, 2, &rope, &[1, 9, 16, 31], by).unwrap();
            let after = page(&mut cpu, &kv, 0);
            for (row, head) in [1, 9, 16, 31].into_iter().flat_map(|row| [(row, 0), (row, 1)]) {
                let mut x = numbers(&l, &before, 2, head, row, false);
                for i in 0..dims / 2 {
                    let angle = by as f32 * 0.7f32.powi(i as i32);
                    let (a, b) = if pairing == Pairing::Halves { (i, i + dims / 2) } else { (2 * i, 2 * i + 1) };
                    let (cos, sin) = (angle.cos(), angle.sin());
                    (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
                }
                let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                let kept = |x: f32| match format {
                    KvFormat::F32 => x,
                    KvFormat::F16 => half::f16::from_f32(x).to_f32(),
                    KvFormat::Q8 => (x * (127.0 / most)).round_ties_even() * (most / 127.0),
                };
                let expected: Vec<f32> = x.into_iter().map(kept).collect();
                assert_eq!(numbers(&l, &after, 2, head, row, false), expected, "{format:?} row {row} by {by}");
            }
        }
    }
}

#[test]
fn a_slot_named_twice_turns_twice_and_no_turn_changes_nothing() {
    for format in FORMATS {
        let mut cpu = Cpu::new(2).unwrap();
        let l = layout(1, 16, format);
        let rope = rope(&mut cpu, Pairing::Halves, 16, 16);
        let every: Vec<(u32, u32)> = (0..32).map(|slot| (slot, slot)).collect();
        let mut shifted = |calls: &[(&[u32], i32)]| {
            let mut kv = cpu.pages(l).unwrap();
            store(&mut cpu, &mut kv, &rope, &every, 60);
            calls.iter().for_each(|(slots, by)| cpu.shift(&mut kv, 0, &rope, slots, *by).unwrap());
            image(&mut cpu, &kv)
        };
        assert_eq!(shifted(&[(&[4, 5, 4, 20], 3)]), shifted(&[(&[4, 5, 20], 3), (&[4], 3)]));
        assert_ne!(shifted(&[(&[4, 5, 4], 3)]), shifted(&[(&[4, 5], 3)]));
        assert_eq!(shifted(&[(&[1, 2, 3], 0), (&[], 5)]), shifted(&[]));
    }
}

#[test]
fn copies_read_everything_before_they_write() {
    let mut random = Random::new(70);
    for format in FORMATS {
        for threads in [1, 2, 3] {
            let mut cpu = Cpu::new(threads).unwrap();
            let l = layout(4, 20, format);
            let mut kv = cpu.pages(l).unwrap();
            let rope = rope(&mut cpu, Pairing::Halves, 20, 20);
            let every: Vec<(u32, u32)> = (0..128).map(|slot| (slot, slot)).collect();
            store(&mut cpu, &mut kv, &rope, &every, 70);
            let before = image(&mut cpu, &kv);
            // Closing a gap, opening one, a swap, one row to many places, and any rows to any others.
            let mut to: Vec<u32> = (0..128).collect();
            (0..128).for_each(|i| to.swap(i, i + random.next() as usize % (128 - i)));
            let from: Vec<u32> = (0..90).map(|_| (random.next() % 128) as u32).collect();
            let moves: [(Vec<u32>, Vec<u32>); 6] = [
                ((40..100).collect(), (30..90).collect()),
                ((30..90).collect(), (40..100).collect()),
                (vec![3, 77], vec![77, 3]),
                (vec![9; 5], vec![1, 2, 9, 33, 127]),
                (from, to[..90].to_vec()),
                (vec![], vec![]),
            ];
            let mut expected = before;
            for (from, to) in moves {
                cpu.copy_rows(&mut kv, &from, &to).unwrap();
                let old = expected.clone();
                let found = image(&mut cpu, &kv);
                for slot in 0..128u32 {
                    let source = to.iter().position(|t| *t == slot).map_or(slot, |i| from[i]) as usize;
                    let (page, row) = (slot as usize / PAGE_ROWS, slot as usize % PAGE_ROWS);
                    for (field, values) in (0..l.layers * HEADS).flat_map(|f| [(f, false), (f, true)]) {
                        let (layer, head) = (field / HEADS, field % HEADS);
                        let was = numbers(&l, &old[source / PAGE_ROWS], layer, head, source % PAGE_ROWS, values);
                        let is = numbers(&l, &found[page], layer, head, row, values);
                        assert_eq!(is, was, "{format:?} slot {slot} of {source}");
                    }
                }
                expected = found;
            }
        }
    }
}

#[test]
fn pages_go_through_the_shared_form_into_another_pool() {
    for format in FORMATS {
        let head_dim = 20;
        let a = Attend { heads: 4, kv_heads: HEADS, head_dim, scale: 0.3, window: None, softcap: None };
        let mut cpu = Cpu::new(2).unwrap();
        let rope = rope(&mut cpu, Pairing::Adjacent, 20, head_dim);
        let mut one = cpu.pages(layout(3, head_dim, format)).unwrap();
        let every: Vec<(u32, u32)> = (0..96).map(|slot| (slot, slot)).collect();
        store(&mut cpu, &mut one, &rope, &every, 80);
        // Another pool, full of other rows, in which the pages lie elsewhere.
        let mut two = cpu.pages(layout(7, head_dim, format)).unwrap();
        store(&mut cpu, &mut two, &rope, &(0..224).map(|slot| (slot, 3)).collect::<Vec<_>>(), 81);
        for (from, to) in [(0, 5), (1, 2), (2, 6)] {
            let bytes = page(&mut cpu, &one, from);
            cpu.write_page(&mut two, to, &bytes).unwrap();
            assert_eq!(page(&mut cpu, &two, to), bytes);
        }
        let q = filled(&mut cpu, 4 * head_dim, &Random::new(82).floats(4 * head_dim));
        let mut attend = |kv: &Pages, table: [u32; 3]| {
            let row = Row { token: 0, position: 0, slot: NO_SLOT, sequence: 0, visible: 90 };
            let step =
                Step { rows: vec![row], sequences: vec![SequenceRows { pages: table.to_vec() }], ..Step::default() };
            let mut out = cpu.buf(1, 4 * head_dim, Precision::Half).unwrap();
            cpu.run(&step, None, &mut |cpu| cpu.attend(&mut out, &q, kv, 2, a, None)).unwrap();
            out.data
        };
        let expected = attend(&one, [0, 1, 2]);
        assert_eq!(attend(&two, [5, 2, 6]), expected);
        assert_ne!(attend(&two, [5, 2, 3]), expected);
    }
}

#[test]
fn slots_and_pages_that_are_not_there_are_refused() {
    let mut cpu = Cpu::new(2).unwrap();
    let mut kv = cpu.pages(layout(2, 16, KvFormat::Q8)).unwrap();
    let rope = rope(&mut cpu, Pairing::Halves, 16, 16);
    let bytes = kv.0.layout.portable_bytes();
    let is = |result: Result<()>, word: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    is(cpu.shift(&mut kv, 0, &rope, &[3, 64], 1), "below 64");
    is(cpu.shift(&mut kv, 0, &rope, &[NO_SLOT], 1), "below 64");
    is(cpu.copy_rows(&mut kv, &[0, NO_SLOT], &[1, 2]), "below 64");
    is(cpu.copy_rows(&mut kv, &[0, 1], &[1, 64]), "below 64");
    is(cpu.copy_rows(&mut kv, &[0, 1], &[1]), "as many");
    is(cpu.read_page(&kv, 2, &mut vec![0; bytes]), "below 2");
    is(cpu.read_page(&kv, 0, &mut vec![0; bytes - 1]), "bytes of a page");
    is(cpu.write_page(&mut kv, u32::MAX, &vec![0; bytes]), "below 2");
    is(cpu.write_page(&mut kv, 1, &vec![0; bytes + 1]), "bytes of a page");
    is(cpu.write_page(&mut kv, 1, &[]), "bytes of a page");
    // Any bytes are a page: what they stand for may be no number, but nothing breaks.
    cpu.write_page(&mut kv, 1, &vec![0xff; bytes]).unwrap();
    assert_eq!(page(&mut cpu, &kv, 1), vec![0xff; bytes]);
    cpu.shift(&mut kv, 0, &rope, &[32, 40], i32::MIN).unwrap();
    assert_eq!(page(&mut cpu, &kv, 0), vec![0; bytes]);
}
