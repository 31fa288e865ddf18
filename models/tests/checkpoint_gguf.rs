//! GGUF files that are wrong, each in one way: one clear error that names the file and what is wrong with it.

use nano_models::checkpoint::{from_bytes, gguf};
use nano_models::open;
use nano_models::testing::{GgufValue, GgufWriter, TempDir, TestTensor, Tiny};
use std::path::Path;

/// The error of a file with these bytes.
fn error(bytes: Vec<u8>) -> String {
    match from_bytes(Path::new("m.gguf"), bytes) {
        Ok(_) => panic!("the file was accepted"),
        Err(e) => e.to_string(),
    }
}

fn writer() -> GgufWriter {
    GgufWriter::new("llama")
}

fn tensor(name: &str) -> TestTensor {
    TestTensor::f32(name, &[2, 8], &[0.0; 16])
}

#[test]
fn files_that_are_something_else() {
    for (head, says) in [
        (&b""[..], "m.gguf: is empty"),
        (b"FUGG\0\0\0\x03", "big-endian"),
        (b"PK\x03\x04....", "PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{\"a\": 1}", "looks like safetensors"),
        (b"tjgg\x03\0\0\0....", "old GGML format"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"{\"model_type\": \"llama\"}", "looks like JSON"),
        (b"hello", "looks like text"),
        (&[0; 100], "begins with zeros"),
        (b"\x89abc\xff", "begins with 89 61 62 63"),
        (b"GGUF", "cut short"),
    ] {
        let error = error(head.to_vec());
        assert!(error.starts_with("m.gguf: ") && error.contains(says), "{error}");
    }
}

#[test]
fn versions() {
    for (version, says) in [
        (0, "version 0; versions 2 and 3"),
        (1, "version 1, which is obsolete"),
        (4, "version 4; versions 2 and 3"),
        (3u32.swap_bytes(), "big-endian GGUF (version 3)"),
        (u32::MAX, "version 4294967295"),
    ] {
        let mut w = writer();
        w.version = version;
        let error = error(w.bytes());
        assert!(error.contains(says), "{error}");
    }
    let mut w = writer();
    w.version = 2;
    assert!(from_bytes(Path::new("m.gguf"), w.bytes()).is_ok());
}

#[test]
fn cut_at_every_byte() {
    let whole =
        writer().value("llama.x", "text").value("llama.y", vec![1, 2]).tensor(tensor("a")).tensor(tensor("b")).bytes();
    assert!(from_bytes(Path::new("m.gguf"), whole.clone()).is_ok());
    for end in 0..whole.len() {
        let error = error(whole[..end].to_vec());
        assert!(error.starts_with("m.gguf: "), "{end}: {error}");
        let says = ["is empty", "cut short", "is not a GGUF file"];
        assert!(says.iter().any(|s| error.contains(s)), "{end}: {error}");
    }
}

#[test]
fn counts_that_the_file_has_no_room_for() {
    let header = |tensors: u64, entries: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes.extend([0; 256]);
        bytes
    };
    assert!(error(header(u64::MAX, 0)).contains("claims 18446744073709551615 tensors and has room for 8"));
    assert!(error(header(0, 1 << 40)).contains("claims 1099511627776 metadata entries"));
    let list = |kind: u32, n: u64| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(n.to_le_bytes());
        writer().value("llama.list", GgufValue::Raw(9, bytes)).bytes()
    };
    for kind in [0, 4, 8, 9, 12] {
        for n in [1 << 32, 1 << 61, u64::MAX] {
            let error = error(list(kind, n));
            assert!(error.contains("llama.list has a list of") && error.contains("and room for"), "{error}");
        }
    }
    let text = GgufValue::Raw(8, u64::MAX.to_le_bytes().to_vec());
    assert!(
        error(writer().value("llama.text", text).bytes())
            .contains("llama.text has 18446744073709551615 bytes are needed")
    );
}

#[test]
fn wrong_metadata() {
    let deep = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat().repeat(5);
    for (writer, says) in [
        (writer().value("a", 1u32).value("a", 2u32), "m.gguf: a is in the metadata twice"),
        (writer().value("a", GgufValue::Raw(13, vec![0; 8])), "a has a value of unknown type 13"),
        (writer().value("a", GgufValue::Raw(7, vec![2])), "a has a flag that is 2"),
        (writer().value("a", GgufValue::Raw(8, vec![1, 0, 0, 0, 0, 0, 0, 0, 0xff])), "a has a text that is not UTF-8"),
        (writer().value("a", GgufValue::Raw(9, deep)), "a has lists within lists more than 4 deep"),
        (GgufWriter::bare(), "m.gguf: general.architecture is missing"),
        (GgufWriter::bare().value("general.architecture", 1u32), "general.architecture is 1; a text is needed"),
        (writer().value("split.count", GgufValue::U16(3)), "one of 3 parts of a model"),
        (writer().value(&"k".repeat(65_536), 1u32), "a text of 65536 bytes where at most 65535"),
    ] {
        let error = error(writer.bytes());
        assert!(error.contains(says), "{error}");
    }
    for (alignment, says) in [(0u32, "is 0"), (24, "is 24; a power of two"), (1 << 31, "is 2147483648")] {
        let error = error(writer().value("general.alignment", alignment).bytes());
        assert!(error.contains("general.alignment") && error.contains(says), "{error}");
    }
}

#[test]
fn wrong_tensors() {
    let odd = |dims: &[usize], number: u32, offset: Option<u64>| {
        let t = TestTensor { dims: dims.to_vec(), ..tensor("w") };
        writer().tensor(tensor("first")).odd_tensor(t, number, offset)
    };
    let huge = 1usize << 40;
    for (writer, says) in [
        (writer().tensor(tensor("w")).tensor(tensor("w")), "is listed twice"),
        (odd(&[2, 8], 0, Some(0)), "its data overlaps that of tensor"),
        (odd(&[2, 8], 0, Some(32)), "its data overlaps that of tensor first"),
        (odd(&[2, 8], 0, Some(65)), "its offset 65 is not aligned to 32 bytes"),
        (odd(&[2, 8], 0, Some(96)), "reach beyond the file's"),
        (odd(&[2, 8], 0, Some(u64::MAX - 31)), "reach beyond the file's"),
        (odd(&[4, 8], 0, None), "its 128 bytes at offset 64 reach beyond the file's"),
        (odd(&[huge, huge], 0, None), "its shape 1099511627776 x 1099511627776 is larger than any memory"),
        (odd(&[1 << 62, 2], 1, None), "is larger than any memory"),
        (odd(&[0, 8], 0, None), "its shape 0 x 8 has no values"),
        (odd(&[], 0, None), "has 0 dimensions; 1 to 4"),
        (odd(&[1; 5], 0, None), "has 5 dimensions; 1 to 4"),
        (odd(&[2, 8], 8, None), "its rows of 8 values are no whole number of Q8_0 blocks of 32"),
        (odd(&[2, 8], 9, None), "its type 9 (Q8_1) is not supported; supported are F32 F16"),
        (odd(&[2, 8], 999, None), "its type 999 does not exist; supported are F32 F16"),
        (writer().tensor(tensor(&"n".repeat(1025))), "a text of 1025 bytes where at most 1024"),
    ] {
        let error = error(writer.bytes());
        assert!(error.starts_with("m.gguf: tensor ") && error.contains(says), "{error}");
    }
    let named = error(odd(&[2, 8], 999, None).bytes());
    assert!(named.starts_with("m.gguf: tensor w: "), "{named}");
}

#[test]
fn wrong_vocabularies() {
    let tokens = || ["a", "b", "ab"].map(str::to_owned).to_vec();
    let base = || writer().value("tokenizer.ggml.model", "gpt2").value("tokenizer.ggml.tokens", tokens());
    for (writer, says) in [
        (writer(), "has no tokenizer (tokenizer.ggml.model is missing)"),
        (writer().value("tokenizer.ggml.model", 3u32), "tokenizer.ggml.model is 3; a text is needed"),
        (writer().value("tokenizer.ggml.model", "gpt2"), "tokenizer.ggml.tokens is missing or empty"),
        (
            writer().value("tokenizer.ggml.model", "gpt2").value("tokenizer.ggml.tokens", vec![1]),
            "tokenizer.ggml.tokens at 0: a value of another type",
        ),
        (
            base().value("tokenizer.ggml.token_type", vec![1]),
            "tokenizer.ggml.token_type has 1 elements where the vocabulary has 3 tokens",
        ),
        (base().value("tokenizer.ggml.scores", "x"), "tokenizer.ggml.scores is the text \"x\"; a list is needed"),
        (base().value("tokenizer.ggml.eos_token_id", 3u32), "tokenizer.ggml.eos_token_id is 3; a token number below 3"),
        (base().value("tokenizer.ggml.bos_token_id", -1), "tokenizer.ggml.bos_token_id is -1"),
        (base().value("tokenizer.ggml.add_bos_token", 1u32), "tokenizer.ggml.add_bos_token is 1; true or false"),
    ] {
        let error = from_bytes(Path::new("m.gguf"), writer.bytes()).unwrap().tokenizer().err().unwrap().to_string();
        assert!(error.starts_with("m.gguf: ") && error.contains(says), "{error}");
    }
    // "None", as converters write it.
    let merges = vec!["a b".to_owned()];
    let none = base()
        .value("tokenizer.ggml.pre", "gpt-2")
        .value("tokenizer.ggml.merges", merges)
        .value("tokenizer.ggml.bos_token_id", u32::MAX);
    assert_eq!(from_bytes(Path::new("m.gguf"), none.bytes()).unwrap().tokenizer().unwrap().bos(), None);
}

#[test]
fn paths_that_are_no_model() {
    let dir = TempDir::new("no-model");
    let message = |path: &Path| open(path).err().unwrap().to_string();
    assert!(message(&dir.path().join("none.gguf")).ends_with("none.gguf: no such file or folder"));
    assert!(message(dir.path()).contains("neither config.json nor a .gguf file"));
    assert!(message(&dir.write("empty.bin", "")).contains("is empty"));
    #[cfg(unix)]
    assert!(message(Path::new("/dev/null")).contains("is not a regular file"));
}

#[test]
fn a_large_vocabulary_costs_nothing_until_it_is_asked_for() {
    let tokens: Vec<String> = (0..200_000).map(|i| format!("token{i}")).collect();
    let bytes = writer().value("tokenizer.ggml.tokens", tokens).bytes();
    let header = gguf::parse(Path::new("m"), &bytes).unwrap();
    let Some(gguf::Value::Array(array)) = header.values.get("tokenizer.ggml.tokens") else {
        panic!("a list is expected")
    };
    assert_eq!(array.len, 200_000);
    let start = std::time::Instant::now();
    gguf::parse(Path::new("m"), &bytes).unwrap();
    // Takes about a millisecond; the limit only tells it from decoding everything on a slow machine.
    assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
}

#[test]
fn messages_are_printable_and_short() {
    let name = format!("bad\u{1b}[31m\n{}", "x".repeat(900));
    let error = error(writer().tensor(tensor(&name)).tensor(tensor(&name)).bytes());
    assert!(error.len() < 300 && !error.contains(['\u{1b}', '\n']), "{error}");
}

#[test]
fn a_whole_small_model_survives_random_damage() {
    let whole = Tiny { layers: 1, dim: 32, hidden: 32, ..Tiny::default() }.gguf();
    let header = gguf::parse(Path::new("m"), &whole).unwrap();
    let first = header.tensors.iter().map(|t| t.range.start).min().unwrap();
    let mut random = 7u64;
    let mut refused = 0;
    for _ in 0..400 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut bytes = whole.clone();
        let at = (random >> 33) as usize % first;
        bytes[at] ^= (random >> 20) as u8 | 1;
        match from_bytes(Path::new("m.gguf"), bytes) {
            Ok(checkpoint) => {
                for name in checkpoint.names() {
                    checkpoint.tensor(name).unwrap();
                }
            }
            Err(e) => {
                refused += 1;
                assert!(e.to_string().starts_with("m.gguf: "), "{e}");
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

/// A part of a model: `no` counts from 0. The first has the metadata.
fn part(no: u16, count: u16, tensors: &[&str]) -> GgufWriter {
    let w = if no == 0 { writer().value("llama.block_count", 7u32) } else { GgufWriter::bare() };
    let w = w.value("split.no", GgufValue::U16(no)).value("split.count", GgufValue::U16(count));
    let w = w.value("split.tensors.count", GgufValue::I32(3));
    tensors
        .iter()
        .enumerate()
        .fold(w, |w, (i, name)| w.tensor(TestTensor::f32(name, &[1, 2], &[f32::from(no), i as f32])))
}

/// A folder with these parts under their proper names.
fn parts(count: usize, parts: &[(usize, GgufWriter)]) -> TempDir {
    let dir = TempDir::new("parts");
    for (at, part) in parts {
        std::fs::write(dir.path().join(format!("m-{at:05}-of-{count:05}.gguf")), part.bytes()).unwrap();
    }
    dir
}

#[test]
fn any_part_opens_the_whole_model() {
    let dir = parts(3, &[(1, part(0, 3, &[])), (2, part(1, 3, &["a", "b"])), (3, part(2, 3, &["c"]))]);
    for path in ["", "m-00001-of-00003.gguf", "m-00003-of-00003.gguf"] {
        let checkpoint = open(&dir.path().join(path)).unwrap();
        assert_eq!(checkpoint.names(), ["a", "b", "c"]);
        assert_eq!(checkpoint.tensor("b").unwrap().unwrap().to_f32(), [1.0, 1.0]);
        assert_eq!(checkpoint.tensor("c").unwrap().unwrap().to_f32(), [2.0, 0.0]);
        assert_eq!(checkpoint.config().usize("", "block_count").unwrap(), 7);
    }
}

#[test]
fn wrong_parts() {
    let (a, b) = (part(0, 2, &["a"]), part(1, 2, &["b", "c"]));
    for (dir, says) in [
        (parts(2, &[(1, a.clone())]), "of which 1 are not beside it, m-00002-of-00002.gguf first"),
        (parts(2, &[(2, b.clone())]), "of which 1 are not beside it, m-00001-of-00002.gguf first"),
        (
            parts(3, &[(1, a.clone())]),
            "is one of 2 parts of a model, and its name does not end in -00001-of-00002.gguf",
        ),
        (parts(2, &[(1, b.clone()), (2, b.clone())]), "m-00001-of-00002.gguf: says that it is part 2 of 2"),
        (parts(2, &[(1, a.clone()), (2, part(1, 3, &[]))]), "m-00002-of-00002.gguf: says that it is part 2 of 3"),
        (parts(2, &[(1, a.clone()), (2, a.clone())]), "m-00002-of-00002.gguf: says that it is part 1 of 2"),
        (parts(2, &[(1, a.clone()), (2, writer())]), "m-00002-of-00002.gguf: says that it is part 1 of 1"),
        (
            parts(2, &[(1, a.clone()), (2, part(1, 2, &["a"]))]),
            "m-00002-of-00002.gguf: tensor a: is in an earlier part",
        ),
        (parts(2, &[(1, a.clone()), (2, part(1, 2, &["b"]))]), "hold 2 tensors where 3 are announced"),
        (parts(1, &[(1, part(0, 60_000, &[]))]), "split.count is 60000; at most 4096"),
    ] {
        let error = open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
