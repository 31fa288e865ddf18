//! A backend that computes nothing and writes down what it was asked: the block program of a model, as text.
//!
//! Tests read the text by eye once and compare it ever after, so that a change of a program is seen.

use crate::Step;
use crate::{
    After, Attend, Backend, Candidate, Experts, Format, HostTensor, Linear, Norm, PageLayout, Precision, Result, Rope,
    Rows,
};
use std::cell::Cell;

/// The backend. Buffers and weights are their own descriptions.
#[derive(Default)]
pub struct Trace {
    lines: Vec<String>,
    bufs: Cell<usize>,
}

/// A buffer: its number and shape.
pub struct TraceBuf {
    name: String,
    first: f32,
}

impl Trace {
    /// What was asked since the last call, one line per operation.
    pub fn take(&mut self) -> String {
        let mut text = std::mem::take(&mut self.lines).join("\n");
        text.push('\n');
        text
    }

    fn norm(norm: &Norm<Self>) -> String {
        let bias = if norm.bias.is_some() { " + bias" } else { "" };
        format!("{:?} norm {}{bias} eps {:e}", norm.kind, norm.weight.name, norm.eps)
    }
}

impl Backend for Trace {
    type Buf = TraceBuf;
    type Weight = String;
    type Pages = PageLayout;
    type Mixture = Experts<Self>;

    fn buf(&self, rows: usize, cols: usize, _precision: Precision) -> Result<TraceBuf> {
        let number = self.bufs.get();
        self.bufs.set(number + 1);
        Ok(TraceBuf { name: format!("b{number}[{rows}x{cols}]"), first: 0.0 })
    }

    fn weight(&self, parts: &[HostTensor<'_>]) -> Result<String> {
        let part = |p: &HostTensor<'_>| format!("{}:{}[{}x{}]", p.name, p.format, p.rows, p.cols);
        Ok(parts.iter().map(part).collect::<Vec<_>>().join("|"))
    }

    fn weight_bytes(format: Format, rows: usize, cols: usize) -> usize {
        format.row_bytes(cols).unwrap_or(0) * rows
    }

    fn mixture(&self, experts: Experts<Self>) -> Result<Experts<Self>> {
        Ok(experts)
    }

    fn pages(&self, layout: PageLayout) -> Result<PageLayout> {
        Ok(layout)
    }

    fn page_bytes(layout: &PageLayout) -> usize {
        layout.page_bytes()
    }

    fn write(&mut self, buf: &mut TraceBuf, values: &[f32]) -> Result<()> {
        buf.first = values.first().copied().unwrap_or(0.0);
        Ok(())
    }

    fn run(&mut self, step: &Step, _program: Option<u32>, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.lines.push(format!("run {} rows, {} logits", step.rows.len(), step.logits.len()));
        body(self)
    }

    fn read<'a>(&'a mut self, _buf: &'a TraceBuf, _rows: usize) -> Result<&'a [f32]> {
        Ok(&[])
    }

    fn picks(&mut self, _ago: usize) -> Result<&[Candidate]> {
        Ok(&[])
    }

    fn embed(&mut self, x: &mut TraceBuf, table: &String, scale: f32, shelf: Option<&TraceBuf>) -> Result<()> {
        let shelf = shelf.map_or(String::new(), |shelf| format!(" or a row of {}", shelf.name));
        self.lines.push(format!("embed {} = {scale} * {table}{shelf}", x.name));
        Ok(())
    }

    fn linear(
        &mut self,
        out: &mut TraceBuf,
        x: &TraceBuf,
        norm: Option<&Norm<Self>>,
        w: &Linear<Self>,
        after: After,
        rows: Rows,
    ) -> Result<()> {
        let bias = w.bias.as_ref().map_or(String::new(), |b| format!(" + {}", b.name));
        let norm = norm.map_or(String::new(), |norm| format!("{} of ", Self::norm(norm)));
        let rows = if rows == Rows::Logits { ", logits rows" } else { "" };
        let line = format!("linear {} {after:?} {} * {}{}{bias}{rows}", out.name, w.weight, norm, x.name);
        self.lines.push(line);
        Ok(())
    }

    fn experts(
        &mut self,
        x: &mut TraceBuf,
        h: &mut TraceBuf,
        norm: Option<&Norm<Self>>,
        logits: &TraceBuf,
        e: &Experts<Self>,
    ) -> Result<()> {
        let count = e.up.len();
        let of = |up: &String, down: &String| format!("{down} * Glu({:?}) {up}", e.act);
        let last = |all: &[String], bias: &Option<TraceBuf>| {
            let bias = bias.as_ref().map_or(String::new(), |bias| format!(" + of {}", bias.name));
            all.last().cloned().unwrap_or_default() + &bias
        };
        let factors = if e.normalize { "factors sum to 1" } else { "shares of softmax" };
        let norm = norm.map_or(String::new(), |norm| format!("{} of ", Self::norm(norm)));
        let shared = e.shared.as_ref().map_or(String::new(), |(up, down)| format!(", shared {}", of(up, down)));
        self.lines.push(format!(
            "experts {} Add {} of {count} by {}, {factors}, the last {}{shared} * {norm}it, through {}",
            x.name,
            e.chosen,
            logits.name,
            of(&last(&e.up, &e.up_bias), &last(&e.down, &e.down_bias)),
            h.name
        ));
        Ok(())
    }

    fn norm(&mut self, out: &mut TraceBuf, x: &TraceBuf, norm: &Norm<Self>, after: After) -> Result<()> {
        self.lines.push(format!("norm {} {after:?} {} of {}", out.name, Self::norm(norm), x.name));
        Ok(())
    }

    fn softcap(&mut self, x: &mut TraceBuf, cap: f32) -> Result<()> {
        self.lines.push(format!("softcap {} at {cap}, logits rows", x.name));
        Ok(())
    }

    fn rope_store(
        &mut self,
        q: &mut TraceBuf,
        qkv: &TraceBuf,
        _kv: &mut PageLayout,
        layer: usize,
        rope: &Rope<Self>,
    ) -> Result<()> {
        let Rope { pairing, dims, factor, heads, kv_heads, head_dim, frequencies, q_norm, k_norm, whole_norms } = rope;
        let by = if *whole_norms { "whole by" } else { "by" };
        let [q_norm, k_norm] = [("q", q_norm), ("k", k_norm)]
            .map(|(of, norm)| norm.as_ref().map_or(String::new(), |norm| format!(", {of} {by} {}", Self::norm(norm))));
        self.lines.push(format!(
            "rope_store layer {layer}: {} from {}, {heads}|{kv_heads}|{kv_heads} heads of {head_dim}, {dims} turn {pairing:?} by {} from {} factor {factor}{q_norm}{k_norm}",
            q.name, qkv.name, frequencies.name, frequencies.first
        ));
        Ok(())
    }

    fn attend(
        &mut self,
        out: &mut TraceBuf,
        q: &TraceBuf,
        _kv: &PageLayout,
        layer: usize,
        a: Attend,
        sinks: Option<&TraceBuf>,
    ) -> Result<()> {
        let sinks = sinks.map_or(String::new(), |sinks| format!(" sinks {}", sinks.name));
        self.lines.push(format!("attend layer {layer}: {} from {} {}{sinks}", out.name, q.name, options(a)));
        Ok(())
    }

    fn attend_all(&mut self, out: &mut TraceBuf, qkv: &TraceBuf, a: Attend) -> Result<()> {
        let Attend { heads, kv_heads, head_dim, .. } = a;
        let split = format!("{heads}|{kv_heads}|{kv_heads} heads of {head_dim}");
        self.lines.push(format!("attend_all {} from {}, {split}, {}", out.name, qkv.name, options(a)));
        Ok(())
    }

    fn pick(&mut self, logits: &TraceBuf) -> Result<()> {
        self.lines.push(format!("pick from {}", logits.name));
        Ok(())
    }

    fn shift(&mut self, _kv: &mut PageLayout, layer: usize, rope: &Rope<Self>, slots: &[u32], by: i32) -> Result<()> {
        let (n, dims, pairing) = (slots.len(), rope.dims, rope.pairing);
        self.lines.push(format!(
            "shift layer {layer}: {n} rows by {by}, {dims} turn {pairing:?} by {}",
            rope.frequencies.name
        ));
        Ok(())
    }

    fn copy_rows(&mut self, _kv: &mut PageLayout, from: &[u32], to: &[u32]) -> Result<()> {
        self.lines.push(format!("copy_rows {from:?} to {to:?}"));
        Ok(())
    }

    fn read_page(&mut self, _kv: &PageLayout, page: u32, into: &mut [u8]) -> Result<()> {
        self.lines.push(format!("read_page {page}"));
        into.fill(0);
        Ok(())
    }

    fn write_page(&mut self, _kv: &mut PageLayout, page: u32, _from: &[u8]) -> Result<()> {
        self.lines.push(format!("write_page {page}"));
        Ok(())
    }
}

/// What an attention is asked for besides its shape.
fn options(a: Attend) -> String {
    let window = a.window.map_or("all".to_string(), |w| w.to_string());
    let cap = a.softcap.map_or(String::new(), |cap| format!(" softcap {cap}"));
    format!("scale {} window {window}{cap}", a.scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KvFormat, NormKind, Pairing};

    #[test]
    fn every_operation_is_written_down() {
        let mut trace = Trace::default();
        let mut bufs = (0..9).map(|_| trace.buf(2, 4, Precision::Full).unwrap());
        let mut next = || bufs.next().unwrap();
        let norm = |weight, bias| Norm::<Trace> { kind: NormKind::Rms, weight, bias, eps: 1e-6 };
        let (mut x, mut y, plain) = (next(), next(), norm(next(), Some(next())));
        let (q_norm, k_norm, frequencies) = (Some(norm(next(), None)), Some(norm(next(), None)), next());
        let mut h = next();
        let (pairing, dims, factor, heads, kv_heads, head_dim) = (Pairing::Halves, 2, 1.0, 2, 1, 4);
        let whole_norms = true;
        let rope = Rope { pairing, dims, factor, heads, kv_heads, head_dim, frequencies, q_norm, k_norm, whole_norms };
        let a = Attend { heads, kv_heads, head_dim, scale: 0.5, window: Some(8), softcap: Some(50.0) };
        let format = KvFormat::F32;
        let mut kv = trace.pages(PageLayout { pages: 1, layers: 1, kv_heads, head_dim, format }).unwrap();
        let table = "table".to_string();
        let mut page = vec![1; kv.portable_bytes()];
        let weights = |name: &str| vec!["other".to_string(), name.to_string()];
        let shared = Some(("both".to_string(), "back".to_string()));
        let (up, down) = (weights("up"), weights("down"));
        let (up_bias, down_bias) = (Some(next()), None);
        let act = crate::Act::Silu;
        let experts = Experts { up, down, shared, act, up_bias, down_bias, chosen: 1, normalize: true };
        trace
            .run(&Step::default(), Some(1), &mut |t| {
                t.embed(&mut x, &table, 2.0, Some(&y))?;
                t.norm(&mut y, &x, &plain, After::Add)?;
                t.experts(&mut x, &mut h, Some(&plain), &y, &experts)?;
                t.rope_store(&mut y, &x, &mut kv, 0, &rope)?;
                t.attend(&mut y, &x, &kv, 0, a, Some(&plain.weight))?;
                t.attend_all(&mut y, &x, Attend { window: None, softcap: None, ..a })?;
                t.softcap(&mut y, 30.0)?;
                t.pick(&y)
            })
            .unwrap();
        trace.shift(&mut kv, 0, &rope, &[1, 2], -4).unwrap();
        trace.copy_rows(&mut kv, &[1], &[2]).unwrap();
        trace.read_page(&kv, 0, &mut page).unwrap();
        trace.write_page(&mut kv, 0, &page).unwrap();
        let expected = "\
run 0 rows, 0 logits
embed b0[2x4] = 2 * table or a row of b1[2x4]
norm b1[2x4] Add Rms norm b2[2x4] + bias eps 1e-6 of b0[2x4]
experts b0[2x4] Add 1 of 2 by b1[2x4], factors sum to 1, the last down * Glu(Silu) up + of b8[2x4], shared back * Glu(Silu) both * Rms norm b2[2x4] + bias eps 1e-6 of it, through b7[2x4]
rope_store layer 0: b1[2x4] from b0[2x4], 2|1|1 heads of 4, 2 turn Halves by b6[2x4] from 0 factor 1, q whole by Rms norm b4[2x4] eps 1e-6, k whole by Rms norm b5[2x4] eps 1e-6
attend layer 0: b1[2x4] from b0[2x4] scale 0.5 window 8 softcap 50 sinks b2[2x4]
attend_all b1[2x4] from b0[2x4], 2|1|1 heads of 4, scale 0.5 window all
softcap b1[2x4] at 30, logits rows
pick from b1[2x4]
shift layer 0: 2 rows by -4, 2 turn Halves by b6[2x4]
copy_rows [1] to [2]
read_page 0
write_page 0
";
        assert_eq!(trace.take(), expected);
    }
}
