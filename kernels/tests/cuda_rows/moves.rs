//! What happens to cached rows between steps: turned further, copied, taken to the host and back.

use super::rope::{frequencies, row, turn};
use super::{Portable, Random, assert_near, emulated, everywhere};
use nano_kernels::cpu::Cpu;
use nano_kernels::cuda::{Cuda, Driver, Pages};
use nano_kernels::{Backend, KvFormat, PAGE_ROWS, PageLayout, Pairing, Rope};

const FORMATS: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8];

fn layout(format: KvFormat, pages: usize, kv_heads: usize, head_dim: usize) -> PageLayout {
    PageLayout { pages, layers: 2, kv_heads, head_dim, format }
}

/// A pool in slabs of `slab_pages` pages, full of random rows; and those.
fn full<D: Driver>(cuda: &mut Cuda<D>, layout: PageLayout, slab_pages: usize) -> (Pages, Vec<Vec<u8>>) {
    let mut random = Random::new(layout.head_dim as u64);
    let mut kv = cuda.pages_in_slabs(layout, slab_pages * Cuda::<D>::page_bytes(&layout)).unwrap();
    let pages: Vec<Vec<u8>> = (0..layout.pages).map(|_| Portable(layout).random(&mut random)).collect();
    for (number, page) in pages.iter().enumerate() {
        cuda.write_page(&mut kv, number as u32, page).unwrap();
    }
    (kv, pages)
}

fn read<B: Backend>(b: &mut B, kv: &B::Pages, layout: PageLayout) -> Vec<Vec<u8>> {
    let page = |number| {
        let mut bytes = vec![0xee; layout.portable_bytes()];
        b.read_page(kv, number, &mut bytes).unwrap();
        bytes
    };
    (0..layout.pages as u32).map(page).collect()
}

#[test]
fn pages_come_back_as_they_went() {
    everywhere!(|cuda| {
        for (format, head_dim) in FORMATS.into_iter().flat_map(|f| [1, 16, 20, 80, 256].map(|d| (f, d))) {
            for slab_pages in [1, 2, 3, 8] {
                let layout = layout(format, 5, 3, head_dim);
                let (kv, pages) = full(cuda, layout, slab_pages);
                assert!(read(cuda, &kv, layout) == pages, "{format:?}, {head_dim} dims, slabs of {slab_pages}");
            }
            // Through the CPU's pool as well.
            let layout = layout(format, 2, 3, head_dim);
            let (mut kv, pages) = full(cuda, layout, 2);
            let mut cpu = Cpu::new(1).unwrap();
            let mut other = cpu.pages(layout).unwrap();
            for (number, page) in (0..).zip(read(cuda, &kv, layout)) {
                cpu.write_page(&mut other, number, &page).unwrap();
            }
            for (number, page) in (0..).zip(read(&mut cpu, &other, layout)) {
                cuda.write_page(&mut kv, 1 - number, &page).unwrap();
            }
            let found = read(cuda, &kv, layout);
            assert!(found[0] == pages[1] && found[1] == pages[0], "{format:?}, {head_dim} dims, by the CPU");
        }
        Vec::new()
    });
}

#[test]
fn pools_and_pages_that_cannot_be_are_errors() {
    everywhere!(|cuda| {
        let good = layout(KvFormat::Q8, 2, 1, 16);
        let refused = |layout, words: &str| {
            let error = cuda.pages(layout).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(PageLayout { format: KvFormat::F32, ..good }, "f16 or q8");
        refused(PageLayout { head_dim: 257, ..good }, "1 to 256");
        refused(PageLayout { head_dim: 0, ..good }, "1 to 256");
        refused(PageLayout { pages: 10_000_000, ..good }, "KV cache (10000000 pages of 2560 bytes)");
        refused(PageLayout { pages: usize::MAX, ..good }, "pages of the KV cache");
        refused(PageLayout { layers: 1 << 20, ..good }, "bytes of a page of the KV cache");
        let mut kv = cuda.pages(good).unwrap();
        let mut bytes = vec![0; good.portable_bytes()];
        assert!(cuda.read_page(&kv, 2, &mut bytes).unwrap_err().to_string().contains("below 2"));
        assert!(cuda.write_page(&mut kv, 2, &bytes).is_err());
        assert!(cuda.write_page(&mut kv, 0, &bytes[1..]).is_err());
        assert!(cuda.read_page(&kv, 0, &mut bytes[1..]).is_err());
        assert!(cuda.copy_rows(&mut kv, &[0, 1], &[2]).is_err());
        assert!(cuda.copy_rows(&mut kv, &[64], &[2]).unwrap_err().to_string().contains("below 64"));
        assert!(cuda.copy_rows(&mut kv, &[2], &[64]).is_err());
        cuda.copy_rows(&mut kv, &[], &[]).unwrap();
        let none = cuda.pages(PageLayout { pages: 0, ..good }).unwrap();
        assert!(cuda.read_page(&none, 0, &mut bytes).is_err());
        Vec::new()
    });
}

/// `to[i]` gets what `from[i]` held; of several rows for one slot the last one stays.
fn copied(layout: PageLayout, pages: &[Vec<u8>], from: &[u32], to: &[u32]) -> Vec<Vec<u8>> {
    let mut after = pages.to_vec();
    for (from, to) in from.iter().zip(to) {
        let ((from_page, from), (to_page, to)) = (place(*from), place(*to));
        Portable(layout).copy((&pages[from_page], from), (&mut after[to_page], to));
    }
    after
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_ROWS, slot as usize % PAGE_ROWS)
}

#[test]
fn rows_are_copied_as_if_all_were_read_first() {
    everywhere!(|cuda| {
        for (format, head_dim) in FORMATS.into_iter().flat_map(|f| [16, 20, 128].map(|d| (f, d))) {
            let layout = layout(format, 5, 2, head_dim);
            let (mut kv, mut pages) = full(cuda, layout, 2);
            let slots = 5 * PAGE_ROWS as u32;
            let mut random = Random::new(5);
            let shuffled = random.order(slots as usize);
            let lists: [(Vec<u32>, Vec<u32>); 7] = [
                ((1..slots).collect(), (0..slots - 1).collect()),
                ((0..slots - 5).collect(), (5..slots).collect()),
                ((0..slots).collect(), shuffled.clone()),
                (shuffled[..40].to_vec(), shuffled[20..60].to_vec()),
                (vec![7, 8], vec![8, 7]),
                (vec![1, 2, 3, 100], vec![9, 9, 100, 9]),
                (vec![3, 3, 3], vec![3, 64, 159]),
            ];
            for (number, (from, to)) in lists.iter().enumerate() {
                cuda.copy_rows(&mut kv, from, to).unwrap();
                pages = copied(layout, &pages, from, to);
                assert!(read(cuda, &kv, layout) == pages, "{format:?}, {head_dim} dims, list {number}");
            }
        }
        Vec::new()
    });
}

/// More rows than there is room for at first, and more pieces than fit the room at once.
#[test]
fn many_rows_are_copied() {
    emulated(|cuda| {
        let layout = layout(KvFormat::F16, 150, 2, 128);
        let (mut kv, pages) = full(cuda, layout, 64);
        for n in [100u32, 4799] {
            let (from, to): (Vec<u32>, Vec<u32>) = ((1..=n).collect(), (0..n).collect());
            cuda.copy_rows(&mut kv, &from, &to).unwrap();
            let expected = copied(layout, &pages, &from, &to);
            assert!(read(cuda, &kv, layout) == expected, "{n} rows");
            for (number, page) in pages.iter().enumerate() {
                cuda.write_page(&mut kv, number as u32, page).unwrap();
            }
        }
        Vec::new()
    });
}

fn shifts<D: Driver>(cuda: &mut Cuda<D>) -> Vec<f32> {
    let mut seen = Vec::new();
    let shapes = [(16, 16), (20, 8), (64, 64), (80, 32), (128, 128), (256, 256), (256, 62)];
    for (number, (head_dim, dims)) in shapes.into_iter().enumerate() {
        for (format, by) in FORMATS.into_iter().flat_map(|f| [(f, -3i32), (f, 4095), (f, -1000000)]) {
            let kv_heads = [1, 5, 2][number % 3];
            let layout = layout(format, 3, kv_heads, head_dim);
            let (mut kv, before) = full(cuda, layout, 2);
            let frequencies = frequencies(dims);
            let pairing = if number % 2 == 0 { Pairing::Adjacent } else { Pairing::Halves };
            let rope = Rope {
                pairing,
                dims,
                frequencies: row(cuda, &frequencies),
                // Not for keys that are turned already.
                factor: 1.5,
                heads: kv_heads,
                kv_heads,
                head_dim,
                q_norm: None,
                k_norm: None,
                whole_norms: false,
            };
            // One slot twice: it turns twice.
            let slots = [0u32, 5, 31, 32, 77, 95, 5];
            cuda.shift(&mut kv, 1, &rope, &slots, by).unwrap();
            let after = read(cuda, &kv, layout);
            let portable = Portable(layout);
            for (slot, index) in (0..3 * PAGE_ROWS as u32).flat_map(|s| (0..2 * kv_heads).map(move |i| (s, i))) {
                let (page, row) = place(slot);
                let times = if index >= kv_heads { slots.iter().filter(|s| **s == slot).count() } else { 0 };
                let of = |pages: &[Vec<u8>], which| portable.values(&pages[page], index, which, row);
                assert_eq!(of(&before, 1), of(&after, 1), "values stay");
                let ((old, _), (new, scale)) = (of(&before, 0), of(&after, 0));
                if times == 0 {
                    assert_eq!((old, scale), (new, of(&before, 0).1), "keys that were not named stay");
                    continue;
                }
                let mut exact: Vec<f64> = old.iter().map(|v| *v as f64).collect();
                (0..times).for_each(|_| turn(&mut exact, by as f32, &frequencies, 1.0, pairing));
                let most = exact.iter().fold(0f64, |m, v| m.max(v.abs()));
                if format == KvFormat::Q8 && times == 1 {
                    assert!((scale as f64 * 127.0 - most).abs() <= 4e-6 * most, "scale {scale} for {most}");
                }
                // Each turn rounds once.
                let error =
                    3e-6 * most + if times == 1 { 0.5001 * scale as f64 } else { 1.5 * scale as f64 + most / 1024.0 };
                for (e, (new, exact)) in new.iter().zip(&exact).enumerate() {
                    let what = format!("{format:?}, {dims} of {head_dim} dims, by {by}, slot {slot}, dim {e}");
                    assert_near(*new, *exact, error, format == KvFormat::F16, &what);
                }
            }
            let unchanged = after.clone();
            cuda.shift(&mut kv, 0, &rope, &slots, 0).unwrap();
            assert!(read(cuda, &kv, layout) == unchanged, "by nothing");
            assert!(cuda.shift(&mut kv, 0, &rope, &[96], 1).is_err(), "a slot past the pool");
            seen.extend(after.concat().into_iter().map(f32::from));
        }
    }
    seen
}

#[test]
fn keys_are_turned_further() {
    everywhere!(shifts);
}
