//! Packed weights that an earlier load kept: they give the same bits, and whatever happens to their file, the model loads.

#[path = "session/mod.rs"]
#[allow(dead_code)]
mod session;

use nano_emulator::{Emulator, Options};
use nano_kernels::cpu::Cpu;
use nano_kernels::cuda::{Cuda, Sizes};
use nano_kernels::{Backend, KvFormat};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{PackedCache, Quantization, open};
use session::Session;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const Q8: Option<Quantization> = Some(Quantization::Q8F16);

fn cache(folder: &Path) -> PackedCache {
    PackedCache { folder: folder.to_path_buf(), limit: 1 << 30, least: 1 }
}

/// What came of a load.
struct Loaded {
    logits: Vec<Vec<f32>>,
    notices: Vec<String>,
    /// Whether packed weights were written.
    wrote: bool,
    step_bytes: u64,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("wrote", &self.wrote).field("notices", &self.notices).finish_non_exhaustive()
    }
}

impl Loaded {
    fn says(&self, word: &str) -> bool {
        self.notices.iter().any(|notice| notice.contains(word))
    }
}

fn load(model: &Path, quantization: Option<Quantization>, cache: Option<&PackedCache>) -> Loaded {
    load_on(Cpu::new(2).unwrap(), model, quantization, cache)
}

fn load_on<B: Backend>(
    machine: B,
    model: &Path,
    quantization: Option<Quantization>,
    cache: Option<&PackedCache>,
) -> Loaded {
    let checkpoint = open(model).unwrap();
    let mut session = Session::packed(machine, &*checkpoint, quantization, KvFormat::F16, cache);
    let logits = session.feed(&[1, 5, 9, 44, 7]);
    let decoder = &session.decoder;
    let (notices, wrote) = (decoder.notices().to_vec(), decoder.kept().is_some());
    Loaded { logits, notices, wrote, step_bytes: decoder.step_bytes() }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A model, its packed weights, and what a load without them gives.
struct Kept {
    dir: TempDir,
    model: PathBuf,
    cache: PackedCache,
    file: PathBuf,
    expected: Vec<Vec<f32>>,
}

impl Kept {
    fn new() -> Self {
        let dir = TempDir::new("store");
        let model = dir.write("model.gguf", Tiny::default().gguf());
        let cache = cache(&dir.path().join("packed"));
        let expected = load(&model, Q8, None).logits;
        assert!(load(&model, Q8, Some(&cache)).wrote);
        let file = files(&cache.folder).remove(0);
        Kept { dir, model, cache, file, expected }
    }

    fn load(&self) -> Loaded {
        load(&self.model, Q8, Some(&self.cache))
    }
}

#[test]
fn the_second_start_has_the_bits_of_the_first() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let dir = TempDir::new("store-all");
    let folder = Tiny { bias: true, tied: true, ..Tiny::default() }.folder(2).temp("store-folder");
    let mut models = vec![dir.write("model.gguf", Tiny::default().gguf()), folder.path().to_path_buf()];
    // With experts: one by one in the folder, stacked in the file.
    models.extend(["tiny/mixtral", "tiny/mixtral/model.gguf"].map(|name| goldens.join(name)));
    for (i, model) in models.iter().enumerate() {
        for quantization in [Quantization::Q4F16, Quantization::Q8F16] {
            let cache = cache(&dir.path().join(format!("packed-{i}")));
            let plain = load(model, Some(quantization), None);
            let first = load(model, Some(quantization), Some(&cache));
            let second = load(model, Some(quantization), Some(&cache));
            assert!(first.wrote && !second.wrote, "{model:?}: {first:?} {second:?}");
            assert!(plain.logits == first.logits && first.logits == second.logits, "{model:?} {quantization:?}");
            assert_eq!((&plain.notices, plain.step_bytes), (&first.notices, first.step_bytes));
            assert_eq!((&first.notices, first.step_bytes), (&second.notices, second.step_bytes));
        }
        assert_eq!(files(&dir.path().join(format!("packed-{i}"))).len(), 2, "one for each format");
    }
}

#[test]
fn a_gpu_has_files_of_its_own() {
    let dir = TempDir::new("store-cuda");
    let model = dir.write("model.gguf", Tiny { bias: true, ..Tiny::default() }.gguf());
    let cache = cache(&dir.path().join("packed"));
    let sizes = Sizes { rows: session::ROWS, logits: session::ROWS, pages: session::ROWS / 32 };
    for quantization in [Quantization::Q4F16, Quantization::Q8F16] {
        let run = |cache| {
            let cuda = Cuda::new(Emulator::new(Options::default()).unwrap(), sizes).unwrap();
            load_on(cuda, &model, Some(quantization), cache)
        };
        let [plain, first, second] = [None, Some(&cache), Some(&cache)].map(run);
        assert!(first.wrote && !second.wrote, "{first:?} {second:?}");
        assert!(plain.logits == first.logits && first.logits == second.logits, "{quantization:?}");
        assert_eq!((&plain.notices, plain.step_bytes), (&second.notices, second.step_bytes));
        assert!(load(&model, Some(quantization), Some(&cache)).wrote, "the processor has its own");
    }
    assert_eq!(files(&cache.folder).len(), 4);
}

#[test]
fn what_is_broken_in_the_model_is_told_again() {
    let tiny = Tiny::default();
    let dir = TempDir::new("store-broken");
    let mut bytes = tiny.gguf();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let (model, cache) = (dir.write("model.gguf", bytes), cache(&dir.path().join("packed")));
    for _ in 0..2 {
        assert!(load(&model, Q8, Some(&cache)).says("not finite"));
    }
}

#[test]
fn another_time_size_or_content_of_the_model_makes_them_stale() {
    let kept = Kept::new();
    let touch = |time: SystemTime| File::options().append(true).open(&kept.model).unwrap().set_modified(time).unwrap();
    let time = std::fs::metadata(&kept.model).unwrap().modified().unwrap();
    let stale = || {
        let loaded = kept.load();
        assert!(loaded.wrote && loaded.says("changed"), "{loaded:?}");
        let again = kept.load();
        assert!(!again.wrote && again.notices.is_empty() && again.logits == loaded.logits, "{again:?}");
        assert_eq!(files(&kept.cache.folder).len(), 1);
        loaded
    };
    touch(time + Duration::from_secs(1));
    assert!(stale().logits == kept.expected);
    std::fs::write(&kept.model, [&Tiny::default().gguf()[..], &[0; 32]].concat()).unwrap();
    touch(time + Duration::from_secs(1));
    assert!(stale().logits == kept.expected);
    let bytes = Tiny { seed: 2, ..Tiny::default() }.gguf();
    std::fs::write(&kept.model, [&bytes[..], &[0; 32]].concat()).unwrap();
    touch(time + Duration::from_secs(1));
    assert!(stale().logits != kept.expected);
    assert!(kept.dir.path().is_dir());
}

#[test]
fn of_another_version_or_model_they_are_stale() {
    let kept = Kept::new();
    let other = Kept::new();
    std::fs::copy(&other.file, &kept.file).unwrap();
    let loaded = kept.load();
    assert!(loaded.wrote && loaded.says("changed") && loaded.logits == kept.expected, "{loaded:?}");
}

#[test]
fn damage_is_found_and_mended() {
    let kept = Kept::new();
    let whole = std::fs::read(&kept.file).unwrap();
    let mut harmless = 0;
    let mut check = |bytes: &[u8], what: String| {
        std::fs::write(&kept.file, bytes).unwrap();
        let loaded = kept.load();
        assert!(loaded.logits == kept.expected, "{what}");
        assert_eq!(loaded.wrote, loaded.says("made anew"), "{what}: {loaded:?}");
        harmless += usize::from(!loaded.wrote);
        assert!(kept.load().notices.is_empty(), "{what}: not mended");
    };
    for len in [1, 8, 100, whole.len() / 2, whole.len() - 1] {
        check(&whole[..len], format!("{len} bytes"));
    }
    // In the weights, and all over the index and the trailer.
    let ends = whole.len() - 50..whole.len();
    for at in (0..whole.len()).step_by(whole.len() / 25).chain(0..9).chain(ends) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        check(&bytes, format!("byte {at} of {}", bytes.len()));
    }
    assert!(harmless <= 2, "{harmless} changes were not seen: only padding is not looked at");
}

#[test]
fn starts_at_the_same_time_do_not_meet() {
    let kept = Kept::new();
    for _ in 0..4 {
        std::fs::remove_file(&kept.file).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(kept.load().logits == kept.expected));
            }
        });
        assert_eq!(files(&kept.cache.folder), std::slice::from_ref(&kept.file), "nothing is left but the file");
        let last = kept.load();
        assert!(!last.wrote && last.notices.is_empty(), "{last:?}");
    }
}

/// Not a test: a process of its own.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let Ok(paths) = std::env::var("NANO_STORE_TEST") else { return };
    let (model, folder) = paths.split_once('\n').unwrap();
    let loaded = load(Path::new(model), Q8, Some(&cache(Path::new(folder))));
    assert!(loaded.notices.is_empty(), "{loaded:?}");
}

#[test]
fn processes_do_not_meet_either() {
    let kept = Kept::new();
    std::fs::remove_file(&kept.file).unwrap();
    let start = |_| {
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "child", "--ignored"]).stdout(std::process::Stdio::null());
        let paths = format!("{}\n{}", kept.model.display(), kept.cache.folder.display());
        program.env("NANO_STORE_TEST", paths).spawn().unwrap()
    };
    for mut child in (0..3).map(start).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(files(&kept.cache.folder), std::slice::from_ref(&kept.file));
    let last = kept.load();
    assert!(!last.wrote && last.notices.is_empty() && last.logits == kept.expected, "{last:?}");
}

#[test]
fn those_not_used_for_longest_go_first() {
    let dir = TempDir::new("store-prune");
    let models: Vec<PathBuf> =
        (1..4).map(|seed| dir.write(&format!("m{seed}.gguf"), Tiny { seed, ..Tiny::default() }.gguf())).collect();
    let wide = cache(&dir.path().join("packed"));
    for model in &models {
        assert!(load(model, Q8, Some(&wide)).wrote);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!load(&models[0], Q8, Some(&wide)).wrote);
    let list = wide.list().unwrap();
    let names = |list: &[nano_models::KeptModel]| list.iter().map(|kept| kept.model.clone()).collect::<Vec<_>>();
    assert_eq!(names(&list), ["m1.gguf", "m3.gguf", "m2.gguf"]);
    assert!(list.iter().all(|kept| kept.format == "q8f16 (cpu-2)" && kept.bytes > 50_000), "{list:?}");

    let gone = wide.prune(2 * list[0].bytes + 1000).unwrap();
    assert_eq!(names(&gone), ["m2.gguf"]);
    // A write makes room for itself.
    let tight = PackedCache { limit: list[0].bytes + 1000, ..wide.clone() };
    assert!(load(&models[1], Q8, Some(&tight)).wrote);
    assert_eq!(names(&wide.list().unwrap()), ["m2.gguf"]);
    // What does not fit is not written.
    let none = PackedCache { limit: 1000, ..wide.clone() };
    assert!(!load(&models[2], Q8, Some(&none)).wrote);
    assert_eq!(wide.prune(0).unwrap().len(), 1);
    assert!(files(&wide.folder).is_empty());
}

#[test]
fn nothing_is_written_unless_it_is_worth_it() {
    let dir = TempDir::new("store-none");
    let model = dir.write("model.gguf", Tiny::default().gguf());
    let packed = dir.path().join("packed");
    for (quantization, cache) in
        [(Q8, None), (None, Some(cache(&packed))), (Q8, Some(PackedCache { least: 1 << 30, ..cache(&packed) }))]
    {
        assert!(!load(&model, quantization, cache.as_ref()).wrote);
        assert!(!packed.exists());
    }
}

#[test]
fn a_folder_that_cannot_be_written_costs_a_notice() {
    let dir = TempDir::new("store-nowhere");
    let model = dir.write("model.gguf", Tiny::default().gguf());
    let cache = cache(&model.join("packed"));
    for _ in 0..2 {
        let loaded = load(&model, Q8, Some(&cache));
        assert!(!loaded.wrote && loaded.notices.len() == 1 && loaded.says("not kept"), "{loaded:?}");
    }
}
