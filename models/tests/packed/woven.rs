//! Experts as folders of gpt-oss hold them, made here number by number: each expert's matrices and biases must come out
//! with their values, and what does not fit together is one clear error.

use crate::weights::Random;
use nano_models::open;
use nano_models::testing::{Folder, RawTensor, raw_safetensors};
use serde_json::json;

/// Experts, inputs, and the width of an expert: no two alike, and no whole tiles.
const SIZES: (usize, usize, usize) = (3, 96, 64 + 32);
const STEM: &str = "model.layers.1.mlp.experts";

/// What value 0 to 15 of four bits is.
const LEVELS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

fn folder(tensors: &[RawTensor]) -> Folder {
    let config = json!({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}});
    Folder::default().json("config.json", &config).file("model.safetensors", raw_safetensors(tensors))
}

fn raw(piece: &str, dtype: &'static str, dims: &[usize], bytes: Vec<u8>) -> RawTensor {
    RawTensor { name: format!("{STEM}.{piece}"), dtype, dims: dims.to_vec(), bytes }
}

/// A stack of `experts`, each of so many outputs and inputs: its tensors, and what the values are of each expert, output
/// and input, the last of which is the bias.
type Stack = (Vec<RawTensor>, Vec<Vec<Vec<f32>>>);

fn biases(name: &str, dtype: &'static str, (experts, outputs): (usize, usize)) -> (RawTensor, Vec<f32>) {
    // Few bits, which every format holds.
    let values: Vec<f32> = (0..experts * outputs).map(|i| (i % 251) as f32 - 100.0).collect();
    (raw(&format!("{name}_bias"), dtype, &[experts, outputs], bytes(dtype, &values)), values)
}

fn bytes(dtype: &str, values: &[f32]) -> Vec<u8> {
    let two = |bits: u16| bits.to_le_bytes().to_vec();
    let of = |x: &f32| match dtype {
        "F32" => x.to_le_bytes().to_vec(),
        "BF16" => two((x.to_bits() >> 16) as u16),
        _ => two(half::f16::from_f32(*x).to_bits()),
    };
    values.iter().flat_map(of).collect()
}

fn blocks(name: &str, (experts, outputs, inputs): (usize, usize, usize)) -> Stack {
    let mut random = Random(outputs as u64);
    let count = inputs / 32;
    let packed: Vec<u8> = (0..experts * outputs * count * 16).map(|_| random.below(256) as u8).collect();
    let scales: Vec<u8> = (0..experts * outputs * count).map(|_| 120 + random.below(12) as u8).collect();
    let (bias, added) = biases(name, "BF16", (experts, outputs));
    let value = |row: usize, input: usize| {
        let bits = packed[row * inputs / 2 + input / 2] >> (4 * (input % 2)) & 15;
        let sign = if bits < 8 { 1.0 } else { -1.0 };
        sign * LEVELS[usize::from(bits & 7)] * 2f32.powi(i32::from(scales[row * count + input / 32]) - 127)
    };
    let row = |row: usize| (0..inputs).map(|input| value(row, input)).chain([added[row]]).collect();
    let values = (0..experts).map(|e| (e * outputs..(e + 1) * outputs).map(row).collect()).collect();
    let of_blocks = raw(&format!("{name}_blocks"), "U8", &[experts, outputs, count, 16], packed.clone());
    let of_scales = raw(&format!("{name}_scales"), "U8", &[experts, outputs, count], scales.clone());
    (vec![of_blocks, of_scales, bias], values)
}

fn floats(name: &str, dtype: &'static str, (experts, outputs, inputs): (usize, usize, usize)) -> Stack {
    let value = |expert: usize, output: usize, input: usize| ((expert * 7 + output * 5 + input * 3) % 256) as f32;
    let mut all = Vec::new();
    for (expert, input) in (0..experts).flat_map(|expert| (0..inputs).map(move |input| (expert, input))) {
        all.extend((0..outputs).map(|output| value(expert, output, input)));
    }
    let (bias, added) = biases(name, dtype, (experts, outputs));
    let row = |e: usize, o: usize| (0..inputs).map(|i| value(e, o, i)).chain([added[e * outputs + o]]).collect();
    let values = (0..experts).map(|e| (0..outputs).map(|o| row(e, o)).collect()).collect();
    (vec![raw(name, dtype, &[experts, inputs, outputs], bytes(dtype, &all)), bias], values)
}

/// Both stacks must come out as matrices of each expert.
fn same(what: &str, format: &str, up: Stack, down: Stack) {
    let (experts, dim, hidden) = SIZES;
    let tensors: Vec<RawTensor> = up.0.into_iter().chain(down.0).collect();
    let files: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let dir = folder(&tensors).temp("woven");
    let checkpoint = open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().len(), 6 * experts, "{what}");
    let mut listed = 0;
    for expert in 0..experts {
        for (matrix, values, (first, step), (rows, cols)) in [
            ("gate_proj", &up.1, (0, 2), (hidden, dim)),
            ("up_proj", &up.1, (1, 2), (hidden, dim)),
            ("down_proj", &down.1, (0, 1), (dim, hidden)),
        ] {
            let rows_of: Vec<&Vec<f32>> = values[expert].iter().skip(first).step_by(step).collect();
            let of = |kind: &str, shape: (usize, usize), expected: Vec<f32>| {
                let name = format!("{STEM}.{expert}.{matrix}.{kind}");
                let info = checkpoint.info(&name).unwrap_or_else(|| panic!("{what}: no {name}"));
                let tensor = checkpoint.tensor(&name).unwrap().unwrap();
                assert_eq!((info.rows, info.cols), shape, "{what}: {name}");
                assert_eq!((tensor.rows, tensor.cols, tensor.format), (info.rows, info.cols, info.format), "{name}");
                assert_eq!(tensor.bytes.len(), info.bytes, "{what}: {name}");
                assert!(tensor.to_f32() == expected, "{what}: values of {name}");
                checkpoint.release(&name);
                checkpoint.evict(&name);
                info
            };
            let weight = of("weight", (rows, cols), rows_of.iter().flat_map(|row| &row[..cols]).copied().collect());
            assert_eq!(weight.format.name(), format, "{what}");
            let bias = of("bias", (1, rows), rows_of.iter().map(|row| row[cols]).collect());
            listed += weight.bytes + bias.bytes;
        }
    }
    assert_eq!(listed, files, "{what}: every byte is listed once");
}

#[test]
fn experts_of_gpt_oss_are_read_one_by_one() {
    let (experts, dim, hidden) = SIZES;
    let (up, down) = ((experts, 2 * hidden, dim), (experts, dim, hidden));
    same("blocks", "MXFP4", blocks("gate_up_proj", up), blocks("down_proj", down));
    for dtype in ["F32", "BF16", "F16"] {
        same(dtype, dtype, floats("gate_up_proj", dtype, up), floats("down_proj", dtype, down));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (up, down) = ((2, 64, 64), (2, 64, 32));
    let whole = || [blocks("gate_up_proj", up).0, blocks("down_proj", down).0].concat();
    let of_floats = || [floats("gate_up_proj", "BF16", up).0, floats("down_proj", "BF16", down).0].concat();
    let check = |mut tensors: Vec<RawTensor>, change: &dyn Fn(&mut Vec<RawTensor>), says: &str| {
        change(&mut tensors);
        let dir = folder(&tensors).temp("woven");
        let error = open(dir.path()).err().unwrap_or_else(|| panic!("it was read; it should say {says}")).to_string();
        assert!(error.contains("model.safetensors") && error.contains(&format!("{STEM}.{says}")), "{error}\n{says}");
    };
    check(whole(), &|t| drop(t.remove(0)), "gate_up_proj_blocks: is missing");
    check(whole(), &|t| drop(t.remove(1)), "gate_up_proj_scales: is missing");
    check(whole(), &|t| drop(t.remove(2)), "gate_up_proj_bias: is missing");
    check(whole(), &|t| t.truncate(3), "down_proj_bias: is missing");
    check(of_floats(), &|t| drop(t.remove(0)), "gate_up_proj: is missing");
    check(
        whole(),
        &|t| t.push(floats("down_proj", "BF16", down).0.remove(0)),
        "down_proj: is there twice: in floats, and in MXFP4",
    );
    check(whole(), &|t| t[0].dtype = "I8", "gate_up_proj_blocks: is I8; U8 is needed");
    check(whole(), &|t| t[1].dtype = "I8", "gate_up_proj_scales: is I8; U8 is needed");
    check(
        whole(),
        &|t| (t[2].dtype, t[2].dims[1]) = ("I32", 32),
        "gate_up_proj_bias: is I32; F32, F16 or BF16 is needed",
    );
    check(
        of_floats(),
        &|t| (t[0].dtype, t[0].dims[2]) = ("I32", 32),
        "gate_up_proj: is I32; F32, F16 or BF16 is needed",
    );
    check(
        whole(),
        &|t| t[0].dims = vec![2, 64, 1, 32],
        "gate_up_proj_blocks: has 128 blocks of 32 bytes; 256 of 16 bytes are needed, one for each scale",
    );
    check(
        whole(),
        &|t| t[1].dims = vec![2, 32, 4],
        "gate_up_proj_scales: is 64 x 4, beside biases of 2 experts and 64 outputs: a row is needed for each output",
    );
    check(whole(), &|t| t[2].dims = vec![128, 1], "gate_up_proj_bias: has 1 values for an expert, of 2 matrices");
    check(
        of_floats(),
        &|t| t[0].dims = vec![2, 32, 128],
        "gate_up_proj: is 64 x 128, beside biases of 2 experts and 64 outputs: a row is needed for each input",
    );
    let many = (5000, 2, 1);
    check(
        [floats("gate_up_proj", "BF16", many).0, floats("down_proj", "BF16", many).0].concat(),
        &|_| (),
        "gate_up_proj_bias: has 5000 rows, one for each expert; at most 4096 are read",
    );
    let single =
        |name: &str| RawTensor { name: format!("{STEM}.{name}"), dtype: "F32", dims: vec![1], bytes: vec![0; 4] };
    check(whole(), &|t| t.push(single("1.up_proj.bias")), "1.up_proj.bias: is there twice: as it is, and in pieces");
    check(of_floats(), &|t| t[1].dims = vec![1, 128], "gate_up_proj: is 128 x 64, beside biases of 1 experts");
}

#[test]
fn other_families_keep_such_names() {
    let tensors = floats("gate_up_proj", "BF16", (2, 64, 32)).0;
    let config = json!({"model_type": "qwen3_moe"});
    let dir = Folder::default()
        .json("config.json", &config)
        .file("model.safetensors", raw_safetensors(&tensors))
        .temp("woven");
    let checkpoint = open(dir.path()).unwrap();
    assert_eq!(checkpoint.names(), [format!("{STEM}.gate_up_proj"), format!("{STEM}.gate_up_proj_bias")]);
}
