//! What the CUDA backend asks of a machine. A device with its driver is one such machine; the tests have two more, an
//! emulator that runs the kernels' source and an interpreter that runs the shipped PTX. No kernel's name lives here.

use crate::Result;
use std::ops::Range;

/// What is known of a machine before anything runs on it.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Its name, as it gives it.
    pub name: String,
    /// Compute capability times ten: 72, 87, 90, 110.
    pub capability: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that one block may ask for.
    pub shared_bytes: u32,
    /// Whether the processor and the GPU share one memory.
    pub integrated: bool,
    /// Bytes of memory.
    pub memory: u64,
    /// The driver's CUDA version times thousand plus minor times ten: 11040, 12060.
    pub driver: u32,
}

/// An argument of a kernel. Its size must be that of the kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A device address; 0 is the null pointer.
    Ptr(u64),
    /// 32 bits.
    U32(u32),
    /// 32 bits.
    F32(f32),
    /// 64 bits that are no address.
    U64(u64),
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch<'a> {
    /// Its entry name.
    pub kernel: &'static str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block, in x.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// In the order of the kernel's parameters.
    pub args: &'a [Arg],
}

/// A machine with its memory and one stream of work: what is asked for is done in that order, some time later.
///
/// Memory lives as long as the driver. A launch with wrong arguments is a bug of the caller; stand-ins for a device
/// report it, a device may not.
pub trait Driver: Send + 'static {
    /// Page-locked host memory.
    type Host: AsRef<[u8]> + AsMut<[u8]> + Send;
    /// A recorded sequence of launches.
    type Graph: Send;

    /// What is known of the machine.
    fn about(&self) -> &About;
    /// Whether accesses are held against the bounds of what was allocated: everything then gets an allocation of its own.
    fn guards(&self) -> bool {
        false
    }
    /// Device memory, filled with zeros; the address is a multiple of 256.
    fn alloc(&self, bytes: usize, what: &str) -> Result<u64>;
    /// Host memory that the machine can copy from and to.
    fn host(&self, bytes: usize) -> Result<Self::Host>;
    /// Copies `range` of `from` to the device. `from` must stay as it is until the copy is [passed](Driver::wait).
    fn upload(&self, to: u64, from: &Self::Host, range: Range<usize>) -> Result<()>;
    /// Copies device memory into `range` of `to`, which holds it once that is [passed](Driver::wait).
    fn download(&self, from: u64, to: &mut Self::Host, range: Range<usize>) -> Result<()>;
    /// Copies within the device. The two must not overlap.
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;
    /// Launches a kernel.
    fn launch(&self, launch: Launch<'_>) -> Result<()>;
    /// Marks this place in the stream with one of [`MARKS`] numbers. The mark's former place is forgotten.
    fn mark(&self, mark: usize) -> Result<()>;
    /// Waits until the stream has passed the mark; at once if it was never set.
    fn wait(&self, mark: usize) -> Result<()>;
    /// Waits until everything is done.
    fn finish(&self) -> Result<()>;
    /// From here on launches are recorded instead of run.
    fn begin_record(&self) -> Result<()>;
    /// Ends the recording, also one that failed halfway (which is then dropped by the caller).
    fn end_record(&self) -> Result<Self::Graph>;
    /// Runs what was recorded.
    fn replay(&self, graph: &Self::Graph) -> Result<()>;
}

/// Places of a stream that can be marked at a time.
pub const MARKS: usize = 8;
