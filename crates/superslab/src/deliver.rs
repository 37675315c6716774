//! Blocks of slabs that another heap owns, or nobody, and that could not be brought home: they are sent.

use crate::flush::word_of;
use crate::held::Held;
use crate::record::{InboxLinks, shared_of};
use crate::slab::Slab;
use hakmem_region_id::{RegionIndex, RegionWord};
use hakmem_remote_free::{BlockSlot, Bundle, Chain, Outbox, Pushed, RegionBlocks};
use hakmem_sys::report::{self, BadFree, bad_free};

/// Slabs with room that a heap keeps when it claims another by freeing into it.
const CLAIMED_KEPT: u32 = 4;

impl<'a> Held<'a> {
    /// Frees blocks of a slab that this heap does not own (any more): they go into the outbox,
    /// and what that has no room for goes out.
    #[cold]
    pub(crate) fn free_elsewhere(
        &mut self,
        outbox: &mut Outbox,
        region: RegionIndex,
        blocks: &[*mut u8],
    ) {
        for &block in blocks {
            // Looked at each time: what goes out may be of the same slab, and make it the heap's.
            // SAFETY: rows are of regions in the map.
            let word = unsafe { word_of(self.shared, region) };
            let Some(class) = word.class() else {
                bad_free(block.addr(), BadFree::Gone);
            };
            if !block.addr().is_multiple_of(8) {
                report::fatal(format_args!(
                    "free({block:p}): not the start of a block ({}-byte blocks are at multiples of 8)",
                    class.size()
                ));
            }
            if word.is_owned_by(self.owned.owner) {
                // SAFETY: the word says that the slab is this heap's.
                unsafe { self.put_back(region, &[block]) };
                self.owned.counts.local_frees.add(1);
                continue;
            }
            block.expose_provenance();
            // SAFETY: the block is freed, so its memory is this heap's to link.
            let links = unsafe { RegionBlocks::new(self.shared.arena.map().address_of(region)) };
            let slot = BlockSlot::of_address(block.addr());
            if let Some(bundle) = outbox.add(&links, region, slot) {
                self.deliver(bundle);
            }
        }
    }

    /// Brings a bundle to its slab: to the owner's remote list, or, if there is
    /// no owner, into a slab that is this heap's by that.
    pub(crate) fn deliver(&mut self, bundle: Bundle) {
        let arena = self.shared.arena;
        let region = bundle.region;
        // SAFETY: the bundle's blocks are freed and this heap's to link.
        let links = unsafe { RegionBlocks::new(arena.map().address_of(region)) };
        let remote = &shared_of(arena, region).remote;
        let me = self.owned.number;
        self.owned
            .counts
            .remote_frees
            .add_shared(u64::from(bundle.count));
        match remote.push_chain(&links, bundle.head, bundle.tail, bundle.count, me) {
            Pushed::Waiting { owner, notify } => {
                self.owned.counts.remote_pushes.add(1);
                let Some(owner) = self.shared.pool.owners.get(owner) else {
                    return;
                };
                if notify {
                    owner.inbox.push(&InboxLinks(arena), region.0);
                }
            }
            Pushed::Claimed => {
                self.owned.counts.claims.add(1);
                // SAFETY: it was claimed.
                let slab = unsafe { self.slab(region) };
                let class = slab.class();
                self.set_word(slab, RegionWord::owned(self.owned.owner, class));
                self.put_chain(
                    slab,
                    Chain {
                        head: bundle.head,
                        count: bundle.count,
                    },
                );
                self.settle_claimed(slab);
            }
        }
    }

    /// Decides what becomes of a slab that was claimed by freeing into it: a
    /// heap that allocates from the class may keep it, others hand it on.
    fn settle_claimed(&mut self, slab: Slab<'a>) {
        if slab.is_all_free() && self.release(slab) {
            return;
        }
        let class = slab.class();
        let slabs = self.class(class);
        let has_few = slabs.partial_count.get() + slabs.sparse_count.get() < CLAIMED_KEPT;
        let may_keep = slabs.active.get() && has_few;
        self.link(slab, slab.place_with_room());
        if !slab.is_all_free() && may_keep {
            return;
        }
        if self.give_to_pool(slab) && self.shared.has_many_empty_listed(class) {
            self.clear_pool_of_empty(class);
        }
    }
}
