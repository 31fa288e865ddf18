//! The driver's error codes as sentences that say what to do, and which of them nothing survives. Pure: calls nothing.

use crate::Error;
use cudarc::driver::sys::CUresult as Code;

/// An error of the driver while `doing` something. `log` is what the driver's compiler said, if it said anything.
pub fn explain(doing: &str, code: Code, log: &str) -> Error {
    let name = format!("{code:?}");
    let what = match advice(code) {
        Some(advice) => format!("{doing}: {advice} ({name})"),
        None => format!("{doing}: the NVIDIA driver answered {name}"),
    };
    Error::Device(match log.trim() {
        "" => what,
        log => format!("{what}; its compiler says: {log}"),
    })
}

/// What every call says once the GPU is lost.
pub fn lost(why: &str) -> Error {
    Error::Device(format!("the GPU was lost ({why}): reload the model, and restart the program if the GPU stays lost"))
}

/// Whether nothing can be done on the device any more once the driver has answered this.
pub fn is_fatal(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_CONTAINED
            | CUDA_ERROR_INVALID_CONTEXT
            | CUDA_ERROR_DEINITIALIZED
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUDA_ERROR_MPS_CLIENT_TERMINATED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_UNKNOWN
    )
}

/// What happened and what to do, where that is known.
pub fn advice(code: Code) -> Option<&'static str> {
    use Code::*;
    Some(match code {
        CUDA_ERROR_NO_DEVICE => {
            "the NVIDIA driver finds no GPU: see whether CUDA_VISIBLE_DEVICES hides it, whether the container was started \
             with it, and whether this user may open /dev/nvidia* (on Jetson boards: the groups video and render); or take \
             --device cpu"
        }
        CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another program has the GPU for itself: end it, or set the compute mode to default (nvidia-smi -c 0); or take \
             --device cpu"
        }
        CUDA_ERROR_STUB_LIBRARY => {
            "the libcuda.so that was found is a stub for linking: take its folder out of LD_LIBRARY_PATH; or take --device \
             cpu"
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the driver's library and its kernel module are of different versions: restart the machine, or update one of \
             the two (in a container: start it again); or take --device cpu"
        }
        CUDA_ERROR_SYSTEM_NOT_READY => {
            "the system's GPU services do not run yet: start nvidia-persistenced and, where there are NVSwitches, \
             nvidia-fabricmanager; or take --device cpu"
        }
        CUDA_ERROR_OPERATING_SYSTEM | CUDA_ERROR_NOT_PERMITTED => {
            "the operating system refuses the GPU to this program: see whether this user may open it (groups video and \
             render) and whether dmesg tells more"
        }
        CUDA_ERROR_JIT_COMPILER_NOT_FOUND => {
            "the driver's compiler is missing (libnvidia-ptxjitcompiler.so.1): install the whole driver package, or make \
             that library visible in the container; or take --device cpu"
        }
        CUDA_ERROR_JIT_COMPILATION_DISABLED => {
            "the driver's compiler is turned off: unset CUDA_DISABLE_PTX_JIT, or take --device cpu"
        }
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the driver is older than the kernels' PTX: update the NVIDIA driver (for CUDA 11.4 or newer), or take --device \
             cpu"
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU => "there is no kernel for this GPU's compute capability: take --device cpu",
        CUDA_ERROR_INVALID_PTX | CUDA_ERROR_INVALID_IMAGE => {
            "the driver's compiler refused a kernel: please report this"
        }
        CUDA_ERROR_OUT_OF_MEMORY => {
            "the GPU's memory is full: close other programs that use it, lower --max-context-len or --memory, or take a \
             smaller model or --quantization q4f16"
        }
        CUDA_ERROR_ECC_UNCORRECTABLE | CUDA_ERROR_CONTAINED => {
            "the GPU's memory has an error that cannot be corrected: restart the machine; if it comes again, the board is \
             failing"
        }
        CUDA_ERROR_ILLEGAL_ADDRESS | CUDA_ERROR_MISALIGNED_ADDRESS | CUDA_ERROR_INVALID_ADDRESS_SPACE => {
            "a kernel went to memory that is not its own: this is a bug, please report it"
        }
        CUDA_ERROR_ILLEGAL_INSTRUCTION | CUDA_ERROR_INVALID_PC | CUDA_ERROR_LAUNCH_FAILED => {
            "a kernel failed: this is a bug or a failing GPU (dmesg may tell), please report it"
        }
        CUDA_ERROR_LAUNCH_TIMEOUT => {
            "a kernel took longer than the system lets a GPU with a display work: use one without a display, or turn off its \
             watchdog"
        }
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => {
            "a kernel wants more registers or shared memory than this GPU has: this is a bug, please report it"
        }
        CUDA_ERROR_UNKNOWN => "the driver does not say what is wrong: dmesg may; restarting the machine often helps",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Code::*;

    fn said(code: Code, log: &str) -> String {
        explain("loading kernels", code, log).to_string()
    }

    #[test]
    fn what_a_user_can_do_is_said() {
        for (code, words) in [
            (CUDA_ERROR_NO_DEVICE, ["CUDA_VISIBLE_DEVICES", "--device cpu"]),
            (CUDA_ERROR_JIT_COMPILER_NOT_FOUND, ["libnvidia-ptxjitcompiler", "container"]),
            (CUDA_ERROR_UNSUPPORTED_PTX_VERSION, ["update", "11.4"]),
            (CUDA_ERROR_NO_BINARY_FOR_GPU, ["compute capability", "--device cpu"]),
            (CUDA_ERROR_OUT_OF_MEMORY, ["--max-context-len", "q4f16"]),
            (CUDA_ERROR_DEVICE_UNAVAILABLE, ["another program", "nvidia-smi"]),
            (CUDA_ERROR_ECC_UNCORRECTABLE, ["cannot be corrected", "restart"]),
            (CUDA_ERROR_ILLEGAL_ADDRESS, ["not its own", "report"]),
            (CUDA_ERROR_LAUNCH_TIMEOUT, ["display", "watchdog"]),
            (CUDA_ERROR_STUB_LIBRARY, ["stub", "LD_LIBRARY_PATH"]),
        ] {
            let text = said(code, "");
            assert!(text.starts_with("loading kernels: "), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(text.ends_with(&format!("({code:?})")) && !text.contains('\n') && !text.contains("  "), "{text}");
        }
    }

    #[test]
    fn other_codes_are_named_and_the_compiler_is_quoted() {
        assert_eq!(said(CUDA_ERROR_NOT_FOUND, ""), "loading kernels: the NVIDIA driver answered CUDA_ERROR_NOT_FOUND");
        let text = said(CUDA_ERROR_INVALID_PTX, "ptxas application ptx input, line 7; error: bad\n");
        assert!(text.ends_with("its compiler says: ptxas application ptx input, line 7; error: bad"), "{text}");
    }

    #[test]
    fn what_leaves_the_device_usable_is_not_fatal() {
        for code in [CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_NOT_READY, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_INVALID_PTX] {
            assert!(!is_fatal(code), "{code:?}");
        }
        for code in [CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_UNKNOWN] {
            assert!(is_fatal(code), "{code:?}");
        }
        let text = lost("a kernel failed").to_string();
        assert!(text.starts_with("the GPU was lost (a kernel failed): reload the model"), "{text}");
    }
}
