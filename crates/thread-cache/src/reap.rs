//! What another thread takes: see the text of [`bin`](crate::bin).

use crate::held::Held;
use crate::magazine::MAX_CAPACITY;
use crate::source::{Source, give_back};
use core::ptr;
use hakmem_region_id::{CLASSES, ClassIndex};
use hakmem_sys::barrier;
use static_assertions::const_assert;

/// Blocks that a reaper has in its hands at a time, of one or more bins.
const LIFTED: usize = 256;

const_assert!(MAX_CAPACITY <= LIFTED);

impl Held {
    pub(crate) fn reap(&mut self, source: &mut impl Source) -> usize {
        let mut bytes = self.drain_depot(source);
        let mut counts = [0_u8; CLASSES];
        let mut next = if self.behind().are_bins_lost {
            CLASSES
        } else {
            0
        };
        while next < CLASSES {
            // A barrier for as many bins as there is room for.
            let mut lifted = [ptr::null_mut(); LIFTED];
            let mut used = 0;
            let first = next;
            while let Some(class) = ClassIndex::new(next)
                && used + self.capacity(class) <= LIFTED
            {
                used += self.lift(class, &mut lifted[used..], &mut counts);
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
                bytes += self.settle(class, lifted, passed, source);
            }
            if !passed {
                break;
            }
        }
        if bytes > 0 {
            self.counts().reaps.add(1);
        }
        bytes
    }

    /// Lifts the blocks of a bin. Returns how many, and notes it.
    fn lift(&self, class: ClassIndex, lifted: &mut [*mut u8], counts: &mut [u8; CLASSES]) -> usize {
        if !self.has_magazine(class) {
            return 0;
        }
        // SAFETY: the lock is held, and the bin has a magazine.
        let count = unsafe { self.bin(class).lift(self.capacity(class), lifted) };
        counts[class.number()] = count as u8;
        count
    }

    /// Returns to the source what has been lifted and was not needed any more. Returns
    /// how many bytes that were.
    fn settle(
        &self,
        class: ClassIndex,
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
        let taken = unsafe { self.bin(class).settle(capacity, lifted, passed) };
        if taken > 0 {
            give_back(source, class, &lifted[..taken]);
        }
        taken * class.size()
    }
}
