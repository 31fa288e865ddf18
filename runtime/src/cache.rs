//! The cache of a sequence: which tokens were fed, and which pages of the pool hold their keys and values. The pages'
//! contents live in the backend; here is only who owns which.

use crate::stream::{Bell, lock};
use crate::{Error, Result};
use nano_kernels::PAGE_ROWS;
use std::sync::{Arc, Mutex};

/// The tokens that a sequence has fed to a model, and the pages that hold what the model computed for them.
///
/// A cache is made by [`NanoModel::cache`](crate::NanoModel::cache), moved into a generation and given back with its
/// output. Its length is advanced only by the step that wrote the rows. Dropping it gives its pages back.
#[derive(Debug)]
pub struct KvCache {
    pool: Arc<PagePool>,
    pages: Vec<u32>,
    tokens: Vec<u32>,
}

impl KvCache {
    pub(crate) fn new(pool: Arc<PagePool>) -> Self {
        Self { pool, pages: Vec::new(), tokens: Vec::new() }
    }

    /// Rows in the cache: the tokens fed so far.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Nothing was fed.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens fed so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Keeps the first `len` rows; does nothing if there are no more.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.trim();
    }

    /// Gives back pages beyond the last row.
    pub(crate) fn trim(&mut self) {
        let used = self.len().div_ceil(PAGE_ROWS);
        if used < self.pages.len() {
            self.pool.give_back(self.pages.drain(used..));
        }
    }

    /// Takes the pages that `rows` more rows need; all of them or none.
    pub(crate) fn reserve(&mut self, rows: usize) -> Result<()> {
        let needed = (self.len() + rows).div_ceil(PAGE_ROWS).saturating_sub(self.pages.len());
        if needed == 0 { Ok(()) } else { self.pool.take(needed, &mut self.pages) }
    }

    /// The slot of a row, which must be reserved.
    pub(crate) fn slot(&self, row: usize) -> u32 {
        self.pages[row / PAGE_ROWS] * PAGE_ROWS as u32 + (row % PAGE_ROWS) as u32
    }

    pub(crate) fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Notes that a step wrote the rows of these tokens.
    pub(crate) fn wrote(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        debug_assert!(self.len() <= self.pages.len() * PAGE_ROWS);
    }

    pub(crate) fn is_of(&self, pool: &Arc<PagePool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

impl Drop for KvCache {
    fn drop(&mut self) {
        self.pool.give_back(self.pages.drain(..));
    }
}

/// The pages of a model's cache that nobody owns.
#[derive(Debug)]
pub(crate) struct PagePool {
    free: Mutex<Free>,
    pages: usize,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Free {
    /// Pages that were used before; the last one given back is taken first.
    used: Vec<u32>,
    /// All pages from this one on were never used. Taken last, so that untouched memory stays untouched.
    fresh: u32,
}

impl PagePool {
    /// A pool of `pages` pages that rings when some come back.
    pub(crate) fn new(pages: usize, bell: Arc<Bell>) -> Self {
        Self { free: Mutex::default(), pages, bell }
    }

    fn take(&self, count: usize, into: &mut Vec<u32>) -> Result<()> {
        let mut free = lock(&self.free);
        let left = free.used.len() + self.pages - free.fresh as usize;
        if count > left {
            return Err(Error::PoolFull { needed: count, free: left, pages: self.pages });
        }
        for _ in 0..count {
            let page = free.used.pop().unwrap_or_else(|| {
                free.fresh += 1;
                free.fresh - 1
            });
            into.push(page);
        }
        Ok(())
    }

    fn give_back(&self, pages: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator) {
        if pages.len() > 0 {
            lock(&self.free).used.extend(pages.rev());
            self.bell.ring();
        }
    }

    #[cfg(test)]
    fn free(&self) -> usize {
        let free = lock(&self.free);
        free.used.len() + self.pages - free.fresh as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(pages: usize) -> Arc<PagePool> {
        Arc::new(PagePool::new(pages, Arc::default()))
    }

    #[test]
    fn pages_are_taken_as_rows_need_them_and_come_back() {
        let pool = pool(3);
        let mut cache = KvCache::new(Arc::clone(&pool));
        cache.reserve(33).unwrap();
        assert_eq!((pool.free(), cache.slot(0), cache.slot(32)), (1, 0, 32));
        cache.wrote(&[7; 33]);
        cache.reserve(31).unwrap();
        assert_eq!(pool.free(), 1);
        cache.truncate(32);
        assert_eq!((cache.len(), pool.free()), (32, 2));
        cache.truncate(100);
        assert_eq!(cache.len(), 32);
        drop(cache);
        assert_eq!(pool.free(), 3);
    }

    #[test]
    fn all_pages_or_none() {
        let pool = pool(2);
        let mut cache = KvCache::new(Arc::clone(&pool));
        let full = cache.reserve(65).unwrap_err();
        assert!(matches!(full, Error::PoolFull { needed: 3, free: 2, pages: 2 }), "{full}");
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn no_page_has_two_owners() {
        let pool = pool(8);
        let mut caches: Vec<KvCache> = (0..4).map(|_| KvCache::new(Arc::clone(&pool))).collect();
        caches.iter_mut().for_each(|c| c.reserve(40).unwrap());
        caches.remove(1);
        caches[0].truncate(0);
        let mut other = KvCache::new(pool);
        other.reserve(32 * 4).unwrap();
        let mut all: Vec<u32> = caches.iter().chain([&other]).flat_map(|c| c.pages().to_vec()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<u32>>());
    }
}
