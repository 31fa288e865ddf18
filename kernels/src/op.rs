//! The options that operations take. All are fixed when a model is loaded; what changes from step to step is in `Step`.

use crate::{Backend, PAGE_ROWS};

/// The widest head that backends take.
pub const MAX_HEAD_DIM: usize = 256;

/// How exactly a buffer must be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// float32: sums that grow over layers, logits, parameters.
    Full,
    /// Passed from one operation to the next; a backend may hold it in half precision.
    Half,
}

/// A matrix product's parameters: `out = W · x + b`.
pub struct Linear<B: Backend> {
    /// The matrix, outputs x inputs.
    pub weight: B::Weight,
    /// One row of as many values as the matrix has outputs.
    pub bias: Option<B::Buf>,
}

/// Which mean a normalisation takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// x / sqrt(mean(x²) + eps) · w
    Rms,
    /// (x − mean(x)) / sqrt(var(x) + eps) · w + b
    Layer,
}

/// A normalisation over the columns of a row.
pub struct Norm<B: Backend> {
    /// Root mean square or mean and variance.
    pub kind: NormKind,
    /// One row of factors.
    pub weight: B::Buf,
    /// One row of summands.
    pub bias: Option<B::Buf>,
    /// Added to the mean square.
    pub eps: f32,
}

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x · sigmoid(x)
    Silu,
    /// x · Φ(x), with the error function
    Gelu,
    /// x · Φ(x), with the tanh approximation
    GeluTanh,
    /// x · sigmoid(1.702 x), x at most 7; of a gate only. What it multiplies is held within ±7, then 1 is added.
    Clamped,
}

/// What a product does with what it computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// `out = y`
    Store,
    /// `out += y` (the residual stream)
    Add,
    /// `out = act(y)`
    Act(Act),
    /// The first half of `y` is the gate: `out[j] = act(y[j]) · y[n/2 + j]`
    Glu(Act),
}

/// Experts: gated MLPs of which each row goes through a few, which its logits choose.
pub struct Experts<B: Backend> {
    /// Gate and up of each expert, two equal parts.
    pub up: Vec<B::Weight>,
    /// Down of each expert; all are of one width.
    pub down: Vec<B::Weight>,
    /// (Up, down) of an expert that every row goes through. Its factor is the sigmoid of the logit after the others'.
    pub shared: Option<(B::Weight, B::Weight)>,
    /// Of the gates.
    pub act: Act,
    /// What is added to each expert's gates, then to its ups: one row for all experts, one after the other.
    pub up_bias: Option<B::Buf>,
    /// The same for down.
    pub down_bias: Option<B::Buf>,
    /// Experts that a row goes through; at most [`MAX_TOP_K`](crate::MAX_TOP_K).
    pub chosen: usize,
    /// Whether the factors of a row's experts are made to sum to 1; else they are shares of all experts' softmax.
    pub normalize: bool,
}

/// The products of a model, as far as what they need besides depends on it: see
/// [`Backend::room_bytes`](crate::Backend::room_bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Products {
    /// Rows of a step.
    pub rows: usize,
    /// The most inputs, those of experts aside.
    pub cols: usize,
    /// Threads of the host.
    pub threads: usize,
    /// Experts of a layer; 0 if there are none.
    pub experts: usize,
    /// Of which a row goes through so many.
    pub chosen: usize,
    /// Inputs and outputs of an expert.
    pub dim: usize,
    /// Its width.
    pub hidden: usize,
    /// That of the expert that every row goes through.
    pub shared: usize,
}

/// Which rows of a step an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every row.
    All,
    /// The rows in `Step::logits`, packed to the front of the output.
    Logits,
}

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// (i, i + dims/2)
    Halves,
    /// (2i, 2i + 1)
    Adjacent,
}

/// Rotary position embedding of q and k, and the split of the qkv row: q heads, then k heads, then v heads.
pub struct Rope<B: Backend> {
    /// Which values turn together.
    pub pairing: Pairing,
    /// How many leading values of a head turn; even. 0 turns none.
    pub dims: usize,
    /// dims/2 angular frequencies, radians per position.
    pub frequencies: B::Buf,
    /// Factor on cos and sin (1 unless a scaling asks for another).
    pub factor: f32,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Normalises q before it turns; one row of `head_dim` factors, which all heads share, or of each head's own.
    pub q_norm: Option<Norm<B>>,
    /// The same for k.
    pub k_norm: Option<Norm<B>>,
    /// Whether those norms are taken over all heads of q, or of k, together. Otherwise over each head.
    pub whole_norms: bool,
}

/// Attention over the cache of the row's own sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attend {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// Rows further back than this are not seen (the row itself counts). `None`: all are.
    pub window: Option<usize>,
    /// Scores become `cap · tanh(score / cap)`, after `scale`.
    pub softcap: Option<f32>,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum KvFormat {
    F32,
    F16,
    /// i8 with one f32 scale per row and head.
    Q8,
}

/// The shape of a page pool. A page holds [`PAGE_ROWS`] rows of every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Number of pages.
    pub pages: usize,
    /// Layers.
    pub layers: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// How each value is stored.
    pub format: KvFormat,
}

impl PageLayout {
    /// Values of a stored row of one head: `head_dim` rounded up to whole vectors of 16.
    pub fn width(&self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// Bytes that one page takes for one layer and KV head: keys, values and, for Q8, their scales.
    pub fn field_bytes(&self) -> usize {
        let values = PAGE_ROWS * (self.head_dim + self.width());
        match self.format {
            KvFormat::F32 => 4 * values,
            KvFormat::F16 => 2 * values,
            KvFormat::Q8 => values + 2 * PAGE_ROWS * 4,
        }
    }

    /// Bytes of one page over all layers.
    pub fn page_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.field_bytes()
    }

    /// Bytes of one page over all layers in the form that backends share.
    pub fn portable_bytes(&self) -> usize {
        let values = 2 * PAGE_ROWS * self.head_dim;
        let field = match self.format {
            KvFormat::F32 => 4 * values,
            KvFormat::F16 => 2 * values,
            KvFormat::Q8 => values + 2 * PAGE_ROWS * 4,
        };
        self.layers * self.kv_heads * field
    }

    /// Zeros the rows from `row` on of a page in that form: those that belong to nobody may hold what others left.
    pub fn clear_rows(&self, page: &mut [u8], row: usize) {
        let (scale, value) = match self.format {
            KvFormat::F32 => (0, 4),
            KvFormat::F16 => (0, 2),
            KvFormat::Q8 => (4, 1),
        };
        let values = self.head_dim * value;
        for half in page.chunks_exact_mut(PAGE_ROWS * (scale + values)) {
            let (scales, rows) = half.split_at_mut(PAGE_ROWS * scale);
            scales[row * scale..].fill(0);
            rows[row * values..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_belong_to_nobody_are_cleared() {
        for (format, scale, value) in [(KvFormat::F32, 0, 4), (KvFormat::F16, 0, 2), (KvFormat::Q8, 4, 1)] {
            let layout = PageLayout { pages: 1, layers: 2, kv_heads: 3, head_dim: 8, format };
            let mut page = vec![1; layout.portable_bytes()];
            layout.clear_rows(&mut page, PAGE_ROWS);
            assert!(page.iter().all(|&b| b == 1), "a full page has none");
            layout.clear_rows(&mut page, 5);
            let kept = page.iter().filter(|&&b| b == 1).count();
            assert_eq!(kept, 2 * 2 * 3 * 5 * (scale + 8 * value), "{format:?}");
            // Of the first keys: scales, then rows.
            assert_eq!(page.iter().take_while(|&&b| b == 1).count(), if scale > 0 { 20 } else { 5 * 8 * value });
            layout.clear_rows(&mut page, 0);
            assert!(page.iter().all(|&b| b == 0));
        }
    }
}
