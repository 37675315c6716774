//! Blocks on their way back to their slabs.
//!
//! A flush frees the blocks of the heap's own slabs under its lock, then brings those of other
//! owners home, each owner's under its lock. What cannot be brought to its owner is sent.

use crate::held::Held;
use crate::lookup::Lookup;
use crate::marks::{LONG_ROW, Marks};
use crate::owned::OwnedSlabs;
use crate::pool::Shared;
use crate::slab::Slab;
use crate::waiting::Waiting;
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_remote_free::{Outbox, OwnerNumber};
use hakmem_sys::report::{BadFree, bad_free};

/// So many blocks before their turn the records of their slabs are asked for.
const ASKED_AHEAD: usize = 8;

/// The word of a region.
///
/// # Safety
///
/// The region is in the arena's map.
pub(crate) unsafe fn word_of(shared: Shared<'_>, region: RegionIndex) -> RegionWord {
    // SAFETY: passed on.
    unsafe { shared.arena.map().get(region) }
}

impl OwnedSlabs {
    /// Frees blocks of a tiny class, whoever owns their slabs. Those of another class are freed too, at
    /// more cost.
    ///
    /// Aborts with a message if one of them is not a block that can be freed.
    ///
    /// # Safety
    ///
    /// The blocks lie in slabs and are not used any more, and the class is tiny.
    pub unsafe fn flush(&self, shared: Shared<'_>, class: ClassIndex, blocks: &[*mut u8]) {
        self.note_visit();
        for part in blocks.chunks(Waiting::MOST) {
            self.free_all(shared, class, part);
        }
    }

    /// Frees up to 64 blocks.
    fn free_all(&self, shared: Shared<'_>, class: ClassIndex, blocks: &[*mut u8]) {
        let mut waiting = Waiting::none(blocks);
        self.free_own(shared, class, &mut waiting);
        if waiting.bits != 0 {
            self.bring_home(shared, &mut waiting);
        }
        if waiting.bits != 0 {
            self.held(shared).free_waiting(&waiting);
        }
    }

    /// Frees the blocks of the heap's own slabs of the class, under its lock if there are any. The
    /// others wait from then on.
    fn free_own(&self, shared: Shared<'_>, class: ClassIndex, waiting: &mut Waiting<'_>) {
        let lookup = Lookup::of(shared.arena, class);
        let own = RegionWord::owned(self.owner, class);
        let blocks = waiting.blocks();
        // In a large heap the slabs' records are in no near cache.
        let ask_for = |block: &*mut u8| lookup.prefetch(block.addr());
        blocks.iter().take(ASKED_AHEAD).for_each(ask_for);
        let mut held = None;
        let mut elsewhere = 0;
        let mut rest = blocks;
        while let [block, more @ ..] = rest {
            if let Some(ahead) = more.get(ASKED_AHEAD - 1) {
                ask_for(ahead);
            }
            let Some(region) = lookup.region_of(block.addr()) else {
                bad_free(block.addr(), BadFree::NotOurs);
            };
            // A burst leaves many blocks of a slab in a row.
            let is_here = |other: &*mut u8| (other.addr() ^ block.addr()) < REGION_BYTES;
            let mut row = 1;
            while rest.get(row).is_some_and(is_here) {
                row += 1;
            }
            let (here, after) = rest.split_at(row);
            rest = after;
            // SAFETY: the region was found.
            let is_own = || unsafe { lookup.word_of(region) } == own;
            if is_own() {
                // The heap changes the words of its slabs under its lock only, so what this one
                // says under it stays so.
                let is_first = held.is_none();
                let held = held.get_or_insert_with(|| self.held(shared));
                if !is_first || is_own() {
                    // SAFETY: the word says that the slab is the heap's.
                    unsafe { held.put_back_of(&lookup, region, here) };
                    continue;
                }
            }
            let end = blocks.len() - after.len();
            waiting.add(region, end - row, end);
            elsewhere += row;
        }
        if held.is_some() {
            let own = blocks.len() - elsewhere;
            self.counts.local_frees.add(own as u64);
        }
    }

    /// Frees those rows that have another owner whose lock nobody holds for long. No heap's lock
    /// is held here, so this thread may wait for one.
    fn bring_home(&self, shared: Shared<'_>, waiting: &mut Waiting<'_>) {
        let mut others = waiting.bits;
        // SAFETY: rows are of regions in the map.
        let word_of = |region| unsafe { word_of(shared, region) };
        loop {
            let Some((first, region, _)) = waiting.rows(others).next() else {
                return;
            };
            others &= !(1 << first);
            let Some(id) = word_of(region).owner() else {
                continue;
            };
            let Some(owner) = shared.pool.owners.get(OwnerNumber(id.number())) else {
                continue;
            };
            if let Some(held) = owner.held_soon(shared) {
                if !owner.inbox.is_empty() {
                    self.counts.helps.add_shared(1);
                    held.take_inbox();
                }
                let count = held.put_back_own(waiting, others | 1 << first);
                self.counts.remote_frees.add_shared(count as u64);
                others &= waiting.bits;
            } else {
                // Once is enough: its blocks are sent.
                for (index, region, _) in waiting.rows(others) {
                    others &= !(u64::from(word_of(region).is_owned_by(id)) << index);
                }
            }
        }
    }
}

impl Held<'_> {
    /// Frees those of the rows with a bit in `candidates` that lie in slabs of the heap's: that
    /// takes no link in the blocks, and no work of the owner's later. Returns how many blocks.
    fn put_back_own(&self, waiting: &mut Waiting<'_>, candidates: u64) -> usize {
        let mut count = 0;
        let mut done = 0;
        for (index, region, blocks) in waiting.rows(candidates) {
            // An owner changes the words of its slabs under its lock only, so what this says
            // stays so.
            // SAFETY: rows are of regions in the map.
            if unsafe { word_of(self.shared, region) }.is_owned_by(self.owned.owner) {
                // SAFETY: the word says that the slab is this heap's.
                unsafe { self.put_back(region, blocks) };
                done |= 1 << index;
                count += blocks.len();
            }
        }
        waiting.bits &= !done;
        count
    }

    /// Frees what waits: what could not be brought to its owner, or has become the heap's own.
    fn free_waiting(&mut self, waiting: &Waiting<'_>) {
        // The blocks of others go out in one chain for each slab.
        let mut outbox: Option<Outbox> = None;
        let mut own = 0;
        for (_, region, blocks) in waiting.rows(waiting.bits) {
            // SAFETY: rows are of regions in the map.
            let word = unsafe { word_of(self.shared, region) };
            if word.is_owned_by(self.owned.owner) {
                // SAFETY: the word says that the slab is this heap's.
                unsafe { self.put_back(region, blocks) };
                own += blocks.len();
            } else {
                self.free_elsewhere(outbox.get_or_insert_default(), region, blocks);
            }
        }
        self.owned.counts.local_frees.add(own as u64);
        while let Some(bundle) = outbox.as_mut().and_then(Outbox::take) {
            self.deliver(bundle);
        }
    }

    /// Frees blocks of a slab of the heap's.
    ///
    /// # Safety
    ///
    /// The heap owns the slab.
    #[inline(never)]
    pub(crate) unsafe fn put_back(&self, region: RegionIndex, blocks: &[*mut u8]) {
        // SAFETY: the slab is the heap's, and the lock is held.
        let slab = unsafe { self.slab(region) };
        put_back_several(slab, blocks);
        if !slab.may_stay() {
            self.settle(slab);
        }
    }

    /// The same without a call, for the one place where it counts: there the slab's class is that of
    /// the lookup.
    ///
    /// # Safety
    ///
    /// The heap owns the slab, which is of the class of the lookup.
    #[inline(always)]
    unsafe fn put_back_of(&self, lookup: &Lookup<'_>, region: RegionIndex, blocks: &[*mut u8]) {
        // SAFETY: the slab is the heap's, and the lock is held.
        let slab = unsafe { lookup.slab(region) };
        let geometry = lookup.geometry();
        let stays = if let [block] = blocks {
            let mut marks = Marks::with(slab, geometry, lookup.bits(region));
            marks.mark(block.expose_provenance());
            let (free, carved) = marks.end();
            slab.may_stay_with(free, carved, geometry.sparse_from)
        } else {
            if blocks.len() < LONG_ROW {
                put_back_few(slab, blocks);
            } else {
                put_back_several(slab, blocks);
            }
            slab.may_stay()
        };
        if !stays {
            self.settle(slab);
        }
    }
}

/// Marks blocks of a slab of the heap's as free.
#[inline(never)]
fn put_back_several(slab: Slab<'_>, blocks: &[*mut u8]) {
    let mut marks = Marks::of(slab);
    marks.mark_all(blocks);
    marks.end();
}

/// The same for too few to look for neighbours among them.
#[inline(never)]
fn put_back_few(slab: Slab<'_>, blocks: &[*mut u8]) {
    let mut marks = Marks::of(slab);
    for block in blocks {
        marks.mark(block.expose_provenance());
    }
    marks.end();
}
