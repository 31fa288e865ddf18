//! The same on the interpreter of the shipped PTX, and on a device where there is one: fewer cases for the first, all
//! kernels for both.

use super::*;
use nano_interpreter::Interpreter;
use nano_kernels::cuda::Driver;
use nano_kernels::cuda::device::Device;

/// Every kernel, wide and narrow heads, splits among them; every other one with sinks.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for format in FORMATS {
        for head_dim in [20, 96, 128, 256] {
            let mut decode = Case::new(3, head_dim, format, &[(40, 1)]);
            let mut prefill = Case::new(2, head_dim, format, &[(45, 9)]);
            for case in [&mut decode, &mut prefill] {
                case.kv_heads = 1;
                case.precision = Precision::Full;
                case.window = Some(35);
            }
            prefill.softcap = Some(4.0);
            let sinks = cases.len() % 4 < 2;
            cases.extend([if sinks { decode.with_sinks() } else { decode }]);
            cases.extend([if sinks { prefill } else { prefill.with_sinks() }]);
        }
    }
    let split = Case::new(9, 64, KvFormat::F16, &[(600, 1), (1, 1), (33, 1)]);
    cases.extend([split.clone(), split.with_sinks()]);
    cases
}

fn attends<D: Driver>(open: impl Fn() -> D) {
    for case in cases() {
        let numbers = Numbers::new(&case, 9);
        let mut cuda = Cuda::new(open(), sizes(&case)).unwrap();
        let runs = found(&mut cuda, &case, &numbers, 3);
        for run in &runs {
            assert_near(run, &numbers.expected(&case), case.head_dim, 1e-6, &format!("{case:?}"));
        }
        assert!(runs[1] == runs[2], "{case:?}: other bits the second time");
    }
    for head_dim in [16, 72, 128, 256] {
        encoders::agrees(Cuda::new(open(), Sizes { rows: 64, logits: 8, pages: 1 }).unwrap(), 2, 1, head_dim, &[33, 5]);
    }
}

#[test]
fn the_interpreter_agrees() {
    for capability in [72, 87] {
        attends(|| Interpreter::new(capability).unwrap());
    }
}

#[test]
fn the_device_agrees() {
    match Device::open(0) {
        Ok(device) => {
            drop(device);
            attends(|| Device::open(0).unwrap());
        }
        Err(error) => println!("skipped: no CUDA device ({error})"),
    }
}
