//! What the fuzz targets do with bytes that may be anything: read them as deeply as a program would. Neither a panic
//! nor a hang nor a large allocation may come of it; errors may. The kept regressions of `fuzz/regressions` run the
//! same functions as an ordinary test.

use crate::checkpoint::Map;
use crate::checkpoint::gguf::Gguf;
use crate::checkpoint::hf::{HuggingFace, ShardTensor, Stored, parse_index, parse_shard, parse_torch};
use crate::checkpoint::lora::adapter::{Adapter, Change};
use crate::checkpoint::mlc::parse_cache;
use crate::store::file::{Reader, sealed};
use crate::{Calibration, Checkpoint, Control, HfVocab, Tokenizer};
use nano_kernels::Backend;
use nano_kernels::cpu::Cpu;
use std::path::{Path, PathBuf};

/// A GGUF file: header, metadata, tensors, vocabulary.
pub fn gguf(bytes: &[u8]) {
    let Ok(checkpoint) = Gguf::from_bytes(Path::new("fuzz.gguf"), bytes.to_vec()) else { return };
    let mut total = 0;
    for name in checkpoint.names() {
        let info = checkpoint.info(name).unwrap_or_else(|| panic!("{name} has no info"));
        let tensor = checkpoint.tensor(name);
        let tensor =
            tensor.unwrap_or_else(|e| panic!("{e}")).unwrap_or_else(|| panic!("{name} is listed and not there"));
        assert_eq!(
            (tensor.format, tensor.rows, tensor.cols, tensor.bytes.len()),
            (info.format, info.rows, info.cols, info.bytes)
        );
        assert_eq!(info.format.row_bytes(info.cols).and_then(|n| n.checked_mul(info.rows)), Some(info.bytes));
        total += info.bytes;
        checkpoint.release(name);
    }
    assert!(total <= bytes.len(), "tensors of {total} bytes in a file of {}", bytes.len());
    let config = checkpoint.config();
    for key in ["block_count", "a", "t.texts"] {
        let _ = (config.opt_usize(key, key), config.opt_f32s(key, key), config.opt_strs(key, key));
    }
    let _ = checkpoint.chat_template();
    if let Ok(tokenizer) = checkpoint.tokenizer() {
        use_tokenizer(&tokenizer);
    }
}

/// model.safetensors.index.json.
pub fn index(bytes: &[u8]) {
    let Ok(index) = parse_index(Path::new("fuzz.json"), bytes) else { return };
    for (name, shard) in index.entries() {
        assert!(index.shards().contains(shard) && index.shard(name) == Some(shard));
        assert!(!shard.contains(['/', '\\']) && shard != ".." && shard != ".", "{shard:?} leads out of the folder");
    }
}

/// The header of a safetensors file.
pub fn shard(bytes: &[u8]) {
    let Ok(tensors) = parse_shard(Path::new("fuzz.safetensors"), bytes) else { return };
    tensors_lie_in(bytes, tensors);
}

/// A file of PyTorch's: archive and pickle.
pub fn torch(bytes: &[u8]) {
    let Ok(tensors) = parse_torch(Path::new("fuzz.bin"), bytes) else { return };
    tensors_lie_in(bytes, tensors);
}

/// A config.json in one line, and the safetensors of a folder with quantized weights.
pub fn packed(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return };
    let Ok(json) = serde_json::from_slice(&bytes[..end]) else { return };
    let path = Path::new("fuzz");
    let Ok(checkpoint) = HuggingFace::from_bytes(path, json, bytes[end + 1..].to_vec()) else { return };
    for name in checkpoint.names() {
        let info = checkpoint.info(name).unwrap_or_else(|| panic!("{name} has no info"));
        // What g_idx says is found out late.
        let Ok(tensor) = checkpoint.tensor(name) else { continue };
        let tensor = tensor.unwrap_or_else(|| panic!("{name} is listed and not there"));
        assert_eq!((tensor.format, tensor.rows, tensor.cols), (info.format, info.rows, info.cols));
        assert_eq!(info.format.row_bytes(info.cols).and_then(|n| n.checked_mul(info.rows)), Some(tensor.bytes.len()));
        assert!(tensor.bytes.len() <= 2 * bytes.len(), "{} of {} bytes", tensor.bytes.len(), bytes.len());
        assert!(info.bytes <= bytes.len());
        checkpoint.release(name);
    }
}

/// MLC's list of tensors.
pub fn mlc(bytes: &[u8]) {
    for record in parse_cache(Path::new("fuzz.json"), bytes).unwrap_or_default() {
        let shard = &record.shard;
        assert!(!shard.contains(['/', '\\']) && shard != ".." && shard != ".", "{shard:?} leads out of the folder");
        let size = record.format.map_or(4, |format| format.block_bytes());
        assert_eq!(Some(record.range.len()), record.rows.checked_mul(record.cols).and_then(|n| n.checked_mul(size)));
    }
}

/// An adapter_config.json in one line, and the safetensors of an adapter. What fits is merged into zeros.
pub fn adapter(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return };
    let Ok(json) = serde_json::from_slice(&bytes[..end]) else { return };
    let Ok(adapter) = Adapter::from_bytes(Path::new("fuzz"), json, bytes[end + 1..].to_vec()) else { return };
    let _ = adapter.hash();
    for (_, change) in adapter.changes().unwrap_or_default() {
        let (rows, cols) = match &change {
            Change::Product { a, b, .. } => (adapter.shape(b).0, adapter.shape(a).1),
            Change::Embedding { a, b, .. } => (adapter.shape(a).1, adapter.shape(b).0),
            Change::Whole(name) => adapter.shape(name),
        };
        let _ = adapter.check(&change, (rows, cols.wrapping_add(1)));
        // A model has tensors of such a shape only if it is as large.
        let small = rows.checked_mul(cols).is_some_and(|n| (1..1 << 16).contains(&n));
        if small && adapter.check(&change, (rows, cols)).is_ok() {
            let heads = rows.is_multiple_of(4).then_some(rows / 4);
            let _ = adapter.apply(&change, &mut vec![0.0; rows * cols], (rows, cols), heads);
        }
    }
}

/// A file of what was seen of a model's inputs.
pub fn calibration(bytes: &[u8]) {
    let _ = Calibration::parse(Path::new("fuzz.gguf"), bytes);
}

/// The index of a file of packed weights in one line, and one weight: as they are and with checksums that are right.
pub fn store(bytes: &[u8]) {
    assert!(Reader::new(Map::Memory(bytes.to_vec())).is_none(), "nobody guesses checksums");
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (index, weight) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    if let Some(reader) = Reader::new(Map::Memory(sealed(index, weight))) {
        for key in reader.index.weights.iter().map(|entry| entry.key.clone()).chain(["none".into()]) {
            let _ = reader.weight(&key, 2);
            reader.done(&key, true);
        }
    }
    if let Ok(cpu) = Cpu::new(1) {
        let _ = cpu.load_weight(weight);
    }
}

fn tensors_lie_in(bytes: &[u8], tensors: Vec<ShardTensor>) {
    for t in tensors {
        let data = bytes.get(t.range).unwrap_or_else(|| panic!("{} lies outside the file", t.name));
        assert_eq!(data.len(), t.stored.bytes());
        if let Stored::Values(info) = t.stored {
            assert_eq!(info.format.row_bytes(info.cols).and_then(|n| n.checked_mul(info.rows)), Some(data.len()));
        }
    }
}

/// tokenizer.json.
pub fn tokenizer(bytes: &[u8]) {
    let vocab = HfVocab { path: PathBuf::from("fuzz.json"), json: bytes.to_vec(), config: None, stop: Vec::new() };
    if let Ok(tokenizer) = Tokenizer::from_hf(vocab) {
        use_tokenizer(&tokenizer);
    }
}

fn use_tokenizer(tokenizer: &Tokenizer) {
    for text in ["", "Hello, wörld!  \n\n1234 <s>👋🏽", "\u{0}\u{fffd}\u{fdd0}"] {
        for control in [Control::Parse, Control::Text] {
            if let Ok(ids) = tokenizer.encode(text, control) {
                let _ = tokenizer.decode(&ids);
            }
        }
    }
    let mut detokenizer = tokenizer.detokenizer();
    for id in [0, 1, u32::MAX] {
        detokenizer.push(id);
        let _ = tokenizer.piece(id);
    }
    detokenizer.finish();
}
