//! What the emulator's own tests share: memory with numbers in it, and launches with few words.

#![allow(dead_code, reason = "not every test file asks for all")]

use nano_emulator::{Emulator, Options};
use nano_kernels::Result;
use nano_kernels::cuda::{Arg, Driver, Launch};

/// An emulated machine with shorthands.
pub struct Machine(pub Emulator);

impl Machine {
    pub fn new(arch: u32, seed: u64, threads: usize) -> Self {
        Self(Emulator::new(Options { arch, seed, threads, ..Options::default() }).expect("an ARCH with kernels"))
    }

    /// Memory with these words in it.
    pub fn put(&self, words: &[u32]) -> Arg {
        let at = self.0.alloc(words.len() * 4, "words of a test").expect("little memory");
        let mut host = self.0.host(words.len() * 4).expect("little memory");
        for (bytes, word) in host.as_mut().chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.0.upload(at, &host, 0..words.len() * 4).expect("an upload");
        Arg::Ptr(at)
    }

    /// Memory of zeros.
    pub fn room(&self, words: usize) -> Arg {
        Arg::Ptr(self.0.alloc(words * 4, "room of a test").expect("little memory"))
    }

    /// Launches, and waits for the end.
    pub fn run(&self, kernel: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> Result<()> {
        self.0.launch(Launch { kernel, grid: [blocks, 1, 1], threads, shared: 0, args })?;
        self.0.finish()
    }

    pub fn get(&self, from: Arg, words: usize) -> Vec<u32> {
        let Arg::Ptr(from) = from else { panic!("{from:?} is no address") };
        let mut host = self.0.host(words * 4).expect("little memory");
        self.0.download(from, &mut host, 0..words * 4).expect("a download");
        self.0.finish().expect("work that succeeds");
        host.as_ref().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    }
}

/// Both ARCHes, in order and shuffled, with one thread and with two.
pub fn machines() -> impl Iterator<Item = Machine> {
    let ways = [(0, 1), (0, 2), (1, 1), (2, 2), (3, 1)];
    [72, 80].into_iter().flat_map(move |arch| ways.map(|(seed, threads)| Machine::new(arch, seed, threads)))
}
