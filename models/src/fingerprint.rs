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
    if let Some((base, mark)) = checkpoint.under() {
        put(fingerprint(base)?.as_bytes());
        put(mark.as_bytes());
        return Ok(format!("{:032x}", hash.digest128()));
    }
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
            && let Some(bytes) = checkpoint.stored(name)?
        {
            while let Some(place) = places.next_if(|place| *place < end) {
                // The last block of a tensor is whole too, unless the tensor is smaller.
                let from = ((place - before) as usize).min(bytes.len().saturating_sub(BLOCK));
                put(&bytes[from..bytes.len().min(from + BLOCK)]);
            }
            // Around a sample the system may have mapped much more.
            checkpoint.release(name);
        }
        before = end;
    }
    Ok(format!("{:032x}", hash.digest128()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::from_bytes;
    use crate::testing::{GgufWriter, TestTensor, Tiny};
    use std::path::Path;

    fn of(bytes: Vec<u8>) -> String {
        fingerprint(&*from_bytes(Path::new("model.gguf"), bytes).unwrap()).unwrap()
    }

    #[test]
    fn the_same_model_anywhere_has_the_same() {
        let bytes = Tiny::default().gguf();
        let one = of(bytes.clone());
        assert_eq!(one.len(), 32);
        let there = from_bytes(Path::new("elsewhere/renamed.gguf"), bytes).unwrap();
        assert_eq!(fingerprint(&*there).unwrap(), one);
        let tiny = Tiny::default();
        let folder = |shards| {
            let dir = tiny.folder(shards).temp("fingerprint");
            fingerprint(&*crate::open(dir.path()).unwrap()).unwrap()
        };
        // Weights are told by their names, wherever they lie.
        assert_eq!(folder(1), folder(3));
        assert_ne!(folder(1), one);
    }

    #[test]
    fn metadata_shapes_and_weights_count() {
        let all = [
            Tiny::default(),
            Tiny { seed: 2, ..Tiny::default() },
            Tiny { rope_theta: 500.0, ..Tiny::default() },
            Tiny { hidden: 128, ..Tiny::default() },
            Tiny { template: "{{ messages }}".into(), ..Tiny::default() },
        ]
        .map(|tiny| of(tiny.gguf()));
        let mut distinct = all.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
    }

    #[test]
    fn a_list_in_the_metadata_counts() {
        let with = |word: &str| {
            let words = vec!["a".to_owned(), word.to_owned()];
            of(GgufWriter::new("llama").value("some.words", words).bytes())
        };
        assert_eq!(with("b"), with("b"));
        assert_ne!(with("b"), with("c"));
    }

    #[test]
    fn samples_lie_all_over() {
        // 64 blocks of 4 KiB among three tensors of 192 KiB: 44 in 100 changes are seen, in any tensor.
        const LEN: usize = 48 << 10;
        let file = |changed: Option<(usize, usize)>| {
            let mut writer = GgufWriter::new("llama");
            for tensor in 0..3 {
                let mut values = vec![0.5; LEN];
                if let Some((_, at)) = changed.filter(|(t, _)| *t == tensor) {
                    values[at] = 0.25;
                }
                writer = writer.tensor(TestTensor::f32(&format!("t{tensor}"), &[LEN], &values));
            }
            of(writer.bytes())
        };
        let same = file(None);
        for tensor in 0..3 {
            let seen = (0..LEN).step_by(997).filter(|at| file(Some((tensor, *at))) != same).count();
            assert!((17..=27).contains(&seen), "{seen} of 50 changes in tensor {tensor}");
        }
        assert_ne!(file(Some((0, 0))), same);
    }
}
