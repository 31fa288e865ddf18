//! What does not fit together, or is not read: one clear error that names the tensor and the file, or the key.

use crate::weights::Weights;
use crate::{awq, compressed, folder, gptq};
use nano_models::open;
use nano_models::testing::{Folder, RawTensor, TestTensor, safetensors};
use serde_json::{Value, json};

const SHAPE: (usize, usize) = (16, 128);

/// The error of opening a folder, or of reading its tensor.
fn error(folder: &Folder) -> String {
    let dir = folder.temp("packed");
    let read = open(dir.path()).and_then(|checkpoint| checkpoint.tensor("a.weight").map(|_| ()));
    let error = read.err().unwrap_or_else(|| panic!("the folder was read")).to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

fn check(config: &Value, tensors: &[RawTensor], says: &str) {
    let error = error(&folder(config, tensors));
    assert!(error.contains(says), "{error}\nshould say {says}");
}

fn weights(bits: usize) -> Weights {
    Weights::new(1, bits, SHAPE, 64, (1, 8))
}

/// A config with one value changed; `/` leads into objects.
fn with(mut config: Value, path: &str, value: Value) -> Value {
    let inner = path.split('/').fold(&mut config, |config, key| &mut config[key]);
    *inner = value;
    config
}

#[test]
fn what_is_not_read_is_said_with_what_is() {
    let none: &[RawTensor] = &[];
    let group = "config_groups/group_0";
    let deep = |inner: &str| format!("{group}/{inner}");
    let ct = || compressed(4, Some(64), true);
    for (config, says) in [
        (
            with(awq(64), "quant_method", json!("fp8")),
            "quantization_config.quant_method is \"fp8\"; read are awq, gptq and compressed-tensors",
        ),
        (with(awq(64), "quant_method", Value::Null), "quantization_config.quant_method is missing; read are awq"),
        (with(awq(64), "quant_method", json!(3)), "quantization_config.quant_method is 3; a text is needed"),
        (with(awq(64), "bits", json!(3)), "quantization_config.bits is 3; read are 4"),
        (
            with(awq(64), "version", json!("GEMV")),
            "quantization_config.version is \"gemv\", an order of one kernel's own; only gemm is read",
        ),
        (awq(48), "quantization_config.group_size is 48; multiples of 32 are read, and -1 for one group in each row"),
        (awq(16), "quantization_config.group_size is 16;"),
        (awq(0), "quantization_config.group_size is 0;"),
        (gptq(3, 64, "gptq"), "quantization_config.bits is 3; read are 4 and 8"),
        (with(gptq(4, 64, "gptq"), "bits", Value::Null), "quantization_config.bits is missing; read are 4 and 8"),
        (
            gptq(4, 64, "marlin"),
            "quantization_config.checkpoint_format is \"marlin\", an order of one kernel's own; gptq and gptq_v2 are read",
        ),
        (
            with(gptq(4, 64, "gptq"), "is_marlin_format", json!(true)),
            "quantization_config.is_marlin_format is \"true\"",
        ),
        (
            with(ct(), "format", json!("float-quantized")),
            "quantization_config.format is \"float-quantized\"; only pack-quantized with 4 or 8 bits is read",
        ),
        (with(ct(), "format", json!("nvfp4-pack-quantized")), "quantization_config.format is \"nvfp4-pack-quantized\""),
        (with(ct(), "config_groups", json!({})), "quantization_config.config_groups is missing or empty"),
        (
            with(ct(), "transform_config", json!({"config_groups": {"R1": {"type": "hadamard"}}})),
            "quantization_config.transform_config turns activations while the model runs",
        ),
        (
            with(ct(), &deep("weights/type"), json!("float")),
            "config_groups.group_0.weights.type is \"float\"; int is read",
        ),
        (
            with(ct(), &deep("weights/strategy"), json!("tensor")),
            "config_groups.group_0.weights.strategy is \"tensor\"; group and channel are read",
        ),
        (with(ct(), &deep("weights/num_bits"), json!(2)), "quantization_config.num_bits is 2; read are 4 and 8"),
        (
            with(ct(), &deep("input_activations"), json!({"num_bits": 8})),
            "config_groups.group_0.input_activations rounds activations to 8 bits",
        ),
        (with(ct(), &deep("format"), json!("int-quantized")), "config_groups.group_0.format is \"int-quantized\""),
    ] {
        check(&config, none, says);
    }
}

#[test]
fn pieces_that_do_not_fit_are_named() {
    let (w4, w8) = (weights(4), weights(8));
    let without = |mut tensors: Vec<RawTensor>, end: &str| {
        tensors.retain(|t| !t.name.ends_with(end));
        tensors
    };
    let changed = |mut tensors: Vec<RawTensor>, end: &str, change: &dyn Fn(&mut RawTensor)| {
        change(tensors.iter_mut().find(|t| t.name.ends_with(end)).unwrap());
        tensors
    };
    let flat = |t: &mut RawTensor| t.dims = vec![t.dims.iter().product()];
    let floats = |t: &mut RawTensor| t.dtype = "F32";
    let number = |value: i32| move |t: &mut RawTensor| t.bytes[8..12].copy_from_slice(&value.to_le_bytes());
    let (q4, ct) = (|| gptq(4, 64, "gptq"), || compressed(4, Some(64), false));
    let file = "model.safetensors: tensor a";
    for (config, tensors, says) in [
        (awq(64), without(w4.awq("a"), "scales"), format!("{file}.scales: is missing")),
        (awq(64), without(w4.awq("a"), "qzeros"), format!("{file}.qzeros: is missing")),
        (
            awq(64),
            changed(w4.awq("a"), "qzeros", &flat),
            format!(
                "{file}.weight: its zero points are 1 x 4, 16 bytes; beside 4-bit quants of 128 x 2 in groups of 64 they are 2 x 2"
            ),
        ),
        (
            awq(64),
            changed(w4.awq("a"), "scales", &flat),
            format!(
                "{file}.weight: its scales are 1 x 32, 64 bytes; beside 4-bit quants of 128 x 2 in groups of 64 they are 2 x 16"
            ),
        ),
        (awq(128), w4.awq("a"), format!("{file}.weight: its scales are 2 x 16")),
        (awq(64), changed(w4.awq("a"), "qweight", &floats), format!("{file}.qweight: is F32; I32 is needed")),
        (q4(), without(w4.gptq("a", 1), "qzeros"), format!("{file}.qzeros: is missing")),
        (
            gptq(8, 64, "gptq"),
            w4.gptq("a", 1),
            format!(
                "{file}.weight: its scales are 2 x 16, 64 bytes; beside 8-bit quants of 16 x 16 in groups of 64 they are 1 x 16"
            ),
        ),
        (
            q4(),
            w8.gptq("a", 1),
            format!(
                "{file}.weight: its scales are 2 x 16, 64 bytes; beside 4-bit quants of 32 x 16 in groups of 64 they are 4 x 16"
            ),
        ),
        (
            q4(),
            changed(w4.gptq("a", 1), "g_idx", &number(2)),
            format!("{file}.weight: its g_idx puts input 2 in group 2 of 2"),
        ),
        (
            q4(),
            changed(w4.gptq("a", 1), "g_idx", &number(-2)),
            format!("{file}.weight: its g_idx puts input 2 in group -2 of 2"),
        ),
        (
            q4(),
            changed(w4.gptq("a", 1), "g_idx", &number(1)),
            format!("{file}.weight: its g_idx puts 63 inputs in group 0; a multiple of 64 is read"),
        ),
        (
            q4(),
            changed(w4.gptq("a", 1), "g_idx", &|t| {
                t.dims = vec![64];
                t.bytes.truncate(256);
            }),
            format!("{file}.weight: its g_idx has 64 numbers for 128 inputs"),
        ),
        (ct(), without(w4.compressed("a", false), "zero_point"), format!("{file}.weight_zero_point: is missing")),
        (ct(), without(w4.compressed("a", false), "weight_scale"), format!("{file}.weight_scale: is missing")),
        (compressed(8, Some(64), true), w4.compressed("a", true), format!("{file}.weight: its scales are 16 x 2")),
    ] {
        check(&config, &tensors, &says);
    }
    let mut two = ct();
    two["config_groups"]["group_1"] = compressed(8, Some(128), true)["config_groups"]["group_0"].clone();
    let tensors = Weights::new(1, 4, SHAPE, 32, (1, 8)).compressed("a", true);
    check(
        &two,
        &tensors,
        "tensor a.weight_packed: its 16 x 16 words and 4 scales in each row fit none of the config_groups",
    );
    // Rows of 40 inputs cannot be read, whatever the groups.
    let odd = Weights::new(1, 4, (16, 40), 40, (8, 1));
    check(&awq(-1), &odd.awq("a"), "tensor a.weight: its groups of 40 inputs in rows of 40 are no whole number of 32");
}

#[test]
fn a_tensor_that_is_there_twice_and_integers_of_nobody_are_refused() {
    let mut tensors = weights(4).awq("a");
    let ids = RawTensor { name: "ids".into(), dtype: "I64", dims: vec![1], bytes: vec![0; 8] };
    tensors.push(ids);
    check(&awq(64), &tensors, "tensor ids: its dtype I64 is not supported");
    tensors.pop();
    tensors.push(RawTensor { name: "a.weight".into(), dtype: "F32", dims: vec![1, 1], bytes: vec![0; 4] });
    check(&awq(64), &tensors, "tensor a.weight: is there twice: as it is, and in pieces");
}

#[test]
fn a_folder_cut_at_every_byte_is_an_error() {
    let whole = folder(&gptq(4, 64, "gptq"), &Weights::new(1, 4, (8, 32), 32, (1, 8)).gptq("a", 1));
    let bytes = whole.files.iter().find(|(name, _)| name == "model.safetensors").unwrap().1.clone();
    for end in (0..bytes.len()).step_by(7) {
        let error = error(&whole.clone().file("model.safetensors", &bytes[..end]));
        assert!(error.starts_with("model.safetensors: "), "{end}: {error}");
    }
}

#[test]
fn scales_are_rounded_with_a_notice_or_refused() {
    let weights = weights(4);
    let scaled = |dtype: &'static str, value: &dyn Fn(usize) -> f32| {
        let mut tensors = weights.compressed("a", false);
        let scales = &mut tensors[1];
        let count = scales.bytes.len() / 2;
        scales.dtype = dtype;
        let bytes = |i: usize| match dtype {
            "BF16" => value(i).to_bits().to_le_bytes()[2..].to_vec(),
            _ => value(i).to_le_bytes().to_vec(),
        };
        scales.bytes = (0..count).flat_map(bytes).collect();
        folder(&compressed(4, Some(64), false), &tensors).temp("packed")
    };
    let notices = |dir: &nano_models::testing::TempDir| {
        let checkpoint = open(dir.path()).unwrap();
        assert!(checkpoint.notices().is_empty(), "nothing is read yet");
        checkpoint.tensor("a.weight").unwrap().unwrap();
        checkpoint.tensor("a.weight").unwrap().unwrap();
        checkpoint.notices()
    };
    // Eight bits of precision fit, down to where float16 has fewer.
    let exact = scaled("BF16", &|i| (1.0 + i as f32 / 128.0) * 2f32.powi(-17));
    assert!(notices(&exact).is_empty());
    let fine = scaled("F32", &|i| if i < 3 { 0.1 } else { 0.5 });
    assert_eq!(notices(&fine), ["3 scales of tensor a.weight were rounded to float16, in which scales are held"]);
    let low = scaled("BF16", &|i| (1.0 + i as f32 / 128.0) * 2f32.powi(-20));
    assert_eq!(notices(&low).len(), 1);
    let large = scaled("BF16", &|_| 1e6);
    let error = open(large.path()).unwrap().tensor("a.weight").unwrap_err().to_string();
    assert!(error.contains("tensor a.weight: its scale") && error.contains("larger than any float16"), "{error}");
}

#[test]
fn older_repositories_are_found() {
    let weights = weights(4);
    let plain = |tensors: &[RawTensor]| {
        Folder::default()
            .json("config.json", &json!({"model_type": "llama"}))
            .file("gptq_model-4bit-64g.safetensors", nano_models::testing::raw_safetensors(tensors))
    };
    let gptq = plain(&weights.gptq("a", 1))
        .json("quantize_config.json", &json!({"bits": 4, "group_size": 64, "desc_act": false, "sym": true}));
    let awq = plain(&weights.awq("a"))
        .json("quant_config.json", &json!({"w_bit": 4, "q_group_size": 64, "zero_point": true, "version": "GEMM"}));
    for (folder, says) in [(gptq, "GPTQ, 4 bits, groups of 64"), (awq, "AWQ, 4 bits, groups of 64")] {
        let dir = folder.temp("packed");
        let checkpoint = open(dir.path()).unwrap();
        assert_eq!(checkpoint.quantized(), Some(says));
        assert_eq!(checkpoint.tensor("a.weight").unwrap().unwrap().to_f32(), weights.values());
    }
    // Without such a file, it is another tool's.
    let tensors = [TestTensor::f32("a", &[1, 1], &[1.0])];
    let other = Folder::default()
        .json("config.json", &json!({"model_type": "llama"}))
        .file("other.safetensors", safetensors(&tensors));
    assert!(error(&other).contains("other.safetensors is there, which is not read"));
}
