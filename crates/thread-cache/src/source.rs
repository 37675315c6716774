//! Sources: where the blocks of a cache come from.

use hakmem_region_id::ClassIndex;
use hakmem_sys::report;

/// Where a cache gets blocks from and returns them to. It is asked under the cache's lock, and must not call into
/// the same cache: that would wait for itself, and ends the process.
pub trait Source {
    /// Whether a [refill](crate::ThreadCache::refill) of a class may return a block of a larger one: only for
    /// whoever learns from the block, where it is freed, which class that is.
    const LENDS: bool = false;

    /// Fills `out` with free blocks of `class` from the front, in the order in
    /// which they should be used. Returns how many, no more than there is room for; zero means no memory.
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize;

    /// As [`refill`](Self::refill), but a source may keep to memory that it has for the class
    /// already: zero means that new memory would be needed. Only asked of a source that
    /// [`LENDS`](Self::LENDS).
    fn refill_free(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.refill(class, out)
    }

    /// Takes back blocks of `class`, those freed first in front. Where it unwinds, it is not known which of them
    /// it has: that ends the process.
    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]);

    /// As [`refill`](Self::refill), when the cache has had no block of `class` before. A source
    /// may give fewer here, for a thread that perhaps never needs more.
    fn first_refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.refill(class, out)
    }
}

/// Has a source take blocks back, of which the caller has no use any more then.
pub(crate) fn give_back(source: &mut impl Source, class: ClassIndex, blocks: &[*mut u8]) {
    let unwinds = Unwinds;
    source.flush(class, blocks);
    core::mem::forget(unwinds);
}

struct Unwinds;

impl Drop for Unwinds {
    fn drop(&mut self) {
        report::fatal(format_args!(
            "a source of blocks has panicked while it took some back: they would be given to it again"
        ));
    }
}
