//! The cache of a sequence: which tokens were fed, and which pages of the pool hold their keys and values. The pages'
//! contents live in the backend; here is only who owns which.

use crate::stream::{Bell, lock};
use crate::{Error, Result, Runner};
use nano_kernels::PAGE_ROWS;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The tokens that a sequence has fed to a model, and the pages that hold what the model computed for them.
///
/// A cache is made by [`NanoModel::cache`](crate::NanoModel::cache), moved into a generation and given back with its
/// output. Its length is advanced only by the step that wrote the rows, or by restoring rows that were saved.
/// Forks share pages; a shared page is copied before anything is written into it. Dropping a cache gives its pages back.
#[derive(Debug)]
pub struct KvCache {
    pool: Arc<PagePool>,
    pages: Vec<u32>,
    tokens: Vec<u32>,
    /// Pages from here on are this cache's alone.
    own: usize,
    /// Where it was last saved, and how many of its rows are still as they were then.
    saved: Option<(Stamp, usize)>,
}

/// Names one saving: each has its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp(Arc<()>);

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Rows to copy before a page is written into: slots to read and slots to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowCopy {
    pub(crate) from: Vec<u32>,
    pub(crate) to: Vec<u32>,
}

impl KvCache {
    pub(crate) fn new(pool: Arc<PagePool>) -> Self {
        Self { pool, pages: Vec::new(), tokens: Vec::new(), own: 0, saved: None }
    }

    /// A cache of no model.
    pub(crate) fn nowhere() -> Self {
        Self::new(Arc::new(PagePool::new(0, Arc::default())))
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
        self.change(self.len());
        self.trim();
    }

    /// Notes that rows from this one on are not as they were.
    fn change(&mut self, row: usize) {
        if let Some((_, saved)) = &mut self.saved {
            *saved = row.min(*saved);
        }
    }

    /// A cache with the same rows, on the same pages: nothing is copied until one of the two is written to.
    pub fn fork(&mut self) -> Self {
        self.trim();
        self.own = self.pages.len();
        self.pool.share(&self.pages);
        let Self { pages, tokens, own, saved, .. } = &*self;
        Self {
            pool: Arc::clone(&self.pool),
            pages: pages.clone(),
            tokens: tokens.clone(),
            own: *own,
            saved: saved.clone(),
        }
    }

    /// Gives back pages beyond the last row.
    pub(crate) fn trim(&mut self) {
        let used = self.len().div_ceil(PAGE_ROWS);
        if used < self.pages.len() {
            self.pool.give_back(self.pages.drain(used..));
        }
    }

    /// Takes the pages that `rows` more rows need, a copy of a shared page that they go to among them; all of them or
    /// none. What is returned must be copied before anything is written, and before any other cache takes pages.
    pub(crate) fn reserve(&mut self, rows: usize) -> Result<Option<RowCopy>> {
        let first = self.len() / PAGE_ROWS;
        let shared = rows > 0 && first < self.own.min(self.pages.len()) && self.pool.is_shared(self.pages[first]);
        let needed = (self.len() + rows).div_ceil(PAGE_ROWS).saturating_sub(self.pages.len()) + usize::from(shared);
        if needed > 0 {
            self.pool.take(needed, &mut self.pages)?;
        }
        if rows > 0 {
            self.own = self.own.min(first);
        }
        Ok(shared.then(|| self.replace(first, self.len() % PAGE_ROWS)))
    }

    /// Puts the last page in the place of page `index`, of which `rows` rows are to be kept.
    fn replace(&mut self, index: usize, rows: usize) -> RowCopy {
        let shared = self.pages.swap_remove(index);
        let slots = |page: u32| (0..rows as u32).map(|row| page * PAGE_ROWS as u32 + row).collect();
        let copy = RowCopy { from: slots(shared), to: slots(self.pages[index]) };
        self.pool.give_back(std::iter::once(shared));
        copy
    }

    /// Takes a page of its own for each that it shares from row `from` on; all of them or none.
    fn unshare(&mut self, from: usize) -> Result<RowCopy> {
        self.trim();
        let shared: Vec<usize> = (from / PAGE_ROWS..self.pages.len())
            .filter(|&page| page < self.own && self.pool.is_shared(self.pages[page]))
            .collect();
        self.pool.take(shared.len(), &mut self.pages)?;
        let mut all = RowCopy { from: Vec::new(), to: Vec::new() };
        // The last page taken goes to the last place, so that none that was not replaced yet is moved.
        for &index in shared.iter().rev() {
            let RowCopy { from, to } = self.replace(index, PAGE_ROWS.min(self.len() - index * PAGE_ROWS));
            all.from.extend(from);
            all.to.extend(to);
        }
        self.own = self.own.min(from / PAGE_ROWS);
        Ok(all)
    }

    /// Takes out the rows of a range. Those after it move up: their keys are rotated to their new positions, and what
    /// they hold of the rows that went away stays in them. An error leaves the rows before the range, in whole pages.
    pub(crate) fn remove(&mut self, range: Range<usize>, runner: &mut dyn Runner) -> Result<()> {
        let moved = range.end..self.len();
        let done = self.move_rows(moved.clone(), range.start, runner);
        match done {
            Ok(()) => self.tokens.truncate(range.start + moved.len()),
            Err(_) => self.forget_page(range.start),
        }
        self.change(range.start);
        self.trim();
        done
    }

    /// Forgets the rows from the page of this one on: that page may be one of its own that was not filled.
    pub(crate) fn forget_page(&mut self, row: usize) {
        self.truncate(row.min(self.len()) / PAGE_ROWS * PAGE_ROWS);
    }

    fn move_rows(&mut self, rows: Range<usize>, to: usize, runner: &mut dyn Runner) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let copy = self.unshare(to)?;
        if !copy.to.is_empty() {
            runner.copy_rows(&copy.from, &copy.to)?;
        }
        let by = rows.start - to;
        let slots = |cache: &Self, rows: Range<usize>| rows.map(|row| cache.slot(row)).collect::<Vec<u32>>();
        let (from, into) = (slots(self, rows.clone()), slots(self, to..to + rows.len()));
        runner.copy_rows(&from, &into)?;
        runner.shift(&into, -(by as i32))?;
        self.tokens.copy_within(rows, to);
        Ok(())
    }

    /// The slot of a row, which must be reserved.
    pub(crate) fn slot(&self, row: usize) -> u32 {
        self.pages[row / PAGE_ROWS] * PAGE_ROWS as u32 + (row % PAGE_ROWS) as u32
    }

    pub(crate) fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Pages of 32 rows that no cache of the model holds.
    pub fn free_pages(&self) -> usize {
        self.pool.free()
    }

    /// Notes that a step wrote the rows of these tokens, or that they were restored.
    pub(crate) fn wrote(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        debug_assert!(self.len() <= self.pages.len() * PAGE_ROWS);
    }

    /// How many of the first rows are as they were when they were saved under this stamp.
    pub(crate) fn saved_as(&self, stamp: &Stamp) -> usize {
        self.saved.as_ref().filter(|(saved, _)| saved == stamp).map_or(0, |&(_, rows)| rows)
    }

    /// Notes that all rows are saved.
    pub(crate) fn saved(&mut self, stamp: Stamp) {
        self.saved = Some((stamp, self.len()));
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

/// The pages of a model's cache: which are free, and how many caches own each of the others. Only the engine's thread
/// takes pages.
#[derive(Debug)]
pub(crate) struct PagePool {
    state: Mutex<State>,
    pages: usize,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct State {
    /// Pages that were used before; the last one given back is taken first.
    free: Vec<u32>,
    /// How many caches own each page that was ever used. All others were never touched: they are taken last, so that
    /// their memory stays untouched.
    owners: Vec<u32>,
}

impl PagePool {
    /// A pool of `pages` pages that rings when some come back.
    pub(crate) fn new(pages: usize, bell: Arc<Bell>) -> Self {
        Self { state: Mutex::default(), pages, bell }
    }

    fn take(&self, count: usize, into: &mut Vec<u32>) -> Result<()> {
        let mut state = lock(&self.state);
        let left = state.free.len() + self.pages - state.owners.len();
        if count > left {
            return Err(Error::PoolFull { needed: count, free: left, pages: self.pages });
        }
        for _ in 0..count {
            let page = state.free.pop().unwrap_or_else(|| {
                state.owners.push(0);
                state.owners.len() as u32 - 1
            });
            state.owners[page as usize] = 1;
            into.push(page);
        }
        Ok(())
    }

    fn give_back(&self, pages: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator) {
        if pages.len() > 0 {
            let State { free, owners } = &mut *lock(&self.state);
            free.extend(pages.rev().filter(|&page| {
                owners[page as usize] -= 1;
                owners[page as usize] == 0
            }));
            self.bell.ring();
        }
    }

    fn share(&self, pages: &[u32]) {
        let mut state = lock(&self.state);
        pages.iter().for_each(|&page| state.owners[page as usize] += 1);
    }

    fn is_shared(&self, page: u32) -> bool {
        lock(&self.state).owners[page as usize] > 1
    }

    /// Pages that nobody owns.
    fn free(&self) -> usize {
        let state = lock(&self.state);
        state.free.len() + self.pages - state.owners.len()
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
    fn a_shared_page_is_copied_before_it_is_written() {
        let pool = pool(6);
        let mut cache = KvCache::new(Arc::clone(&pool));
        cache.reserve(70).unwrap();
        cache.wrote(&[7; 70]);
        let mut fork = cache.fork();
        assert_eq!((pool.free(), fork.tokens(), fork.pages()), (3, cache.tokens(), cache.pages()));
        // Full pages stay shared; of the third, the six rows there are go to a page of the fork's own.
        let copy = fork.reserve(1).unwrap().unwrap();
        assert_eq!(copy.from, (64..70).collect::<Vec<_>>());
        assert_eq!(copy.to, (96..102).collect::<Vec<_>>());
        assert_eq!((fork.pages(), pool.free()), (&[0, 1, 3][..], 2));
        assert_eq!(fork.reserve(1).unwrap(), None);
        // Now the other is alone on its page.
        assert_eq!(cache.reserve(1).unwrap(), None);
        // A cut into a shared page needs a copy again.
        fork.truncate(40);
        assert_eq!((fork.pages(), pool.free()), (&[0, 1][..], 3));
        let copy = fork.reserve(60).unwrap().unwrap();
        assert_eq!((copy.from.len(), fork.pages().len(), pool.free()), (8, 4, 0));
        drop(cache);
        assert_eq!((fork.pages()[0], pool.free()), (0, 2));
        drop(fork);
        assert_eq!(pool.free(), 6);
    }

    #[test]
    fn a_fork_that_cannot_be_written_changes_nothing() {
        let pool = pool(2);
        let mut cache = KvCache::new(Arc::clone(&pool));
        cache.reserve(40).unwrap();
        cache.wrote(&[7; 40]);
        let mut fork = cache.fork();
        assert!(matches!(fork.reserve(1), Err(Error::PoolFull { needed: 1, free: 0, .. })));
        assert_eq!(fork.pages(), cache.pages());
        drop(cache);
        assert_eq!(fork.reserve(1).unwrap(), None);
    }

    #[test]
    fn what_changed_since_it_was_saved_is_known() {
        let mut cache = KvCache::new(pool(4));
        cache.reserve(50).unwrap();
        cache.wrote(&[7; 50]);
        let (stamp, other) = (Stamp::default(), Stamp::default());
        assert_eq!(cache.saved_as(&stamp), 0);
        cache.saved(stamp.clone());
        cache.wrote(&[7; 5]);
        assert_eq!((cache.saved_as(&stamp), cache.saved_as(&other)), (50, 0));
        cache.truncate(20);
        cache.wrote(&[7; 9]);
        assert_eq!((cache.saved_as(&stamp), cache.fork().saved_as(&stamp)), (20, 20));
    }

    #[test]
    fn no_page_has_two_owners() {
        let pool = pool(8);
        let mut caches: Vec<KvCache> = (0..4).map(|_| KvCache::new(Arc::clone(&pool))).collect();
        caches.iter_mut().for_each(|c| drop(c.reserve(40).unwrap()));
        caches.remove(1);
        caches[0].truncate(0);
        let mut other = KvCache::new(pool);
        other.reserve(32 * 4).unwrap();
        let mut all: Vec<u32> = caches.iter().chain([&other]).flat_map(|c| c.pages().to_vec()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<u32>>());
    }
}
