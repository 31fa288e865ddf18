//! Telling checkpoints apart without reading them: by what they say of themselves, and by samples of their data.

use crate::{Checkpoint, Result, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

/// Blocks of the data that are looked at.
const BLOCKS: u64 = 64;
/// Bytes of such a block.
const BLOCK: usize = 4096;

/// A number, in hexadecimal digits, that differs for checkpoints with other metadata, tensors or (as far as 64 blocks
/// spread over the data tell) weights. The file's name and place do not count. Takes milliseconds, whatever the size.
pub fn fingerprint(checkpoint: &dyn Checkpoint) -> Result<String> {
    let mut hash = Xxh3::new();
    // With its length, so that parts cannot be mistaken for others that join to the same bytes.
    let mut put = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    checkpoint.config().visit(&mut put);
    let tensors: Vec<(&str, TensorInfo)> =
        checkpoint.names().into_iter().filter_map(|name| Some((name, checkpoint.info(name)?))).collect();
    for (name, TensorInfo { format, rows, cols, bytes }) in &tensors {
        put(format!("{name} {format} {rows} {cols} {bytes}").as_bytes());
    }
    let total: u64 = tensors.iter().map(|(_, info)| info.bytes as u64).sum();
    let mut places = (0..BLOCKS).map(|i| (u128::from(total) * u128::from(i) / u128::from(BLOCKS)) as u64).peekable();
    let mut before = 0;
    for (name, info) in &tensors {
        let end = before + info.bytes as u64;
        if places.peek().is_some_and(|place| *place < end)
            && let Some(tensor) = checkpoint.tensor(name)?
        {
            while let Some(place) = places.next_if(|place| *place < end) {
                // The last block of a tensor is whole too, unless the tensor is smaller.
                let from = ((place - before) as usize).min(tensor.bytes.len().saturating_sub(BLOCK));
                put(&tensor.bytes[from..tensor.bytes.len().min(from + BLOCK)]);
            }
        }
        before = end;
    }
    Ok(format!("{:032x}", hash.digest128()))
}
