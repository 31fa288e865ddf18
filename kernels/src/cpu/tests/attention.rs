//! `rope_store` and `attend` together, fed in steps of any size; `attend_all`.

use super::*;

/// Everything that one test of attention is about.
#[derive(Clone)]
struct Case {
    a: Attend,
    pairing: Pairing,
    format: KvFormat,
    qkv: Vec<f32>,
    /// Factors of the norms of q and k: of one head, or of all.
    norms: Option<(Vec<f32>, Vec<f32>)>,
    whole_norms: bool,
    /// Of each head.
    sinks: Option<Vec<f32>>,
}

const EPS: f32 = 1e-3;

impl Case {
    fn new(random: &mut Random, a: Attend, rows: usize) -> Case {
        let qkv = random.floats(rows * (a.heads + 2 * a.kv_heads) * a.head_dim);
        Case { a, pairing: Pairing::Halves, format: KvFormat::F32, qkv, norms: None, whole_norms: false, sinks: None }
    }

    fn widths(&self) -> (usize, usize) {
        (self.a.heads * self.a.head_dim, (self.a.heads + 2 * self.a.kv_heads) * self.a.head_dim)
    }

    fn dims(&self) -> usize {
        self.a.head_dim / 4 * 2
    }

    fn rope(&self, cpu: &mut Cpu) -> Rope<Cpu> {
        let values: Vec<f32> = (0..self.dims() / 2).map(|i| 10f32.powi(-(i as i32))).collect();
        let a = self.a;
        let mut norm =
            |w: &Vec<f32>| Norm { kind: NormKind::Rms, weight: filled(cpu, w.len(), w), bias: None, eps: EPS };
        let (q_norm, k_norm) = self.norms.as_ref().map(|(q, k)| (norm(q), norm(k))).unzip();
        Rope {
            pairing: self.pairing,
            dims: self.dims(),
            frequencies: filled(cpu, self.dims() / 2, &values),
            factor: 1.0,
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            q_norm,
            k_norm,
            whole_norms: self.whole_norms,
        }
    }
}

/// A model of attention's surroundings: feeds the rows of a case in steps of the given sizes, returns all outputs.
fn attention(isa: Isa, threads: usize, sizes: &[usize], case: &Case) -> Vec<f32> {
    let mut cpu = Cpu::with_isa(threads, isa).unwrap();
    let (a, format) = (case.a, case.format);
    let total: usize = sizes.iter().sum();
    let pages = total.div_ceil(PAGE_ROWS);
    let layout = PageLayout { pages: pages + 2, layers: 2, kv_heads: a.kv_heads, head_dim: a.head_dim, format };
    let mut kv = cpu.pages(layout).unwrap();
    let (q_width, width) = case.widths();
    let rope = case.rope(&mut cpu);
    // Pages in reverse order: a table that is not the identity.
    let table: Vec<u32> = (0..pages as u32).rev().collect();
    let sinks = case.sinks.as_ref().map(|sinks| filled(&mut cpu, a.heads, sinks));
    let mut outputs = Vec::new();
    let mut from = 0;
    for &n in sizes {
        let row = |i: usize| Row {
            token: 0,
            position: i as u32,
            slot: table[i / PAGE_ROWS] * PAGE_ROWS as u32 + (i % PAGE_ROWS) as u32,
            sequence: 0,
            visible: i as u32 + 1,
        };
        let step = Step {
            rows: (from..from + n).map(row).collect(),
            sequences: vec![SequenceRows { pages: table.clone() }],
            ..Step::default()
        };
        let x = filled(&mut cpu, width, &case.qkv[from * width..(from + n) * width]);
        let [mut q, mut out] = [0; 2].map(|_| cpu.buf(n, q_width, Precision::Half).unwrap());
        cpu.run(&step, None, &mut |cpu| {
            cpu.rope_store(&mut q, &x, &mut kv, 1, &rope)?;
            cpu.attend(&mut out, &q, &kv, 1, a, sinks.as_ref())
        })
        .unwrap();
        outputs.extend_from_slice(&out.data);
        from += n;
    }
    outputs
}

/// softmax(scores) · V for one query, in double precision.
fn weigh(scores: &[f64], sink: Option<f32>, values: impl Iterator<Item = Vec<f64>>, head_dim: usize) -> Vec<f64> {
    let sink = sink.map_or(f64::NEG_INFINITY, f64::from);
    let most = scores.iter().cloned().fold(sink, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = weights.iter().sum::<f64>() + (sink - most).exp();
    let mut o = vec![0.0; head_dim];
    for (v, w) in values.zip(&weights) {
        o.iter_mut().zip(v).for_each(|(o, v)| *o += w / sum * v);
    }
    o
}

fn score(q: &[f64], k: &[f64], a: Attend) -> f64 {
    let s = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * a.scale as f64;
    a.softcap.map_or(s, |cap| cap as f64 * (s / cap as f64).tanh())
}

fn exact_attention(case: &Case, rows: usize) -> Vec<f64> {
    let a = case.a;
    let (q_width, width) = case.widths();
    let dims = case.dims();
    let values = |row: usize, offset: usize| -> Vec<f64> {
        case.qkv[row * width + offset..][..a.head_dim].iter().map(|x| *x as f64).collect()
    };
    // Head `h` of those that begin at `offset`.
    let head = |row: usize, offset: usize, h: usize, heads: usize, factors: Option<&Vec<f32>>| -> Vec<f64> {
        let mut x = values(row, offset + h * a.head_dim);
        if let Some(factors) = factors {
            let over: Vec<f64> = match case.whole_norms {
                true => (0..heads).flat_map(|h| values(row, offset + h * a.head_dim)).collect(),
                false => x.clone(),
            };
            let square = over.iter().map(|x| x * x).sum::<f64>() / over.len() as f64;
            let factors = factors.chunks(a.head_dim).cycle().nth(h).unwrap();
            x.iter_mut().zip(factors).for_each(|(x, w)| *x = *x / (square + EPS as f64).sqrt() * *w as f64);
        }
        let mut y = x.clone();
        for i in 0..dims / 2 {
            let angle = row as f64 * 10f64.powi(-(i as i32));
            let (p, q) = if case.pairing == Pairing::Halves { (i, i + dims / 2) } else { (2 * i, 2 * i + 1) };
            y[p] = x[p] * angle.cos() - x[q] * angle.sin();
            y[q] = x[q] * angle.cos() + x[p] * angle.sin();
        }
        y
    };
    let norms = case.norms.as_ref();
    let mut out = Vec::new();
    for row in 0..rows {
        for h in 0..a.heads {
            let kv = h / (a.heads / a.kv_heads);
            let q = head(row, 0, h, a.heads, norms.map(|n| &n.0));
            let first = a.window.map_or(0, |w| (row + 1).saturating_sub(w));
            let key = |i: usize| head(i, q_width, kv, a.kv_heads, norms.map(|n| &n.1));
            let scores: Vec<f64> = (first..=row).map(|i| score(&q, &key(i), a)).collect();
            let v = (first..=row).map(|i| values(i, q_width + (a.kv_heads + kv) * a.head_dim));
            out.extend(weigh(&scores, case.sinks.as_ref().map(|sinks| sinks[h]), v, a.head_dim));
        }
    }
    out
}

#[test]
fn attention_is_near_the_exact_one_and_equal_however_it_is_fed() {
    let mut random = Random::new(5);
    let shapes = [
        Attend { heads: 6, kv_heads: 2, head_dim: 20, scale: 0.2, window: None, softcap: None },
        Attend { heads: 3, kv_heads: 3, head_dim: 64, scale: 0.125, window: Some(40), softcap: None },
        Attend { heads: 5, kv_heads: 1, head_dim: 48, scale: 0.15, window: Some(300), softcap: None },
        Attend { heads: 4, kv_heads: 2, head_dim: 24, scale: 0.7, window: None, softcap: Some(1.5) },
    ];
    for (n, a) in shapes.into_iter().enumerate() {
        let mut case = Case::new(&mut random, a, 600);
        if n % 2 == 1 {
            case.norms = Some((random.floats(a.head_dim), random.floats(a.head_dim)));
            case.pairing = Pairing::Adjacent;
        }
        if n >= 2 {
            case.norms = Some((random.floats(a.heads * a.head_dim), random.floats(a.kv_heads * a.head_dim)));
            case.whole_norms = n == 2;
        }
        if n != 1 {
            // From far below every score to far above.
            case.sinks = Some(random.floats(a.heads).iter().map(|s| 8.0 * s).collect());
        }
        let exact = exact_attention(&case, 600);
        for (format, limit) in [(KvFormat::F32, 1e-10), (KvFormat::F16, 1e-6), (KvFormat::Q8, 1e-3)] {
            case.format = format;
            let scalar = attention(Isa::Scalar, 1, &[600], &case);
            let e = error(&scalar, &exact);
            assert!(e < limit, "{a:?} {format:?}: error {e:e}");
            let mut single = vec![500, 17, 1];
            single.extend([1; 82]);
            for isa in Isa::available() {
                for (threads, sizes) in [(1, &[600][..]), (2, &[255, 2, 43, 300]), (3, &single)] {
                    let y = attention(isa, threads, sizes, &case);
                    assert_eq!(y, scalar, "{} {format:?} {a:?} {} steps", isa.name(), sizes.len());
                }
            }
        }
    }
}

/// Encoders: sequences of the given lengths in one step.
fn all(cpu: &mut Cpu, lengths: &[usize], qkv: &[f32], a: Attend) -> Vec<f32> {
    let (q_width, width) = (a.heads * a.head_dim, (a.heads + 2 * a.kv_heads) * a.head_dim);
    let row = |sequence, i| Row { token: 0, position: i as u32, slot: NO_SLOT, sequence: sequence as u32, visible: 0 };
    let rows = lengths.iter().enumerate().flat_map(|(s, n)| (0..*n).map(move |i| row(s, i))).collect();
    let step = Step { rows, sequences: vec![SequenceRows::default(); lengths.len()], ..Step::default() };
    let x = filled(cpu, width, qkv);
    let n = step.rows.len();
    let mut out = filled(cpu, q_width, &vec![GUARD; (n + 1) * q_width]);
    cpu.run(&step, None, &mut |cpu| cpu.attend_all(&mut out, &x, a)).unwrap();
    let (y, guard) = out.data.split_at(n * q_width);
    assert!(guard.iter().all(|g| *g == GUARD), "a store past the last row");
    y.to_vec()
}

#[test]
fn every_row_of_an_encoder_sees_all_rows_of_its_sequence() {
    let mut random = Random::new(8);
    for (heads, kv_heads, head_dim, softcap) in [(6, 2, 20, None), (3, 3, 64, Some(0.8)), (4, 1, 32, None)] {
        let a = Attend { heads, kv_heads, head_dim, scale: 0.3, window: None, softcap };
        let width = (heads + 2 * kv_heads) * head_dim;
        let lengths = [1, 33, 300, 7, 64];
        let qkv = random.floats(lengths.iter().sum::<usize>() * width);
        let part = |row: usize, head: usize| -> Vec<f64> {
            qkv[row * width + head * head_dim..][..head_dim].iter().map(|x| *x as f64).collect()
        };
        let (mut exact, mut first) = (Vec::new(), 0);
        for n in lengths {
            for (row, h) in (first..first + n).flat_map(|row| (0..heads).map(move |h| (row, h))) {
                let kv = h / (heads / kv_heads);
                let q = part(row, h);
                let scores: Vec<f64> = (first..first + n).map(|i| score(&q, &part(i, heads + kv), a)).collect();
                exact.extend(weigh(
                    &scores,
                    None,
                    (first..first + n).map(|i| part(i, heads + kv_heads + kv)),
                    head_dim,
                ));
            }
            first += n;
        }
        let scalar = all(&mut Cpu::with_isa(1, Isa::Scalar).unwrap(), &lengths, &qkv, a);
        let e = error(&scalar, &exact);
        assert!(e < 1e-10, "{a:?}: error {e:e}");
        for isa in Isa::available() {
            for threads in [1, 2, 3] {
                let mut cpu = Cpu::with_isa(threads, isa).unwrap();
                // What an earlier step left behind, of other lengths and shapes, is not seen.
                all(&mut cpu, &[5], &[1.0; 5 * 3 * 8], Attend { heads: 1, kv_heads: 1, head_dim: 8, ..a });
                all(&mut cpu, &[40, 90], &vec![f32::NAN; 130 * width], a);
                all(&mut cpu, &[500], &vec![f32::NAN; 500 * width], a);
                assert_eq!(all(&mut cpu, &lengths, &qkv, a), scalar, "{} {threads} threads {a:?}", isa.name());
            }
        }
        // A sequence on its own gives the same bits, and no rows give none.
        let mut cpu = Cpu::new(2).unwrap();
        let (at, n) = (34, 300);
        let alone = all(&mut cpu, &[n], &qkv[at * width..(at + n) * width], a);
        assert_eq!(alone, scalar[at * heads * head_dim..(at + n) * heads * head_dim]);
        assert!(all(&mut cpu, &[], &[], a).is_empty());
    }
}
