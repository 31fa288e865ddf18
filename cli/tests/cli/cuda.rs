//! The program's whole CUDA path without a GPU: the driver's library is the emulator (`kernels/emulator/examples/driver.rs`),
//! which tests of the whole workspace build. On a machine with a GPU the same is done by `scripts/gpu-check`.

use super::harness::{BYE, HELLO, Model, Ran, parrot, run};
use nano_models::testing::TempDir;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder with the emulated driver, if it was built.
fn driver() -> Option<TempDir> {
    let library = Path::new(env!("CARGO_BIN_EXE_nano-chat")).with_file_name("examples").join("libdriver.so");
    if !library.exists() {
        println!("skipped: the emulated CUDA driver is not built; cargo test --workspace builds it");
        return None;
    }
    let folder = TempDir::new("driver");
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).unwrap();
    }
    Some(folder)
}

struct Machine {
    driver: TempDir,
    model: Model,
}

impl Machine {
    fn new() -> Option<Self> {
        Some(Self { driver: driver()?, model: Model::new(&parrot()) })
    }

    /// The program with the parrot on this machine, whose properties are `emulated`.
    fn run(&self, emulated: &[(&str, &str)], args: &[&str], stdin: &str) -> Ran {
        let mut command = self.model.command(args);
        command.env("LD_LIBRARY_PATH", self.driver.path());
        emulated.iter().for_each(|(name, value)| {
            command.env(name, value);
        });
        run(command, stdin)
    }

    fn info(&self, emulated: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = super::harness::nano(self.model.dir.path());
        command.arg("info").args(args).env("LD_LIBRARY_PATH", self.driver.path());
        command.envs(emulated.iter().copied());
        run(command, "")
    }
}

#[test]
fn a_chat_on_the_gpu_says_what_it_says_on_the_processor() {
    let Some(machine) = Machine::new() else { return };
    for capability in ["87", "72"] {
        let emulated = [("EMULATED_CAPABILITY", capability)];
        let ran = machine.run(&emulated, &["--device", "cuda"], "hi\nhi\nhi\n").succeeded();
        assert_eq!(ran.text(), format!("{HELLO}\n{BYE}\n{HELLO}\n"), "{}", ran.stderr);
        let plan = ran.stderr.lines().next().unwrap_or_default();
        assert!(plan.starts_with("note: cuda: ") && plan.contains(" weights, "), "{}", ran.stderr);
        // Without being asked, too; drawn at random, from the few that the device chose.
        let drawn = ["--json", "--top-k", "5", "--seed", "1", "--temperature", "0.1"];
        let events = machine.run(&emulated, &drawn, "hi\n").succeeded().events();
        assert_eq!(said(&events), HELLO);
    }
}

/// Rows in a session file are in a form that machines share.
#[test]
fn a_session_goes_on_on_another_machine() {
    let Some(machine) = Machine::new() else { return };
    for devices in [["cuda", "cpu"], ["cpu", "cuda"], ["cuda", "cuda"]] {
        let file = machine.driver.path().join(format!("{}.session", devices.concat()));
        let file = file.to_str().unwrap();
        let mut reused = Vec::new();
        for (device, expected) in devices.iter().zip([HELLO, BYE]) {
            let ran = machine.run(&[], &["--device", device, "--session", file, "--json"], "hi\n").succeeded();
            let events = ran.events();
            assert_eq!(said(&events), expected, "{devices:?}: {}", ran.stderr);
            reused.extend(events.iter().filter_map(|event| event["stats"]["reused_tokens"].as_u64()));
        }
        assert!(matches!(reused[..], [0, more] if more > 0), "{devices:?}: {reused:?}");
    }
}

fn said(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["text"].as_str()).collect()
}

#[test]
fn the_device_and_a_models_plan_are_shown() {
    let Some(machine) = Machine::new() else { return };
    let gpu = machine.info(&[], &["--device", "cuda", "--json"]).succeeded().json();
    assert_eq!((&gpu["name"], &gpu["compute_capability"]), (&"Emulated GPU".into(), &"8.7".into()));
    assert_eq!((&gpu["driver_cuda"], &gpu["l2_bytes"]), (&"12.6".into(), &(4 << 20).into()));
    assert!(gpu["copy_gb_s"].as_f64().unwrap() > 0.0, "{gpu}");
    assert!(gpu["memory"]["free_bytes"].as_u64().unwrap() <= 2 << 30, "{gpu}");
    let text = machine.info(&[], &["--device", "auto"]).succeeded().text();
    assert!(text.contains("cuda, Emulated GPU") && text.contains("for CUDA 12.6"), "{text}");
    let plan = machine.run(&[], &["info", "--device", "cuda", "--json"], "").succeeded().json();
    assert_eq!((&plan["device"], &plan["gpu"]), (&"cuda".into(), &"Emulated GPU".into()));
    assert!(plan["memory"]["workspace_bytes"].as_u64().unwrap() > 64 << 20, "{plan}");
}

#[test]
fn a_bench_tells_launches() {
    let Some(machine) = Machine::new() else { return };
    let args = ["bench", "--device", "cuda", "-p", "8", "-n", "4", "-r", "1", "--json"];
    let ran = machine.run(&[], &args, "").succeeded().json();
    assert_eq!(ran["device"], "cuda: Emulated GPU");
    assert!((5..40).contains(&ran["gpu"]["launches_per_token"].as_u64().unwrap()), "{ran}");
    assert!(ran["results"].as_array().unwrap().iter().all(|r| r["bandwidth_pct"].as_f64().unwrap() > 0.0), "{ran}");
}

#[test]
fn machines_that_will_not_do_are_told_and_auto_takes_the_processor() {
    let Some(machine) = Machine::new() else { return };
    for (property, words) in [
        (("EMULATED_DRIVER", "11020"), ["CUDA 11.2", "11.4 or newer"]),
        (("EMULATED_CAPABILITY", "70"), ["capability 7.0", "7.2 or newer"]),
    ] {
        machine.run(&[property], &["--device", "cuda"], "hi\n").failed_with(&words).failed_with(&["--device cpu"]);
        let ran = machine.run(&[property], &[], "hi\n").succeeded();
        assert_eq!(ran.text(), format!("{HELLO}\n"));
        assert!(
            ran.stderr.contains("warning: the GPU is not used: ") && ran.stderr.contains(words[0]),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn memory_that_is_not_there_is_refused_with_numbers() {
    let Some(machine) = Machine::new() else { return };
    let small = [("EMULATED_MEMORY", "8000000")];
    machine.run(&small, &["--device", "cuda"], "hi\n").failed_with(&["bytes of memory", "may be used"]);
    // Who insists is told what did not fit.
    let words = ["bytes of GPU memory cannot be had", "are free"];
    machine.run(&small, &["--device", "cuda", "--memory", "8G"], "hi\n").failed_with(&words);
}

#[test]
fn a_lost_gpu_is_an_error_of_every_reply_from_then_on() {
    let Some(machine) = Machine::new() else { return };
    // Enough for the first reply, not for the second.
    let lost = [("EMULATED_LAUNCHES", "40")];
    let ran = machine.run(&lost, &["--device", "cuda", "--json"], "hi\nhi\nhi\nhi\nhi\nhi\nhi\nhi\n");
    assert_eq!(ran.stderr.matches("panicked").count(), 0, "{}", ran.stderr);
    let events = ran.events();
    let errors: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    assert!(errors.len() >= 2, "{events:?}");
    assert!(errors.iter().all(|e| e.contains("the GPU was lost (") && e.contains("reload the model")), "{errors:?}");
}

/// What a developer compiles is named when it cannot be.
#[test]
fn the_developers_switch_names_its_library() {
    let Some(machine) = Machine::new() else { return };
    let nowhere = PathBuf::from("/nowhere/libnvrtc.so").display().to_string();
    let switch = [("NANO_NVRTC", nowhere.as_str())];
    machine.run(&switch, &["--device", "cuda"], "hi\n").failed_with(&["NANO_NVRTC", "/nowhere/libnvrtc.so"]);
}
