//! Token embedding: the launcher of `cuda/embed.cu`.

use super::driver::{Arg, Driver};
use super::weight::Kind;
use super::{Buf, Cuda, Weight};
use crate::{Error, Result};

fn kernel(kind: Kind) -> &'static str {
    match kind {
        Kind::F16 => "embed_f16",
        Kind::Q8 => "embed_q8",
        Kind::Q4 => "embed_q4",
        Kind::Q4M => "embed_q4m",
        Kind::Q4K => "embed_q4k",
        Kind::Q6K => "embed_q6k",
        Kind::Z4(_) => "embed_z4",
        Kind::Z8(_) => "embed_z8",
        Kind::Mx4 => "embed_mx4",
    }
}

impl<D: Driver> Cuda<D> {
    /// One launch per part of the table: which part a token is in, only the device knows. A token beyond table and
    /// shelf, or beyond what the run before picked, gives a row of zeros.
    pub(super) fn launch_embed(&mut self, x: &mut Buf, table: &Weight, scale: f32, shelf: Option<&Buf>) -> Result<()> {
        assert!(x.cols == table.cols && shelf.is_none_or(|s| s.cols == table.cols), "rows fit the table");
        let rows = self.shape.rows;
        assert!(rows as usize <= x.rows, "a step's rows fit the buffer");
        if rows == 0 {
            return Ok(());
        }
        let (shelf_at, shelf_rows) = shelf.map_or((0, 0), |s| (s.at, s.rows));
        let (shelf_half, shelf_stride) = shelf.map_or((false, 0), |s| (s.half, s.stride));
        for part in &table.parts {
            // The kernels give 2^24 times what a product's factor makes right.
            let factor = match part.kind {
                Kind::F16 | Kind::Z4(_) | Kind::Z8(_) | Kind::Mx4 => part.unscale,
                _ => part.unscale * 2f32.powi(-24),
            };
            let args = [
                Arg::Ptr(self.current.arrays().token),
                Arg::Ptr(self.picks.at),
                Arg::U32(self.picks.rows as u32),
                Arg::Ptr(part.quants),
                Arg::Ptr(part.scales),
                Arg::Ptr(part.supers),
                Arg::U32(part.tiles() as u32),
                Arg::U32(part.first as u32),
                Arg::U32(part.rows as u32),
                Arg::U32(table.rows as u32),
                Arg::U32(table.cols as u32),
                Arg::F32(scale * factor),
                Arg::Ptr(shelf_at),
                Arg::U32(shelf_rows as u32),
                Arg::U32(u32::from(shelf_half)),
                Arg::U32(shelf_stride as u32),
                Arg::Ptr(x.at),
                Arg::U32(u32::from(x.half)),
                Arg::U32(x.stride as u32),
                Arg::U32(part.kind.shift().unwrap_or(0)),
                Arg::Ptr(table.order),
            ];
            // Only kernels of kinds whose groups are as long as the file has them are told so, and of an order.
            let args = match part.kind.shift() {
                Some(_) => &args[..],
                None if table.order == 0 => &args[..args.len() - 2],
                None => {
                    let why = "columns of an embedding can have an order of their own only in INT4 and INT8";
                    return Err(Error::Unsupported(why.to_string()));
                }
            };
            self.launch(kernel(part.kind), [(table.cols as u32).div_ceil(8 * 128), rows, 1], 128, 0, args)?;
        }
        Ok(())
    }
}
