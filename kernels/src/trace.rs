//! A backend that computes nothing and writes down what it was asked: the block program of a model, as text.
//!
//! Tests read the text by eye once and compare it ever after, so that a change of a program is seen.

use crate::{After, Attend, Backend, Format, HostTensor, Linear, Norm, PageLayout, Result, Rope, Rows, Step};
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

    fn norm(norm: Option<&Norm<Self>>) -> String {
        let Some(norm) = norm else { return String::new() };
        let bias = if norm.bias.is_some() { " + bias" } else { "" };
        format!("{:?} norm {}{bias} eps {:e} of ", norm.kind, norm.weight.name, norm.eps)
    }
}

impl Backend for Trace {
    type Buf = TraceBuf;
    type Weight = String;
    type Pages = PageLayout;

    fn buf(&self, rows: usize, cols: usize) -> Result<TraceBuf> {
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

    fn pages(&self, layout: PageLayout) -> Result<PageLayout> {
        Ok(layout)
    }

    fn write(&mut self, buf: &mut TraceBuf, values: &[f32]) -> Result<()> {
        buf.first = values.first().copied().unwrap_or(0.0);
        Ok(())
    }

    fn run(&mut self, step: &Step, body: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.lines.push(format!("run {} rows, {} logits", step.rows.len(), step.logits.len()));
        body(self)
    }

    fn read<'a>(&'a mut self, _buf: &'a TraceBuf, _rows: usize) -> Result<&'a [f32]> {
        Ok(&[])
    }

    fn embed(&mut self, x: &mut TraceBuf, table: &String, scale: f32) -> Result<()> {
        self.lines.push(format!("embed {} = {scale} * {table}", x.name));
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
        let rows = if rows == Rows::Logits { ", logits rows" } else { "" };
        let line = format!("linear {} {after:?} {} * {}{}{bias}{rows}", out.name, w.weight, Self::norm(norm), x.name);
        self.lines.push(line);
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
        let Rope { pairing, dims, factor, heads, kv_heads, head_dim, frequencies } = rope;
        self.lines.push(format!(
            "rope_store layer {layer}: {} from {}, {heads}|{kv_heads}|{kv_heads} heads of {head_dim}, {dims} turn {pairing:?} by {} from {} factor {factor}",
            q.name, qkv.name, frequencies.name, frequencies.first
        ));
        Ok(())
    }

    fn attend(&mut self, out: &mut TraceBuf, q: &TraceBuf, _kv: &PageLayout, layer: usize, a: Attend) -> Result<()> {
        let window = a.window.map_or("all".to_string(), |w| w.to_string());
        self.lines
            .push(format!("attend layer {layer}: {} from {} scale {} window {window}", out.name, q.name, a.scale));
        Ok(())
    }
}
