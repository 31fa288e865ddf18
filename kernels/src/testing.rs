//! Random numbers and weights, for tests here and (feature `testing`) of what is built on this crate.

use crate::Format;
use half::f16;

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any 64 bits.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal, standard deviation 1.
    pub fn float(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 3f32.sqrt()
    }

    /// The same, as float16 has it.
    pub fn half(&mut self) -> f32 {
        f16::from_f32(self.float()).to_f32()
    }

    /// So many of the first kind.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// The bytes of a random matrix: any quants, scales about 0.01.
    pub fn weight(&mut self, format: Format, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / format.block_len() {
            let start = bytes.len();
            match format {
                Format::F32 => bytes.extend((self.float() * 0.05).to_le_bytes()),
                Format::F16 => bytes.extend(f16::from_f32(self.float() * 0.05).to_le_bytes()),
                Format::Bf16 => bytes.extend(half::bf16::from_f32(self.float() * 0.05).to_le_bytes()),
                _ => bytes.extend((0..format.block_bytes()).map(|_| self.next() as u8)),
            }
            let scales: &[usize] = match format {
                Format::Q8_0 | Format::Q4_0 | Format::Int4(_) | Format::Int8(_) => &[0],
                Format::Q4_1 | Format::Q4K => &[0, 2],
                Format::Q6K => &[208],
                _ => &[],
            };
            for at in scales {
                let scale = f16::from_f32(self.float() * 0.01).to_le_bytes();
                bytes[start + at..start + at + 2].copy_from_slice(&scale);
            }
            if let Format::Int4(_) | Format::Int8(_) = format {
                let zeros = 1 + (1 << (8 * (format.block_bytes() - 4) / format.block_len()));
                bytes[start + 2..start + 4].copy_from_slice(&(self.below(zeros) as u16).to_le_bytes());
            }
        }
        bytes
    }
}
