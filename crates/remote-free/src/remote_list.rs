//! The remote-free list of a slab, with its owned mark.

use hakmem_region_id::REGION_BYTES;
use hakmem_sys::sync::{AtomicU64, Ordering};
use static_assertions::const_assert;

// Each of these is also the other half: whoever walks over slabs taken out of a list or an inbox reads a slab's
// link before it clears the mark by which the slab is there, and who sees it cleared writes that link anew.
// (The models have a cell beside the link: loom lets no load of an atomic see a store that comes later.)

/// Publishes the links and contents of the pushed blocks.
const PUSH: Ordering = if cfg!(hakmem_mutation = "remote_push_relaxed") {
    Ordering::Relaxed
} else if cfg!(hakmem_mutation = "remote_push_without_acquire") {
    Ordering::Release
} else {
    Ordering::AcqRel
};
/// Makes pushed blocks visible to the owner.
const TAKE: Ordering = if cfg!(hakmem_mutation = "remote_take_relaxed") {
    Ordering::Relaxed
} else if cfg!(hakmem_mutation = "remote_take_without_release") {
    Ordering::Acquire
} else {
    Ordering::AcqRel
};
/// Publishes the slab's records, as the owner left them, to the next owner.
const DISOWN: Ordering = if cfg!(hakmem_mutation = "disown_relaxed") {
    Ordering::Relaxed
} else if cfg!(hakmem_mutation = "disown_without_acquire") {
    Ordering::Release
} else {
    Ordering::AcqRel
};
/// Makes the slab's records visible to the new owner.
const CLAIM: Ordering = if cfg!(hakmem_mutation = "claim_relaxed") {
    Ordering::Relaxed
} else if cfg!(hakmem_mutation = "claim_without_release") {
    Ordering::Acquire
} else {
    Ordering::AcqRel
};

/// A block's place in its region in units of eight bytes, plus one; zero is "no
/// block".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSlot(u16);

impl BlockSlot {
    /// No block.
    pub const NONE: Self = Self(0);

    /// The slot of a block's address.
    #[inline]
    pub const fn of_address(address: usize) -> Self {
        Self(((address & (REGION_BYTES - 1)) / 8 + 1) as u16)
    }

    /// A slot from the number that [`get`](Self::get) told.
    #[inline]
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The slot as a number, zero for none.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The block's distance from the start of its region in bytes; of no block, a number beyond
    /// every region.
    #[inline]
    pub const fn offset(self) -> usize {
        (self.0 as usize).wrapping_sub(1).wrapping_mul(8)
    }

    /// Whether this is no block.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Where freed blocks keep the link to the next one.
pub trait BlockLinks {
    /// The block after `block` in its chain.
    fn next(&self, block: BlockSlot) -> BlockSlot;
    /// Makes `next` the block after `block`.
    fn set_next(&self, block: BlockSlot, next: BlockSlot);
}

/// The blocks of a region, linked through their first bytes.
#[derive(Clone, Copy, Debug)]
pub struct RegionBlocks {
    base: usize,
}

impl RegionBlocks {
    /// The blocks of the region at this (exposed) address.
    ///
    /// # Safety
    ///
    /// `base` is a multiple of [`REGION_BYTES`], as a [`BlockSlot`] takes it to be.
    /// Links are only followed and set for blocks that are freed and that the
    /// caller, by the protocol of [`RemoteList`], holds.
    pub const unsafe fn new(base: usize) -> Self {
        debug_assert!(base.is_multiple_of(REGION_BYTES));
        Self { base }
    }

    fn place(self, block: BlockSlot) -> *mut u16 {
        core::ptr::with_exposed_provenance_mut(self.base + block.offset())
    }
}

impl BlockLinks for RegionBlocks {
    #[inline]
    fn next(&self, block: BlockSlot) -> BlockSlot {
        // SAFETY: a freed block of at least eight bytes that the caller holds.
        BlockSlot(unsafe { self.place(block).read() })
    }

    #[inline]
    fn set_next(&self, block: BlockSlot, next: BlockSlot) {
        // SAFETY: as above.
        unsafe { self.place(block).write(next.0) }
    }
}

/// A chain of freed blocks of one slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The first block, or none.
    pub head: BlockSlot,
    /// How many blocks there are.
    pub count: u32,
}

/// The number of a slab's owner: anything but `u32::MAX`, which would be the mark of nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerNumber(pub u32);

/// What became of a pushed chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for the slab's owner.
    Waiting {
        /// Who that is.
        owner: OwnerNumber,
        /// The slab is not in its owner's inbox yet: the caller has to put it
        /// there. The slab keeps this owner until it has been taken out again.
        notify: bool,
    },
    /// The slab had no owner. The caller is its owner now and still holds the
    /// chain.
    Claimed,
}

/// What became of an attempt to give a slab up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disowned {
    /// Blocks have arrived, or the slab is in the owner's inbox; it is still the
    /// caller's.
    Refused,
    /// Done; nobody owns the slab.
    Done,
    /// Done, and the slab is marked listed: the caller has to put it into its
    /// list.
    List,
}

/// What became of a slab that was taken out of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// It had no owner; it is the caller's now.
    Claimed,
    /// Somebody owns it, who will list it again if need be.
    HasOwner,
}

const HEAD_MASK: u64 = (1 << 14) - 1;
const COUNT_SHIFT: u32 = 14;
const COUNT_MASK: u64 = ((1 << 14) - 1) << COUNT_SHIFT;
const CHAIN_MASK: u64 = HEAD_MASK | COUNT_MASK;
const LISTED: u64 = 1 << 28;
const INBOX: u64 = 1 << 29;
/// Owner number plus one; zero is "nobody".
const OWNER_SHIFT: u32 = 32;
const OWNER_MASK: u64 = !0 << OWNER_SHIFT;

const_assert!(REGION_BYTES / 8 < 1 << 14);

const fn owned_by(owner: OwnerNumber) -> u64 {
    debug_assert!(owner.0 != u32::MAX);
    (owner.0 as u64 + 1) << OWNER_SHIFT
}

/// The remote-free list of a slab: head and length of the chain, the owner,
/// whether the slab stands in a list of slabs with room, and whether it stands
/// in its owner's inbox, the list of slabs where blocks are waiting.
///
/// Life: [`adopt`](Self::adopt), then any number of *pushes* by others, *takes*,
/// *disowns* and *claims*, then [`retire`](Self::retire). All-zero bytes are the
/// state before and after.
///
/// What makes it safe: the slab's other records belong to the owner alone, and
/// ownership passes only through this word, with release when it is given up
/// and acquire when it is won. What makes it complete: a push either finds an
/// owner, who is told through its inbox, or makes the pusher the owner; and an
/// owner cannot give up a slab that blocks are waiting in.
#[derive(Debug)]
pub struct RemoteList {
    word: AtomicU64,
}

impl Default for RemoteList {
    fn default() -> Self {
        Self::new()
    }
}

impl RemoteList {
    hakmem_sys::const_new! {
        /// A list of a slab that is not in use.
        pub fn new() -> Self {
            Self { word: AtomicU64::new(0) }
        }
    }

    /// Makes `owner` the owner of a slab that the caller holds exclusively
    /// anyway.
    #[inline]
    pub fn adopt(&self, owner: OwnerNumber) {
        self.word.store(owned_by(owner), Ordering::Relaxed);
    }

    /// How many blocks are waiting (relaxed).
    #[inline]
    pub fn waiting(&self) -> u32 {
        ((self.word.load(Ordering::Relaxed) & COUNT_MASK) >> COUNT_SHIFT) as u32
    }

    /// Whether the slab stands in a list (relaxed).
    #[inline]
    pub fn is_listed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LISTED != 0
    }

    /// The owner at some moment during the call (relaxed).
    #[inline]
    pub fn owner(&self) -> Option<OwnerNumber> {
        ((self.word.load(Ordering::Relaxed) >> OWNER_SHIFT) as u32)
            .checked_sub(1)
            .map(OwnerNumber)
    }

    /// Hands a chain of freed blocks to the slab's owner, or makes `me` the
    /// owner if there is none. The chain, and what is waiting with it, is not longer than a region
    /// has blocks: lengths are kept modulo 2¹⁴.
    ///
    /// Ordering: release where it hands over, acquire where it claims.
    pub fn push_chain(
        &self,
        links: &impl BlockLinks,
        head: BlockSlot,
        tail: BlockSlot,
        count: u32,
        me: OwnerNumber,
    ) -> Pushed {
        debug_assert!(count as usize <= REGION_BYTES / 8);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & OWNER_MASK == 0 && !cfg!(hakmem_mutation = "push_without_claim") {
                if cfg!(hakmem_mutation = "claim_without_test") {
                    self.word.fetch_or(owned_by(me), CLAIM);
                    return Pushed::Claimed;
                }
                match self.word.compare_exchange_weak(
                    word,
                    word | owned_by(me),
                    CLAIM,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Pushed::Claimed,
                    Err(now) => word = now,
                }
                continue;
            }
            if !cfg!(hakmem_mutation = "push_without_link") {
                links.set_next(tail, BlockSlot((word & HEAD_MASK) as u16));
            }
            let total = ((word & COUNT_MASK) >> COUNT_SHIFT) + u64::from(count);
            let pushed = word & !CHAIN_MASK
                | INBOX
                | u64::from(head.get())
                | (total << COUNT_SHIFT) & COUNT_MASK;
            match self
                .word
                .compare_exchange_weak(word, pushed, PUSH, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Pushed::Waiting {
                        owner: OwnerNumber((word >> OWNER_SHIFT) as u32 - 1),
                        notify: word & INBOX == 0 || cfg!(hakmem_mutation = "push_notifies_always"),
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// Takes all waiting blocks. Only for the owner. The slab stays in the inbox
    /// if it is there.
    ///
    /// Ordering: acquire; pairs with the pushes.
    #[inline]
    pub fn take_all(&self) -> Chain {
        Self::chain(self.word.fetch_and(!CHAIN_MASK, TAKE))
    }

    /// Takes all waiting blocks of a slab that the caller, its owner, has just
    /// taken out of its inbox.
    ///
    /// Ordering: acquire; pairs with the pushes.
    #[inline]
    pub fn take_from_inbox(&self) -> Chain {
        let kept = if cfg!(hakmem_mutation = "inbox_mark_kept") {
            !CHAIN_MASK
        } else {
            !(CHAIN_MASK | INBOX)
        };
        Self::chain(self.word.fetch_and(kept, TAKE))
    }

    fn chain(word: u64) -> Chain {
        Chain {
            head: BlockSlot((word & HEAD_MASK) as u16),
            count: ((word & COUNT_MASK) >> COUNT_SHIFT) as u32,
        }
    }

    /// Gives the slab up, unless blocks are waiting or it stands in the inbox.
    /// With `list`, also marks it as standing in a list. Only for the owner.
    ///
    /// Ordering: release; pairs with the claim of the next owner.
    pub fn disown(&self, list: bool) -> Disowned {
        let busy = if cfg!(hakmem_mutation = "disown_without_test") {
            0
        } else if cfg!(hakmem_mutation = "disown_in_inbox") {
            CHAIN_MASK
        } else {
            CHAIN_MASK | INBOX
        };
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & busy != 0 {
                return Disowned::Refused;
            }
            let given = word & LISTED | if list { LISTED } else { 0 };
            match self
                .word
                .compare_exchange_weak(word, given, DISOWN, Ordering::Relaxed)
            {
                Ok(_)
                    if list
                        && (word & LISTED == 0 || cfg!(hakmem_mutation = "disown_lists_twice")) =>
                {
                    return Disowned::List;
                }
                Ok(_) => return Disowned::Done,
                Err(now) => word = now,
            }
        }
    }

    /// Settles a slab that the caller has just taken out of a list: clears the
    /// listed mark and makes `me` the owner if there is none.
    ///
    /// Ordering: acquire.
    pub fn unlist(&self, me: OwnerNumber) -> Unlisted {
        let kept = if cfg!(hakmem_mutation = "unlist_keeps_mark") {
            !0
        } else {
            !LISTED
        };
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let (settled, outcome) = if word & OWNER_MASK == 0 {
                (word & kept | owned_by(me), Unlisted::Claimed)
            } else if cfg!(hakmem_mutation = "unlist_takes_over") {
                (word & kept & !OWNER_MASK | owned_by(me), Unlisted::Claimed)
            } else {
                (word & kept, Unlisted::HasOwner)
            };
            match self
                .word
                .compare_exchange_weak(word, settled, CLAIM, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// Ends the use of a slab whose blocks are all free. Returns `false` if it
    /// still stands in a list or in the inbox and has to stay a slab. Only for
    /// the owner.
    pub fn retire(&self, me: OwnerNumber) -> bool {
        // No block is live, so nobody pushes; nobody else owns it, so nobody
        // lists it. Only a popper that settles it can change the word meanwhile.
        // Relaxed: who gives the memory on publishes what was done to it.
        let mut expected = owned_by(me);
        if cfg!(hakmem_mutation = "retire_listed") {
            expected |= self.word.load(Ordering::Relaxed) & LISTED;
        } else if cfg!(hakmem_mutation = "retire_in_inbox") {
            expected |= self.word.load(Ordering::Relaxed) & INBOX;
        }
        self.word
            .compare_exchange(expected, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}
