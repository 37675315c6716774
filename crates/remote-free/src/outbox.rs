//! Where a thread gathers the blocks it frees for others.

use crate::remote_list::{BlockLinks, BlockSlot};
use hakmem_region_id::RegionIndex;

/// Entries of an outbox.
const ENTRIES: usize = 32;

/// A chain of blocks of one region on its way to the region's slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The slab's region.
    pub region: RegionIndex,
    /// The block freed last.
    pub head: BlockSlot,
    /// The block freed first; its link is not set.
    pub tail: BlockSlot,
    /// How many blocks there are.
    pub count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    region: u32,
    head: BlockSlot,
    tail: BlockSlot,
    count: u32,
}

const EMPTY: Entry = Entry {
    region: 0,
    head: BlockSlot::NONE,
    tail: BlockSlot::NONE,
    count: 0,
};

/// A thread's outbox: a small table of chains, one region an entry, placed by
/// the region's number. A block of a region whose place is taken pushes the
/// older chain out.
///
/// Grouping the frees of many slabs by hashing them into a few chains is
/// snmalloc's idea (Liétar et al., "snmalloc: a message passing allocator",
/// ISMM 2019).
#[derive(Debug)]
pub struct Outbox {
    entries: [Entry; ENTRIES],
    used: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// An empty outbox.
    pub const fn new() -> Self {
        Self {
            entries: [EMPTY; ENTRIES],
            used: 0,
        }
    }

    /// Whether nothing is waiting here.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a freed block. Returns a bundle that had to make room and has to go to its slab now.
    #[inline]
    pub fn add(
        &mut self,
        links: &impl BlockLinks,
        region: RegionIndex,
        block: BlockSlot,
    ) -> Option<Bundle> {
        let place = (region.0.wrapping_mul(0x9e37_79b1) >> 27) as usize % ENTRIES;
        let entry = &mut self.entries[place];
        let mut out = None;
        if entry.count != 0 && entry.region == region.0 {
            links.set_next(block, entry.head);
            entry.head = block;
            entry.count += 1;
        } else {
            if entry.count == 0 {
                self.used += 1;
            } else {
                out = Some(entry.bundle());
            }
            *entry = Entry {
                region: region.0,
                head: block,
                tail: block,
                count: 1,
            };
        }
        out
    }

    /// What is waiting here.
    pub fn bundles(&self) -> impl Iterator<Item = Bundle> {
        self.entries
            .iter()
            .filter(|entry| entry.count != 0)
            .map(Entry::bundle)
    }

    /// Takes one bundle out, if there is any.
    pub fn take(&mut self) -> Option<Bundle> {
        if self.used == 0 {
            return None;
        }
        let entry = self.entries.iter_mut().find(|entry| entry.count != 0)?;
        let bundle = entry.bundle();
        entry.count = 0;
        self.used -= 1;
        Some(bundle)
    }
}

impl Entry {
    fn bundle(&self) -> Bundle {
        Bundle {
            region: RegionIndex(self.region),
            head: self.head,
            tail: self.tail,
            count: self.count,
        }
    }
}
