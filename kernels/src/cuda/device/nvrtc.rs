//! The developers' switch: compiling the kernels' sources on the device's machine, with an NVRTC that an environment
//! variable names. What is shipped needs none of this.

use crate::{Error, Result};
use libloading::{Library, Symbol};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// Names the library, as in `NANO_NVRTC=/usr/local/cuda/lib64/libnvrtc.so`. The one variable that this crate reads.
const VARIABLE: &str = "NANO_NVRTC";

/// The library to compile with, if that is wanted.
pub fn library() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

/// A compiled source.
#[derive(Debug)]
pub struct Compiled {
    /// Its file.
    pub name: String,
    /// Machine code.
    pub code: Vec<u8>,
    /// The PTX that was on the way, for the kernels' names and parameters.
    pub ptx: String,
}

/// Compiles all `.cu` among `sources` for a device of this compute capability (times ten); the others are headers.
pub fn compile(library: &Path, sources: &[(&str, &str)], capability: u32) -> Result<Vec<Compiled>> {
    let nvrtc = Nvrtc::open(library)?;
    let text = |text: &str| CString::new(text).map_err(|_| Error::Device("a kernel's source has a zero byte".into()));
    let mut headers = (Vec::new(), Vec::new());
    for (name, source) in sources.iter().filter(|(name, _)| name.ends_with(".cuh")) {
        headers.0.push(text(source)?);
        headers.1.push(text(name)?);
    }
    let programs = sources.iter().filter(|(name, _)| name.ends_with(".cu"));
    let compiled = programs.map(|(name, source)| nvrtc.program(name, &text(source)?, &headers, capability));
    // A source may hold kernels for one generation of devices only.
    Ok(compiled.collect::<Result<Vec<_>>>()?.into_iter().filter(|c| c.ptx.contains(".entry")).collect())
}

/// `nvrtcProgram`
type Program = *mut c_void;
/// `nvrtcResult`; 0 is success.
type Status = c_int;
type Texts = *const *const c_char;
type Create = unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> Status;
type Compile = unsafe extern "C" fn(Program, c_int, Texts) -> Status;
type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type Destroy = unsafe extern "C" fn(*mut Program) -> Status;

struct Nvrtc {
    library: Library,
}

impl Nvrtc {
    fn open(path: &Path) -> Result<Self> {
        // SAFETY: the developer names a library whose initialisation they want to run.
        let library = unsafe { Library::new(path) };
        let why = |error| Error::Device(format!("{VARIABLE} is {}, which cannot be loaded: {error}", path.display()));
        Ok(Self { library: library.map_err(why)? })
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` must be its type in `nvrtc.h`.
    unsafe fn call<F>(&self, name: &str) -> Result<Symbol<'_, F>> {
        // SAFETY: the caller names the right type.
        let found = unsafe { self.library.get::<F>(name) };
        found.map_err(|_| {
            Error::Device(format!("{VARIABLE} names a library without {name}: NVRTC 11.2 or newer is needed"))
        })
    }

    fn program(
        &self,
        name: &str,
        source: &CStr,
        headers: &(Vec<CString>, Vec<CString>),
        capability: u32,
    ) -> Result<Compiled> {
        let pointers = |list: &[CString]| list.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (texts, names) = (pointers(&headers.0), pointers(&headers.1));
        let options = [format!("--gpu-architecture=sm_{capability}"), "--std=c++17".to_owned()];
        let options = options.map(|option| CString::new(option).unwrap_or_default());
        let option_texts = pointers(&options);
        let file = CString::new(name).unwrap_or_default();
        let mut program = Open { nvrtc: self, program: null_mut() };
        // SAFETY: the types are those of nvrtc.h. All texts live until the end of this function, and the counts are those
        // of the lists.
        let status = unsafe {
            let create = self.call::<Create>("nvrtcCreateProgram")?;
            let (texts, names, count) = (texts.as_ptr(), names.as_ptr(), texts.len() as c_int);
            create(&mut program.program, source.as_ptr(), file.as_ptr(), count, texts, names)
        };
        if status != 0 {
            return Err(Error::Device(format!("{name}: NVRTC cannot be started (error {status})")));
        }
        // SAFETY: as above; the program was created.
        let status = unsafe {
            let compile = self.call::<Compile>("nvrtcCompileProgram")?;
            compile(program.program, option_texts.len() as c_int, option_texts.as_ptr())
        };
        if status != 0 {
            let log = String::from_utf8_lossy(&program.get("ProgramLog")?).trim().to_owned();
            return Err(Error::Device(format!("{name} for sm_{capability}: NVRTC says (error {status}):\n{log}")));
        }
        let ptx = String::from_utf8_lossy(&program.get("PTX")?).into_owned();
        Ok(Compiled { name: name.to_owned(), code: program.get("CUBIN")?, ptx })
    }
}

/// A program that NVRTC holds.
struct Open<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Open<'_> {
    /// What NVRTC has of this kind; texts without the zero at their end.
    fn get(&self, kind: &str) -> Result<Vec<u8>> {
        let mut size = 0;
        let name = format!("nvrtcGet{kind}Size");
        // SAFETY: the type is that of nvrtc.h, and the program was created.
        let mut status = unsafe { self.nvrtc.call::<Size>(&name)?(self.program, &mut size) };
        let mut bytes = vec![0_u8; size];
        if status == 0 && size > 0 {
            // SAFETY: as above, with room for as many bytes as it said.
            status =
                unsafe { self.nvrtc.call::<Get>(&format!("nvrtcGet{kind}"))?(self.program, bytes.as_mut_ptr().cast()) };
        }
        if status != 0 {
            return Err(Error::Device(format!("{name}: NVRTC answered error {status}")));
        }
        if kind != "CUBIN" && bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.program.is_null() {
            return;
        }
        // SAFETY: the type is that of nvrtc.h.
        if let Ok(destroy) = unsafe { self.nvrtc.call::<Destroy>("nvrtcDestroyProgram") } {
            // SAFETY: the program was created and is destroyed once.
            unsafe { destroy(&mut self.program) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_none_is_named() {
        let error = compile(Path::new("/nowhere/libnvrtc.so"), &[], 87).unwrap_err().to_string();
        assert!(error.contains(VARIABLE) && error.contains("/nowhere/libnvrtc.so"), "{error}");
    }

    /// Needs no GPU, but NVRTC: the one that `scripts/kernels` fetches.
    #[test]
    fn the_sources_compile_and_the_log_of_what_does_not_is_shown() {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cuda-tools");
        let folder = |name: &str| {
            std::fs::read_dir(&tools).ok()?.flatten().find(|e| e.file_name().to_string_lossy().starts_with(name))
        };
        let Some(wheel) = folder("nvidia-cuda-nvrtc") else {
            println!("skipped: NVRTC is not here; scripts/kernels check fetches it");
            return;
        };
        let library = wheel.path().join("nvidia/cuda_nvrtc/lib/libnvrtc.so.12");
        let header = ("one.cuh", "#define ONE 1.0f\n");
        let good = (
            "good.cu",
            "#include \"one.cuh\"\nextern \"C\" __global__ void good(float* p, unsigned n) { p[n] = ONE; }",
        );
        let empty = ("empty.cu", "#if __CUDA_ARCH__ < 100\nextern \"C\" __global__ void no() {}\n#endif\n");
        let compiled = compile(&library, &[header, good, empty], 87).unwrap();
        assert_eq!(compiled.len(), 1);
        assert!(compiled[0].code.starts_with(b"\x7fELF"), "machine code");
        let entries = super::super::images::entries(&compiled[0].ptx);
        assert_eq!((entries[0].name.as_str(), &entries[0].params[..]), ("good", &[8, 4][..]));
        let bad = ("bad.cu", "__global__ void bad() { nothing; }");
        let error = compile(&library, &[bad], 87).unwrap_err().to_string();
        assert!(error.contains("bad.cu") && error.contains("\"nothing\" is undefined"), "{error}");
        let error = compile(&library, &[good], 1).unwrap_err().to_string();
        assert!(error.contains("sm_1") && error.contains("gpu-architecture"), "{error}");
    }
}
