//! Loans: blocks of larger classes.

use crate::held::Held;
use crate::source::Source;
use core::ptr;
use hakmem_region_id::ClassIndex;

/// So many blocks of larger classes a class takes for one flush of its own blocks, where it would
/// need new memory: it had enough then, and will again (decision 21). None once all of those have
/// refused.
pub(crate) const LOANS: u8 = 32;
/// From so many of the next larger plain classes, which are hardly more than 3/8 larger.
const LENDERS: usize = 3;

impl Held {
    /// A block of one of the next larger classes, where there is no new memory or the class has
    /// loans left; null if none of them has one. The block goes into no bin of this class: when
    /// it is freed, its own class gets it.
    ///
    /// # Safety
    ///
    /// As for [`ThreadCache::refill`](crate::ThreadCache::refill).
    #[cold]
    pub(crate) unsafe fn borrow(
        &mut self,
        class: ClassIndex,
        align: usize,
        source: &mut impl Source,
    ) -> *mut u8 {
        // A block of any size that is not 8 is aligned so for C, however little was asked for: a
        // `realloc` of this one may leave it where it is.
        let align = align.max(16);
        let larger = (class.number() + 1..)
            .take(LENDERS)
            .filter_map(ClassIndex::new)
            .filter(|lender| lender.is_plain());
        let is_aligned = |lender: &ClassIndex| lender.align() >= align;
        let asks_all = larger.clone().all(|lender| is_aligned(&lender));
        let lenders = larger.filter(is_aligned);
        let mut lent = [ptr::null_mut()];
        for lender in lenders.clone() {
            // SAFETY: the calling thread is the owner.
            unsafe {
                lent[0] = self.bin(lender).pop();
                if !lent[0].is_null() {
                    break;
                }
            }
        }
        if lent[0].is_null() {
            for lender in lenders {
                if source.refill_free(lender, &mut lent) > 0 {
                    break;
                }
            }
        }
        let loans = &mut self.depot(class).loans;
        if lent[0].is_null() {
            // Not asked again before the class has had blocks to spare once more.
            if asks_all {
                *loans = 0;
            }
        } else {
            *loans = loans.saturating_sub(1);
            self.counts().loans.add(1);
        }
        lent[0]
    }
}
