//! `embed`: rows of the table, of what lies on the shelf, or of what the run before picked.

use super::Weight;
use super::check::shape;
use super::pick::Picked;
use crate::{PREV, Result, Row};

/// The operation, over all rows. `room` is for a row whose columns must be brought into order.
pub fn embed(
    x: &mut [f32],
    table: &Weight,
    scale: f32,
    shelf: &[f32],
    rows: &[Row],
    before: &Picked,
    room: &mut [f32],
) -> Result<()> {
    for (row, x) in rows.iter().zip(x.chunks_exact_mut(table.cols)) {
        let mut token = row.token;
        if token >= PREV {
            let Some(best) = before.best((token - PREV) as usize) else {
                let most = format!("below {}, the rows that the run before picked from", before.rows());
                return Err(shape("a token's row of logits", token - PREV, most));
            };
            token = best.id;
        }
        match (token as usize).checked_sub(table.rows) {
            None => {
                match &table.order {
                    None => table.row(token as usize, x),
                    Some(order) => {
                        table.row(token as usize, room);
                        order.iter().zip(&*room).for_each(|(input, value)| x[*input as usize] = *value);
                    }
                }
                if scale != 1.0 {
                    x.iter_mut().for_each(|x| *x *= scale);
                }
            }
            Some(row) => match shelf.chunks_exact(table.cols).nth(row) {
                Some(row) => x.copy_from_slice(row),
                None => {
                    let most = table.rows + shelf.len() / table.cols.max(1);
                    return Err(shape("a token's id", token, format!("below {most}")));
                }
            },
        }
    }
    Ok(())
}

impl Weight {
    /// One row's values, from the part that holds it.
    fn row(&self, mut row: usize, out: &mut [f32]) {
        for part in &self.parts {
            if row < part.rows {
                return part.row(row, out);
            }
            row -= part.rows;
        }
    }
}
