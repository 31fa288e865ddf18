//! From images to kernels that can be launched: everything is loaded when a device is opened, nothing while a step runs or
//! is recorded.

use super::context::Context;
use super::images::{self, Entry};
use super::{fault, nvrtc};
use crate::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction_attribute as Of, CUjit_option as Jit};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// Bytes for what the driver's compiler has to say.
const LOG: usize = 8192;

/// The kernels of a device, by name.
pub struct Kernels {
    functions: HashMap<String, Function>,
    modules: Vec<sys::CUmodule>,
    context: Arc<Context>,
}

/// A kernel that can be launched.
pub struct Function {
    /// The driver's handle.
    pub handle: sys::CUfunction,
    /// Bytes of each parameter.
    pub params: Vec<u8>,
}

// SAFETY: handles that one thread at a time uses, with the context made current first.
unsafe impl Send for Kernels {}

impl Kernels {
    /// Loads the kernels for the device: those of this program, or what NVRTC makes of their sources if a
    /// developer wants that.
    pub fn load(context: &Arc<Context>) -> Result<Self> {
        context.ready()?;
        let capability = context.about().capability;
        let mut kernels = Self { functions: HashMap::new(), modules: Vec::new(), context: Arc::clone(context) };
        if let Some(library) = nvrtc::library() {
            images::target(capability)?;
            for compiled in nvrtc::compile(&library, images::sources(), capability)? {
                kernels.add(&compiled.name, &compiled.code, &compiled.ptx)?;
            }
            return Ok(kernels);
        }
        for image in images::images(capability)? {
            let text = CString::new(image.ptx).map_err(|_| Error::Device(format!("{} is no text", image.name)))?;
            kernels.add(image.name, text.as_bytes_with_nul(), image.ptx)?;
        }
        Ok(kernels)
    }

    /// The kernel of this name.
    pub fn get(&self, name: &str) -> Result<&Function> {
        self.functions.get(name).ok_or_else(|| {
            let capability = self.context.about().capability;
            let (major, minor) = (capability / 10, capability % 10);
            Error::Device(format!("this build has no kernel {name} for compute capability {major}.{minor}"))
        })
    }

    /// Loads `code` (PTX that ends in a zero, or machine code) and all kernels that `ptx` tells of.
    fn add(&mut self, name: &str, code: &[u8], ptx: &str) -> Result<()> {
        let module = self.module(name, code)?;
        self.modules.push(module);
        for Entry { name, params } in images::entries(ptx) {
            let handle = self.function(module, &name)?;
            self.functions.insert(name, Function { handle, params });
        }
        Ok(())
    }

    fn module(&self, name: &str, code: &[u8]) -> Result<sys::CUmodule> {
        let mut log = [0_u8; LOG];
        let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        // The second value is the number itself.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG)];
        let mut module = std::ptr::null_mut();
        // SAFETY: `code` is a whole image; the pointers are good for the call; there are two options with their values, and
        // the buffer has as many bytes as the second one says.
        let loaded = unsafe {
            let count = options.len() as u32;
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            sys::cuModuleLoadDataEx(&mut module, code.as_ptr().cast(), count, options, values).result()
        };
        match loaded {
            Ok(()) => Ok(module),
            Err(error) if fault::is_fatal(error.0) => self.context.check("loading kernels", Err(error)),
            Err(error) => {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG);
                let log = String::from_utf8_lossy(&log[..end]);
                Err(fault::explain(&format!("loading kernels ({name})"), error.0, &log))
            }
        }
    }

    /// A kernel that is wholly on the device and may use all shared memory that the device lets a block have.
    fn function(&self, module: sys::CUmodule, name: &str) -> Result<sys::CUfunction> {
        let doing = || format!("loading kernel {name}");
        let nul = |_| Error::Device(format!("{name:?} is no name of a kernel"));
        let text = CString::new(name).map_err(nul)?;
        let set = |handle: sys::CUfunction| -> std::result::Result<(), DriverError> {
            // Newer drivers load kernels when they are first launched, which must not happen in a recording.
            // SAFETY: the symbol is looked at, not called.
            if unsafe { sys::culib().get::<*const ()>(b"cuFuncLoad").is_ok() } {
                // SAFETY: the handle is good and the driver has the function.
                unsafe { sys::cuFuncLoad(handle) }.result()?;
            }
            // SAFETY: the handle is good.
            unsafe {
                let fixed = result::function::get_function_attribute(handle, Of::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
                let most = self.context.about().shared_bytes as i32 - fixed;
                let dynamic = Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(handle, dynamic, most.max(0))
            }
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: the module is loaded, and the name and the pointer are good for the call.
        let found = unsafe { sys::cuModuleGetFunction(&mut handle, module, text.as_ptr()) }.result();
        self.context.check(&doing(), found.and_then(|()| set(handle)))?;
        Ok(handle)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.ready().is_ok() {
            for module in &self.modules {
                // SAFETY: loaded in this context and unloaded once; nothing of it runs any more, see `Device`.
                let _ = self.context.check("unloading kernels", unsafe { result::module::unload(*module) });
            }
        }
    }
}
