//! Folders with quantized weights: values must be those of the formulas, bit for bit, and what does not fit together is
//! one clear error.

mod cuda;
mod errors;
mod goldens;
mod mlc;
#[path = "../session/mod.rs"]
mod session;
mod weights;
mod woven;

use nano_kernels::{Format, Group};
use nano_models::testing::{Folder, RawTensor, TempDir, raw_safetensors};
use nano_models::{Checkpoint, open};
use serde_json::{Value, json};
use weights::Weights;

/// A folder with these tensors and this `quantization_config`.
fn folder(config: &Value, tensors: &[RawTensor]) -> Folder {
    Folder::default()
        .json("config.json", &json!({"model_type": "llama", "quantization_config": config}))
        .file("model.safetensors", raw_safetensors(tensors))
}

fn opened(folder: &Folder) -> (TempDir, Box<dyn Checkpoint>) {
    let dir = folder.temp("packed");
    let checkpoint = open(dir.path()).unwrap_or_else(|e| panic!("{e}"));
    (dir, checkpoint)
}

fn awq(group: i64) -> Value {
    json!({"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": true, "version": "gemm"})
}

fn gptq(bits: usize, group: i64, format: &str) -> Value {
    json!({"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": format, "desc_act": true})
}

fn compressed(bits: usize, group: Option<usize>, symmetric: bool) -> Value {
    let strategy = if group.is_some() { "group" } else { "channel" };
    let weights = json!({
        "num_bits": bits, "type": "int", "strategy": strategy, "group_size": group, "symmetric": symmetric,
        "actorder": null, "dynamic": false
    });
    json!({
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": null}}
    })
}

/// The tensor `a.weight` of the folder must be of this format, with these values, and alone.
fn same(what: &str, config: &Value, tensors: &[RawTensor], weights: &Weights, format: Format) {
    let (_dir, checkpoint) = opened(&folder(config, tensors));
    assert_eq!(checkpoint.names(), ["a.weight"], "{what}");
    let info = checkpoint.info("a.weight").unwrap();
    assert_eq!((info.format, info.rows, info.cols), (format, weights.rows, weights.cols), "{what}");
    let files: usize = tensors.iter().filter(|t| !t.name.ends_with("_shape")).map(|t| t.bytes.len()).sum();
    assert_eq!(info.bytes, files, "{what}");
    let tensor = checkpoint.tensor("a.weight").unwrap().unwrap();
    assert_eq!((tensor.format, tensor.rows, tensor.cols), (format, weights.rows, weights.cols), "{what}");
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let (found, expected) = (bits(tensor.to_f32()), bits(weights.values()));
    let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0, "{what}: values of {} differ", expected.len());
    let sorted = weights.groups.windows(2).all(|pair| pair[0] <= pair[1]);
    assert_eq!(tensor.order.is_none(), sorted, "{what}: an order where there is one");
    assert!(checkpoint.notices().is_empty(), "{what}: nothing is lost");
    checkpoint.release("a.weight");
    checkpoint.evict("a.weight");
    assert_eq!(bits(checkpoint.tensor("a.weight").unwrap().unwrap().to_f32()), expected, "{what}: read again");
}

/// Group sizes of the file, and what they are held as. 136 rows are two tiles and a part of one.
const GROUPS: [(usize, Group); 6] =
    [(32, Group::G32), (64, Group::G64), (128, Group::G128), (256, Group::G128), (192, Group::G64), (96, Group::G32)];
const SHAPE: (usize, usize) = (136, 768);

#[test]
fn awq_is_read_without_loss() {
    for (per, group) in GROUPS {
        let weights = Weights::new(per as u64, 4, SHAPE, per, (0, 16));
        same(&format!("groups of {per}"), &awq(per as i64), &weights.awq("a"), &weights, Format::Int4(group));
    }
    let whole = Weights::new(1, 4, SHAPE, SHAPE.1, (0, 16));
    same("whole rows", &awq(-1), &whole.awq("a"), &whole, Format::Int4(Group::G128));
    let symmetric = Weights::new(1, 4, SHAPE, 64, (8, 1));
    let mut config = awq(64);
    config["zero_point"] = json!(false);
    same("stored zeros of 8", &config, &symmetric.awq("a"), &symmetric, Format::Int4(Group::G64));
    let mut tensors = symmetric.awq("a");
    tensors.remove(1);
    same("no zeros", &config, &tensors, &symmetric, Format::Int4(Group::G64));
}

#[test]
fn gptq_is_read_without_loss() {
    for bits in [4, 8] {
        let format = |group| if bits == 4 { Format::Int4(group) } else { Format::Int8(group) };
        for (per, group) in GROUPS {
            for (name, less) in [("gptq", 1), ("gptq_v2", 0)] {
                let weights = Weights::new(per as u64, bits, SHAPE, per, (less, 1 << bits));
                let (config, what) = (gptq(bits, per as i64, name), format!("{name}, {bits} bits, groups of {per}"));
                let mut tensors = weights.gptq("a", less as u32);
                same(&what, &config, &tensors, &weights, format(group));
                tensors.truncate(3);
                same(&format!("{what}, no g_idx"), &config, &tensors, &weights, format(group));
                let weights = weights.shuffled();
                same(
                    &format!("{what}, by importance"),
                    &config,
                    &weights.gptq("a", less as u32),
                    &weights,
                    format(group),
                );
            }
        }
        let weights = Weights::new(1, bits, SHAPE, SHAPE.1, (1, 1 << bits));
        same("whole rows", &gptq(bits, -1, ""), &weights.gptq("a", 1), &weights, format(Group::G128));
    }
}

#[test]
fn groups_may_differ_in_length_by_whole_blocks() {
    let mut weights = Weights::new(5, 4, (16, 384), 192, (1, 16));
    weights.groups = (0..384).map(|k| usize::from(k >= 128)).collect();
    let weights = weights.shuffled();
    same("128 and 256", &gptq(4, 192, "gptq"), &weights.gptq("a", 1), &weights, Format::Int4(Group::G64));
}

#[test]
fn groups_that_are_not_used_are_as_inputs_lie() {
    let weights = Weights::new(5, 4, (16, 128), 64, (1, 16));
    for (value, all) in [(0, true), (-1, true), (-1, false)] {
        let mut tensors = weights.gptq("a", 1);
        let stated = tensors[3].bytes.as_chunks_mut::<4>().0;
        let n = if all { stated.len() } else { 1 };
        stated[..n].iter_mut().for_each(|group| *group = i32::to_le_bytes(value));
        same(&format!("{n} of {value}"), &gptq(4, 64, "gptq"), &tensors, &weights, Format::Int4(Group::G64));
    }
}

#[test]
fn large_tensors_are_shared_among_threads() {
    let weights = Weights::new(6, 4, (6800, 32), 32, (1, 15));
    let format = Format::Int4(Group::G32);
    same("awq", &awq(32), &weights.awq("a"), &weights, format);
    same("gptq", &gptq(4, 32, "gptq"), &weights.gptq("a", 1), &weights, format);
    same("compressed", &compressed(4, Some(32), false), &weights.compressed("a", false), &weights, format);
}

#[test]
fn shapes_tell_what_tensors_of_mixed_models_are() {
    let mut config = gptq(4, 128, "gptq");
    config["dynamic"] = json!({"+:a": {"bits": 8, "group_size": 32}, "-:b": {}});
    let weights = Weights::new(3, 8, SHAPE, 32, (1, 256));
    same("dynamic", &config, &weights.gptq("a", 1), &weights, Format::Int8(Group::G32));
    let mut config = compressed(4, Some(128), true);
    config["config_groups"]["group_1"] = compressed(8, Some(64), true)["config_groups"]["group_0"].clone();
    let weights = Weights::new(3, 8, SHAPE, 64, (128, 1));
    same("two schemes", &config, &weights.compressed("a", true), &weights, Format::Int8(Group::G64));
}

#[test]
fn compressed_tensors_are_read_without_loss() {
    // Rows that are no whole number of words.
    let shape = (133, SHAPE.1);
    for bits in [4, 8] {
        let (half, all) = (1 << (bits - 1), 1 << bits);
        let format = |group| if bits == 4 { Format::Int4(group) } else { Format::Int8(group) };
        for (per, group) in GROUPS {
            let what = format!("{bits} bits, groups of {per}");
            let weights = Weights::new(1, bits, shape, per, (half, 1));
            same(&what, &compressed(bits, Some(per), true), &weights.compressed("a", true), &weights, format(group));
            let weights = Weights::new(1, bits, shape, per, (0, all));
            let config = compressed(bits, Some(per), false);
            same(&what, &config, &weights.compressed("a", false), &weights, format(group));
            let weights = weights.shuffled();
            same(&what, &config, &weights.compressed("a", false), &weights, format(group));
        }
        let weights = Weights::new(1, bits, shape, shape.1, (half, 1));
        let config = compressed(bits, None, true);
        same("channels", &config, &weights.compressed("a", true), &weights, format(Group::G128));
    }
    // Zero points as older versions wrote them: signed, one by one.
    let weights = Weights::new(1, 4, shape, 64, (0, 16));
    let mut tensors = weights.compressed("a", false);
    tensors[3].dtype = "I8";
    tensors[3].dims = vec![weights.rows, weights.cols / 64];
    tensors[3].bytes = weights.zeros.iter().map(|zero| (*zero as i8 - 8) as u8).collect();
    same("signed", &compressed(4, Some(64), false), &tensors, &weights, Format::Int4(Group::G64));
}
