//! Reading GGUF's primitive values from bytes that may be anything: every step is checked against what is there.

use std::ops::Range;

/// What is wrong, in words. The caller adds the file.
pub(super) type Fault = String;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list, left in the file: vocabularies are long and often not looked at.
    Array(Array),
}

/// Where a list lies in the file. Its extent has been checked; its strings are not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// The type of its elements.
    pub kind: Kind,
    /// How many there are.
    pub len: usize,
    /// Their bytes in the file.
    pub range: Range<usize>,
}

/// Types of values, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the format's own
pub enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::Text,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    /// The type of a number.
    pub(super) fn of(id: u32) -> Result<Kind, Fault> {
        Kind::ALL.get(id as usize).copied().ok_or_else(|| format!("a value of unknown type {id}"))
    }

    /// Bytes of one value, or the fewest that one takes.
    fn least_bytes(self) -> u64 {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 | Kind::Text => 8,
            Kind::Array => 12,
        }
    }
}

/// Lists within lists, deepest.
const MAX_NESTING: usize = 4;

/// A place in the bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(format!(
                "{n} bytes are needed at byte {}, and {} are left; the file is cut short or damaged",
                self.at,
                self.left()
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(taken);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A counted text that may be `most` bytes long.
    pub(super) fn text(&mut self, most: u64) -> Result<&'a str, Fault> {
        let n = self.u64()?;
        if n > most {
            return Err(format!("a text of {n} bytes where at most {most} are allowed"));
        }
        std::str::from_utf8(self.take(n)?).map_err(|_| "a text that is not UTF-8".into())
    }

    pub(super) fn kind(&mut self) -> Result<Kind, Fault> {
        Kind::of(self.u32()?)
    }

    pub(super) fn value(&mut self, kind: Kind) -> Result<Value, Fault> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            Kind::I8 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            Kind::U32 => Value::Unsigned(u32::from_le_bytes(self.array()?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            Kind::U64 => Value::Unsigned(u64::from_le_bytes(self.array()?)),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array()?)),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            Kind::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            Kind::Bool => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("a flag that is {other}, neither 0 nor 1")),
            },
            Kind::Text => Value::Text(self.text(u64::MAX)?.to_owned()),
            Kind::Array => Value::Array(self.list(MAX_NESTING)?),
        })
    }

    /// Steps over a list, checking that all of it is there. Takes time in proportion to the bytes, whatever the count
    /// says.
    fn list(&mut self, nesting: usize) -> Result<Array, Fault> {
        let Some(nesting) = nesting.checked_sub(1) else {
            return Err(format!("lists within lists more than {MAX_NESTING} deep"));
        };
        let kind = self.kind()?;
        let n = self.u64()?;
        let room = self.left() / kind.least_bytes();
        let Some(len) = usize::try_from(n).ok().filter(|_| n <= room) else {
            return Err(format!("a list of {n} values and room for {room} at most; the file is cut short or damaged"));
        };
        let start = self.at;
        match kind {
            Kind::Text => {
                for _ in 0..len {
                    let bytes = self.u64()?;
                    self.take(bytes)?;
                }
            }
            Kind::Array => {
                for _ in 0..len {
                    self.list(nesting)?;
                }
            }
            _ => {
                self.take(n * kind.least_bytes())?;
            }
        }
        Ok(Array { kind, len, range: start..self.at })
    }
}
