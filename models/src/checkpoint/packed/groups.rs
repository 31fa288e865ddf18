//! Inputs that are grouped by importance: which group each is in, as numbers of a file, and the order that brings the
//! inputs of a group together.

use super::Fault;

/// The order of columns.
pub(super) struct Order {
    /// The input of each column.
    pub(super) inputs: Vec<u32>,
    /// The group of each block.
    pub(super) groups: Vec<usize>,
}

/// Reads the group of each input, numbers of `size` bytes. `None` if inputs are grouped as they lie, `per` to a group.
/// `block` columns need to be of one group.
pub(super) fn read(bytes: &[u8], size: usize, count: usize, per: usize, block: usize) -> Result<Option<Order>, Fault> {
    let number = |b: &[u8]| match *b {
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => -1,
    };
    let stated: Vec<i64> = bytes.chunks_exact(size).map(number).collect();
    // That they are all 0, or -1, is how exporters say that it is not used.
    if stated.iter().all(|g| *g == 0) || stated.contains(&-1) {
        return Ok(None);
    }
    let mut by_group = vec![Vec::new(); count];
    for (input, group) in stated.iter().enumerate() {
        let inputs = usize::try_from(*group).ok().and_then(|group| by_group.get_mut(group));
        let inputs = inputs.ok_or_else(|| format!("its g_idx puts input {input} in group {group} of {count}"))?;
        inputs.push(input as u32);
    }
    if stated.iter().enumerate().all(|(input, group)| *group == (input / per) as i64) {
        return Ok(None);
    }
    let mut order = Order { inputs: Vec::with_capacity(stated.len()), groups: Vec::new() };
    for (group, inputs) in by_group.iter().enumerate() {
        if !inputs.len().is_multiple_of(block) {
            return Err(format!(
                "its g_idx puts {} inputs in group {group}; a multiple of {block} is read",
                inputs.len()
            ));
        }
        order.inputs.extend(inputs);
        order.groups.extend(std::iter::repeat_n(group, inputs.len() / block));
    }
    Ok(Some(order))
}
