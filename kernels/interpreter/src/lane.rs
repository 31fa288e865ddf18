//! A lane's value as the type that an instruction sees: registers are 64 bits wide, an instruction reads the low ones.

use crate::float::{from_half, to_half};

/// Registers of one name in the 32 lanes of a warp.
pub type Lanes = [u64; 32];

/// A type of PTX. What is written is extended to the register's width, by sign if the type has one.
pub trait Lane: Copy + 'static {
    /// The low bits of a register.
    fn of(bits: u64) -> Self;
    /// As a register holds it.
    fn bits(self) -> u64;
}

macro_rules! integers {
    ($($type:ty => $wide:ty),*) => { $(
        impl Lane for $type {
            fn of(bits: u64) -> Self {
                bits as $type
            }
            fn bits(self) -> u64 {
                self as $wide as u64
            }
        }
    )* };
}
integers!(u8 => u64, u16 => u64, u32 => u64, u64 => u64, i8 => i64, i16 => i64, i32 => i64, i64 => i64);

impl Lane for f32 {
    fn of(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Lane for f64 {
    fn of(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A float16. Sums, differences and products of two are exact enough in float32 to be rounded once more.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Half(pub f32);

impl Lane for Half {
    fn of(bits: u64) -> Self {
        Half(from_half(bits as u16))
    }
    fn bits(self) -> u64 {
        u64::from(to_half(self.0))
    }
}

/// Two float16, the low half first.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub Half, pub Half);

impl Lane for Pair {
    fn of(bits: u64) -> Self {
        Pair(Half::of(bits), Half::of(bits >> 16))
    }
    fn bits(self) -> u64 {
        self.0.bits() | self.1.bits() << 16
    }
}
