//! The way to a device: the driver's library, a context, one stream, and the memory of whether the device was lost. What is
//! done in the stream is not here.

use super::fault;
use super::free::free_bytes;
use crate::cuda::About;
use crate::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::{Arc, OnceLock};

/// The oldest CUDA version that a driver may be for: 11.4, of JetPack 5.
const OLDEST: u32 = 11040;

/// What is called of the driver's library. All of it is in 11.4; a library without one of them is not NVIDIA's, and calling
/// what is missing would end the program.
const CALLS: [&str; 45] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuStreamIsCapturing",
    "cuGraphInstantiateWithFlags",
    "cuGraphUpload",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuGetErrorName",
    "cuGetErrorString",
];

/// A device's context and stream. Threads may use it one after another; every use starts with [`ready`](Context::ready).
pub struct Context {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    about: About,
    /// Why nothing can be done any more.
    lost: OnceLock<String>,
}

impl Context {
    /// The device with this number, counted from 0.
    pub fn open(ordinal: usize) -> Result<Self> {
        if !super::has_driver() {
            return Err(Error::Device(
                "no NVIDIA driver was found (libcuda.so.1): install it, start the container with the GPU, or take \
                 --device cpu"
                    .into(),
            ));
        }
        // SAFETY: the library is there. The symbols are looked at, not called.
        let missing = CALLS.iter().find(|name| unsafe { sys::culib().get::<*const ()>(name.as_bytes()).is_err() });
        if let Some(name) = missing {
            return Err(Error::Device(format!(
                "the NVIDIA driver's library (libcuda.so.1) lacks {name}: install a driver for CUDA 11.4 or newer, or take \
                 --device cpu"
            )));
        }
        let opening = |error: DriverError| fault::explain("opening the GPU", error.0, "");
        let mut driver = 0;
        // SAFETY: the pointer is good for the call.
        unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(opening)?;
        let driver = version(driver)?;
        let count = CudaContext::device_count().map_err(opening)?;
        if ordinal >= count.max(0) as usize {
            return Err(match count {
                ..=0 => fault::explain("opening the GPU", sys::CUresult::CUDA_ERROR_NO_DEVICE, ""),
                _ => Error::Device(format!("there is no GPU {ordinal}: the driver finds {count}, counted from 0")),
            });
        }
        let context = CudaContext::new(ordinal).map_err(opening)?;
        // SAFETY: no memory is taken through cudarc's own types, which are what tracking is for. Its events would break
        // recordings.
        unsafe { context.disable_event_tracking() };
        let about = about(&context, driver).map_err(opening)?;
        let stream = context.new_stream().map_err(opening)?;
        Ok(Self { context, stream, about, lost: OnceLock::new() })
    }

    /// What is known of the device.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The stream in which everything is done.
    pub fn stream(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }

    /// Makes the context the calling thread's; an error if the device was lost.
    pub fn ready(&self) -> Result<()> {
        if let Some(why) = self.lost.get() {
            return Err(fault::lost(why));
        }
        self.check("using the GPU", self.context.bind_to_thread())
    }

    /// An answer of the driver while `doing` something. Remembers the answers after which the device is lost.
    pub fn check<T>(&self, doing: &str, answer: std::result::Result<T, DriverError>) -> Result<T> {
        answer.map_err(|error| {
            if !fault::is_fatal(error.0) {
                return fault::explain(doing, error.0, "");
            }
            fault::lost(self.lost.get_or_init(|| fault::explain(doing, error.0, "").to_string()))
        })
    }

    /// A number that the driver knows of the device; 0 if it does not.
    pub fn attribute(&self, attribute: Attribute) -> u32 {
        self.context.attribute(attribute).unwrap_or(0).max(0) as u32
    }

    /// Bytes that can still be taken.
    pub fn free_bytes(&self) -> Result<u64> {
        self.ready()?;
        let (free, total) = self.check("asking for free memory", result::mem_get_info())?;
        let integrated = self.about.integrated;
        let meminfo =
            if integrated { std::fs::read_to_string("/proc/meminfo").unwrap_or_default() } else { String::new() };
        Ok(free_bytes(free as u64, total as u64, integrated, &meminfo))
    }
}

/// A driver's CUDA version, as the driver gives it, if that is new enough.
fn version(driver: i32) -> Result<u32> {
    let found = driver.max(0) as u32;
    if found >= OLDEST {
        return Ok(found);
    }
    let text = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
    Err(Error::Device(format!(
        "the NVIDIA driver is for CUDA {} and {} or newer is needed: update it, or take --device cpu",
        text(found),
        text(OLDEST)
    )))
}

fn about(context: &CudaContext, driver: u32) -> std::result::Result<About, DriverError> {
    use Attribute::*;
    let number = |attribute| context.attribute(attribute).map(|n| n.max(0) as u32);
    let (major, minor) = context.compute_capability()?;
    let shared = number(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    Ok(About {
        name: context.name()?,
        capability: (major * 10 + minor).max(0) as u32,
        multiprocessors: number(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: shared.max(number(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?),
        integrated: number(CU_DEVICE_ATTRIBUTE_INTEGRATED)? > 0,
        memory: context.total_mem()? as u64,
        driver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_drivers_are_told_both_numbers() {
        assert_eq!((version(11040).unwrap(), version(13000).unwrap()), (11040, 13000));
        let error = version(10020).unwrap_err().to_string();
        assert!(error.contains("CUDA 10.2 and 11.4 or newer"), "{error}");
        assert!(version(11030).is_err() && version(0).is_err() && version(-1).is_err());
    }

    /// True on machines without a driver; others have a device, or an error that says why not.
    #[test]
    fn without_a_driver_one_line_says_so() {
        if let Err(error) = Context::open(0) {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains("--device cpu"), "{text}");
        }
    }
}
