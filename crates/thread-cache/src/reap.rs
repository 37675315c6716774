//! What another thread takes: see the text of [`bin`](crate::bin).

use crate::bin::Popping;
use crate::held::Held;
use crate::magazine::MAX_CAPACITY;
use crate::source::{Source, give_back};
use core::ops::Range;
use core::ptr;
use hakmem_region_id::{CLASSES, COARSE_CLASSES, ClassIndex};
use hakmem_sys::barrier;
use static_assertions::const_assert;

/// Blocks that a reaper has in its hands at a time, of one or more bins.
const LIFTED: usize = 256;

const_assert!(MAX_CAPACITY <= LIFTED);

impl Held {
    /// Returns the depots and all blocks but the topmost of each bin to the source, or with `whole` all of coarse
    /// classes. Returns how many bytes that were.
    pub(crate) fn reap(&mut self, whole: bool, source: &mut impl Source) -> usize {
        let bytes = self.drain_depot(source) + self.reap_bins(0..CLASSES, whole, source);
        self.count_reap(bytes)
    }

    /// Returns all blocks in the bins of coarse classes to the source, if the owner has popped none since this was
    /// called last. Returns how many bytes that were.
    pub(crate) fn reap_unused(&mut self, source: &mut impl Source) -> usize {
        let is_any =
            |class| self.has_magazine(class) && self.bin(class).height(self.capacity(class)) > 0;
        let mut coarse = COARSE_CLASSES.filter_map(ClassIndex::new);
        if !coarse.any(is_any) || !self.popping().is_unused() {
            return 0;
        }
        let bytes = self.reap_bins(COARSE_CLASSES, true, source);
        self.count_reap(bytes)
    }

    fn count_reap(&self, bytes: usize) -> usize {
        if bytes > 0 {
            self.counts().reaps.add(1);
        }
        bytes
    }

    /// Does that with the bins of the classes with these numbers.
    fn reap_bins(&mut self, classes: Range<usize>, whole: bool, source: &mut impl Source) -> usize {
        if self.behind().are_bins_lost {
            return 0;
        }
        let mut bytes = 0;
        let mut counts = [0_u8; CLASSES];
        let mut next = classes.start;
        while next < classes.end {
            // A barrier for as many bins as there is room for.
            let mut lifted = [ptr::null_mut(); LIFTED];
            let mut used = 0;
            let first = next;
            while next < classes.end
                && let Some(class) = ClassIndex::new(next)
                && used + self.capacity(class) <= LIFTED
            {
                used += self.lift(class, whole, &mut lifted[used..], &mut counts);
                next += 1;
            }
            if used == 0 {
                continue;
            }
            self.behind().has_holes = true;
            let passed = barrier::all_threads();
            let mut rest = &mut lifted[..used];
            for class in (first..next).filter_map(ClassIndex::new) {
                let (lifted, others) = rest.split_at_mut(usize::from(counts[class.number()]));
                rest = others;
                bytes += self.settle(class, whole, lifted, passed, source);
            }
            if !passed {
                break;
            }
        }
        bytes
    }

    /// Where the pops of a class are announced, if they are, and all of it is to be taken.
    fn announced(&self, class: ClassIndex, whole: bool) -> Option<&Popping> {
        (whole && class.is_coarse()).then(|| self.popping())
    }

    /// Lifts the blocks of a bin. Returns how many, and notes it.
    fn lift(
        &self,
        class: ClassIndex,
        whole: bool,
        lifted: &mut [*mut u8],
        counts: &mut [u8; CLASSES],
    ) -> usize {
        if !self.has_magazine(class) {
            return 0;
        }
        // SAFETY: the lock is held, and the bin has a magazine.
        let count = unsafe {
            self.bin(class).lift(
                self.capacity(class),
                self.announced(class, whole).is_some(),
                lifted,
            )
        };
        counts[class.number()] = count as u8;
        count
    }

    /// Returns to the source what has been lifted and was not needed any more. Returns
    /// how many bytes that were.
    fn settle(
        &self,
        class: ClassIndex,
        whole: bool,
        lifted: &mut [*mut u8],
        passed: bool,
        source: &mut impl Source,
    ) -> usize {
        if lifted.is_empty() {
            return 0;
        }
        let capacity = self.capacity(class);
        // SAFETY: the lock has been held since the lift, and the bin has a magazine of so many
        // slots.
        let taken = unsafe {
            let popping = self.announced(class, whole);
            self.bin(class).settle(capacity, popping, lifted, passed)
        };
        if taken > 0 {
            give_back(source, class, &lifted[..taken]);
        }
        taken * class.size()
    }
}
