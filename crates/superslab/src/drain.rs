//! What others have left: the remote lists of a heap's slabs, and its inbox.

use crate::held::Held;
use crate::marks::Marks;
use crate::record::InboxLinks;
use crate::slab::Slab;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_remote_free::{BlockLinks, Chain, RegionBlocks, TaggedStack};
use hakmem_sys::report;

impl<'a> Held<'a> {
    /// Moves what is waiting in a slab's remote list into its bits.
    pub(crate) fn drain(&self, slab: Slab<'a>) {
        let chain = slab.remote().take_all();
        self.put_chain(slab, chain);
    }

    /// Marks the blocks of a chain as free, which was sent to this slab.
    pub(crate) fn put_chain(&self, slab: Slab<'a>, chain: Chain) {
        if chain.count == 0 {
            return;
        }
        self.owned.counts.remote_drains.add(1);
        let base = slab.base();
        // SAFETY: the chain was taken, so its blocks are this heap's.
        let links = unsafe { RegionBlocks::new(base) };
        let (mut next, mut left) = (chain.head, chain.count);
        let mut marks = Marks::of(slab);
        while left > 0 {
            // A link is what the program has left of it, if it has written to a freed block.
            if next.is_none() || next.offset() >= REGION_BYTES {
                broken_chain(slab);
            }
            let block = next;
            left -= 1;
            // The link lies in the block; it is read before the block is free.
            if left > 0 {
                next = links.next(block);
            }
            marks.mark(base + block.offset());
        }
        marks.end();
    }

    /// Takes in all blocks that are waiting, but for those that come meanwhile: others may send as fast
    /// as this thread can take. Returns whether there were any.
    #[inline(never)]
    pub(crate) fn take_inbox(&self) -> bool {
        let links = InboxLinks(self.shared.arena);
        let mut next = self.owned.inbox.take_all();
        let found = next.is_some();
        while let Some(region) = next {
            // Behind this the slab may be sent to again, and so stand in the inbox.
            next = TaggedStack::next(&links, region);
            // SAFETY: a slab in the inbox stays this heap's until it is taken out, below.
            let slab = unsafe { self.slab(RegionIndex(region)) };
            let chain = slab.remote().take_from_inbox();
            self.put_chain(slab, chain);
            self.settle(slab);
        }
        found
    }
}

#[cold]
fn broken_chain(slab: Slab<'_>) -> ! {
    report::fatal(format_args!(
        "blocks of {} bytes at {:#x} were freed twice, or written to after they were freed",
        slab.class().size(),
        slab.base()
    ))
}
