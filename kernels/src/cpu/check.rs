//! What can be wrong with a step, a slot or a page. Each step is checked once, before it is run.

use crate::{Error, NO_SLOT, PAGE_ROWS, PageLayout, Result, Step};

/// The error for two numbers that do not fit.
pub fn shape(what: &str, found: impl ToString, expected: impl ToString) -> Error {
    Error::Shape { what: what.to_string(), found: found.to_string(), expected: expected.to_string() }
}

/// Checks that slots lie in the pool.
pub fn in_pool(layout: &PageLayout, slots: &[u32]) -> Result<()> {
    match slots.iter().find(|slot| **slot as usize / PAGE_ROWS >= layout.pages) {
        Some(slot) => Err(shape("a slot", slot, format!("below {}", layout.pages * PAGE_ROWS))),
        None => Ok(()),
    }
}

/// Checks that a page lies in the pool and that `bytes` are what it takes in the form that backends share.
pub fn whole_page(layout: &PageLayout, page: u32, bytes: usize) -> Result<()> {
    if page as usize >= layout.pages {
        return Err(shape("a page", page, format!("below {}", layout.pages)));
    }
    if bytes != layout.portable_bytes() {
        return Err(shape("bytes of a page", bytes, layout.portable_bytes()));
    }
    Ok(())
}

/// Checks that every row sees itself, and no more than its sequence's pages hold.
pub fn sees(step: &Step) -> Result<()> {
    for row in &step.rows {
        let most = step.sequences[row.sequence as usize].pages.len() * PAGE_ROWS;
        if row.visible == 0 || row.visible as usize > most {
            return Err(shape("a row's visible rows", row.visible, format!("1 to {most}, which the pages hold")));
        }
    }
    Ok(())
}

/// Checks that a step is whole; gives one past the greatest page it names.
pub fn check(step: &Step) -> Result<usize> {
    let mut pages = 0;
    for sequence in &step.sequences {
        pages = sequence.pages.iter().fold(pages, |n, page| n.max(*page as usize + 1));
    }
    let mut last = 0;
    for row in &step.rows {
        if row.sequence as usize >= step.sequences.len() {
            return Err(shape("a row's sequence", row.sequence, format!("below {}", step.sequences.len())));
        }
        if row.sequence < last {
            return Err(shape("a row's sequence", row.sequence, "rows of a sequence that stand together"));
        }
        last = row.sequence;
        if row.slot != NO_SLOT {
            pages = pages.max(row.slot as usize / PAGE_ROWS + 1);
        }
    }
    match step.logits.iter().find(|row| **row as usize >= step.rows.len()) {
        Some(row) => Err(shape("a logits row", row, format!("below {}", step.rows.len()))),
        None => Ok(pages),
    }
}
