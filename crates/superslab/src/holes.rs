//! The holes of a slab: whole free pages between its live blocks.

use crate::record::Backing;
use crate::slab::Slab;
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::vm;

/// A record's `seen` after blocks were taken: more than there are.
pub(crate) const TAKEN: u16 = 1 << 14;
/// Marks in a record's `seen` that its free pages are given back already.
const PURGED: u16 = 1 << 15;

impl Slab<'_> {
    /// Gives whole pages without a block in use back to the system, if the slab is
    /// as it was at the last call and that has not been done yet. Returns how many
    /// bytes it was.
    ///
    /// With `now`, does not wait for a second call.
    #[inline(never)]
    pub fn purge_holes(&self, now: bool) -> usize {
        let own = self.own();
        let free = self.shared().free();
        let before = own.seen.replace(free);
        let is_quiet = before & !PURGED == free;
        if !(is_quiet || now) {
            return 0;
        }
        // A slab that was started on memory that is there has more than its carved blocks.
        let has_tail = own.memory.get() == Backing::ALL;
        if is_quiet && before & PURGED != 0 || free == 0 && !has_tail {
            own.seen.set(free | PURGED);
            return 0;
        }
        let size = self.block_size();
        let page = vm::page_size();
        let bits = self.bits();
        // SAFETY: the word of every carved block exists.
        let is_free = |block: usize| unsafe { *bits.add(block / 64) } >> (block % 64) & 1 != 0;
        let carved = self.shared().carved() as usize;
        let (mut given, mut refused) = (0, false);
        let mut block = 0;
        while block <= carved {
            let start = block;
            while block < carved && is_free(block) {
                block += 1;
            }
            let is_tail = has_tail && block == carved;
            let from = (start * size).next_multiple_of(page);
            let to = if is_tail {
                REGION_BYTES
            } else {
                block * size / page * page
            };
            if to > from {
                // SAFETY: all blocks that touch these pages are free, and nobody
                // takes one while the owner's lock is held.
                if unsafe { vm::purge(self.base() + from, to - from) } {
                    given += to - from;
                    if is_tail {
                        own.memory.set(Backing::pages(from / page));
                    }
                } else {
                    // Locked by the program, perhaps: to be tried again.
                    refused = true;
                }
            }
            block += 1;
        }
        if !refused {
            own.seen.set(free | PURGED);
        }
        given
    }
}
