//! Where the runs of a cache are: for each length of a run a ring of slots.
//!
//! Only the owner of the cache uses these. Others empty slots without telling, so a slot in a ring
//! may have nothing in it: who looks finds out.

use crate::run_pool::{MAX_RETAINED_REGIONS, STEP};
// The owner's alone, so no part of any model.
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The slots have the first nodes, and the rings the next ones.
const NODES: usize = 128;
/// The ring of empty slots.
const EMPTY: usize = 0;
/// The ring of the longest runs. Before it there is one for each length that a run may have.
const LAST: usize = ring_of(MAX_RETAINED_REGIONS);

/// The number of the ring of runs of so many regions: multiples of a step, or one more.
#[inline]
const fn ring_of(regions: usize) -> usize {
    debug_assert!(regions >= STEP);
    let steps = (regions / STEP).saturating_sub(1);
    if STEP > 1 {
        1 + 2 * steps + (!regions.is_multiple_of(STEP)) as usize
    } else {
        1 + steps
    }
}

/// The rings over so many slots, each with the slot that was filled last in front.
#[derive(Debug)]
pub(crate) struct Rings<const SLOTS: usize> {
    next: [AtomicU8; NODES],
    before: [AtomicU8; NODES],
    /// A bit for each ring with runs that is not empty.
    filled: AtomicU64,
    /// The ring that gave its oldest run last.
    turn: AtomicU8,
}

impl<const SLOTS: usize> Rings<SLOTS> {
    /// All slots are empty.
    pub const fn new() -> Self {
        const { assert!(SLOTS + LAST < NODES && LAST < u64::BITS as usize) };
        let mut next = [const { AtomicU8::new(0) }; NODES];
        let mut before = [const { AtomicU8::new(0) }; NODES];
        let mut node = 0;
        while node < NODES {
            // The slots and the node of the empty ring, which comes after them, follow each other in a circle; those of
            // the other rings follow themselves.
            let (after, ahead) = if node <= SLOTS {
                ((node + 1) % (SLOTS + 1), (node + SLOTS) % (SLOTS + 1))
            } else {
                (node, node)
            };
            next[node] = AtomicU8::new(after as u8);
            before[node] = AtomicU8::new(ahead as u8);
            node += 1;
        }
        Self {
            next,
            before,
            filled: AtomicU64::new(0),
            turn: AtomicU8::new(0),
        }
    }

    /// Where a ring begins and ends.
    #[inline]
    const fn node(ring: usize) -> usize {
        SLOTS + ring
    }

    /// The slot in front of a ring, if it has any.
    #[inline]
    fn front(&self, ring: usize) -> Option<usize> {
        let node = Self::node(ring);
        let slot = get(&self.next, node);
        (slot != node).then_some(slot)
    }

    /// Moves a slot from its ring to the front of another.
    #[inline]
    fn to_front(&self, slot: usize, ring: usize) {
        let (after, ahead) = (get(&self.next, slot), get(&self.before, slot));
        set(&self.next, ahead, after);
        set(&self.before, after, ahead);
        let node = Self::node(ring);
        let first = get(&self.next, node);
        set(&self.next, slot, first);
        set(&self.before, slot, node);
        set(&self.before, first, slot);
        set(&self.next, node, slot);
    }

    /// A slot with a run of so many regions, at most [`MAX_RETAINED_REGIONS`], or the least more that there is up to
    /// so many: the one that was filled last. `None` if there is none.
    #[inline]
    pub fn find(&self, regions: usize, most: usize) -> Option<usize> {
        let ring = ring_of(regions);
        let last = ring_of(most.min(MAX_RETAINED_REGIONS));
        let filled = self.filled.load(Ordering::Relaxed) >> ring;
        let nearest = ring + filled.trailing_zeros() as usize;
        if nearest <= last {
            self.front(nearest)
        } else {
            None
        }
    }

    /// Notes that a slot with a run has none any more.
    #[inline]
    pub fn note_emptied(&self, slot: usize) {
        let (after, ahead) = (get(&self.next, slot), get(&self.before, slot));
        self.to_front(slot, EMPTY);
        // The last one of a ring was beside that ring's node on both sides.
        if after == ahead {
            let filled = self.filled.load(Ordering::Relaxed);
            self.filled
                .store(filled & !(1 << (after - SLOTS)), Ordering::Relaxed);
        }
    }

    /// A slot with a run of just so many regions, at most [`MAX_RETAINED_REGIONS`]: the one that was filled last.
    #[inline]
    pub fn front_of(&self, regions: usize) -> Option<usize> {
        self.front(ring_of(regions))
    }

    /// Whether there is an empty slot.
    #[inline]
    pub fn has_empty(&self) -> bool {
        self.empty() != Self::node(EMPTY)
    }

    /// An empty slot, if there is one: the one that was emptied last.
    #[inline]
    pub fn empty(&self) -> usize {
        get(&self.next, Self::node(EMPTY))
    }

    /// Notes that an [empty](Self::empty) slot gets a run of so many regions, at most [`MAX_RETAINED_REGIONS`].
    #[inline]
    pub fn note_filled(&self, slot: usize, regions: usize) {
        let ring = ring_of(regions);
        self.to_front(slot, ring);
        let filled = self.filled.load(Ordering::Relaxed);
        self.filled.store(filled | 1 << ring, Ordering::Relaxed);
    }

    /// The slot filled first of a ring, another ring each time; `None` if all slots are empty.
    pub fn oldest_in_turn(&self) -> Option<usize> {
        let filled = self.filled.load(Ordering::Relaxed);
        let turn = u32::from(self.turn.load(Ordering::Relaxed));
        let later = filled & (u64::MAX << turn << 1);
        let ring = if later == 0 { filled } else { later }.trailing_zeros();
        if ring == u64::BITS {
            return None;
        }
        self.turn.store(ring as u8, Ordering::Relaxed);
        Some(get(&self.before, Self::node(ring as usize)))
    }
}

#[inline]
fn get(links: &[AtomicU8; NODES], node: usize) -> usize {
    usize::from(links[node % NODES].load(Ordering::Relaxed))
}

#[inline]
fn set(links: &[AtomicU8; NODES], node: usize, link: usize) {
    links[node % NODES].store(link as u8, Ordering::Relaxed);
}
