//! Zeroed memory that costs nothing until it is touched, and gives way to huge pages where that helps.

use crate::{Error, Result};
use memmap2::MmapMut;

/// A page-aligned block of zeroed bytes.
pub struct Memory {
    map: Option<MmapMut>,
}

impl Memory {
    /// `bytes` zeroed bytes for `what` (named in the error). Physical memory is taken as it is touched.
    pub fn new(bytes: usize, what: &str) -> Result<Memory> {
        if bytes == 0 {
            return Ok(Memory { map: None });
        }
        let map = MmapMut::map_anon(bytes).map_err(|_| Error::Memory { what: what.to_string(), bytes })?;
        Ok(Memory { map: Some(map) })
    }

    /// Asks for huge pages: for memory that will be read again and again from end to end.
    pub fn huge(self) -> Memory {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            // Advice only: without it everything works, a little slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
}
