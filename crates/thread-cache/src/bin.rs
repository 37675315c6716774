//! Bins: stacks of free blocks. One thread pushes and pops, without a lock and without an
//! atomic read-modify-write; another can take the blocks below the topmost, and the topmost too where pops are
//! announced.
//!
//! # How another takes blocks
//!
//! The *reaper* holds the cache's lock, so the owner is on no slow path. It may be anywhere
//! in [`Bin::push`] and [`Bin::pop`].
//!
//! 1. [`Bin::lift`] swaps nulls into the slots below the topmost.
//! 2. A barrier on all threads of the process (`hakmem_sys::barrier`). From then on a pop
//!    that begins finds the nulls, and takes the slow path; and what a pop or push did
//!    before is visible to the reaper.
//! 3. [`Bin::settle`] looks again. A pop that has read a slot and not yet moved the top is
//!    at the topmost slot, nowhere else. So a slot further down that is still null was not
//!    popped, and never will be: what was lifted from it is the reaper's. What was lifted
//!    from any other slot goes back there, if the slot is still null: either it belongs
//!    there, or the owner has it already and the slot is above the top, where contents mean
//!    nothing.
//!
//! Where the owner [announces](Popping) its pops, the topmost block is lifted as well: it is the reaper's if no pop is
//! announced after the barrier, and stays otherwise. (A push writes a slot that has not been lifted.) A pop that was
//! announced before the barrier is seen, or over; what it has taken is above the top then.
//!
//! The barrier does on the owner's behalf what a fence in each pop would do: D. Dice, H.
//! Huang and M. Yang, "Asymmetric Dekker Synchronization" (2001).

use core::ptr;
use hakmem_sys::barrier::{self, Announcement};
use hakmem_sys::sync::{AtomicBool, AtomicPtr, Ordering};

/// A pointer to a free block, or null.
pub type Slot = AtomicPtr<u8>;

/// Publishes the slot that was written before, and the block in it.
const MOVE: Ordering = if cfg!(hakmem_mutation = "bin_top_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Publishes the larger magazine.
const GROW: Ordering = if cfg!(hakmem_mutation = "bin_grow_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Makes it visible. Pairs with `GROW`.
const GROWN: Ordering = if cfg!(hakmem_mutation = "bin_grown_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};

/// Whether a bin has a magazine of its class's full capacity, and no more the first one: who counts
/// learns by it how many slots there are below the bin's end.
#[derive(Debug)]
pub struct Grown(AtomicBool);

impl Default for Grown {
    fn default() -> Self {
        Self::new()
    }
}

impl Grown {
    hakmem_sys::const_new! {
        /// Not yet.
        pub fn new() -> Self {
            Self(AtomicBool::new(false))
        }
    }

    /// Whether it has, or has had.
    ///
    /// Ordering: acquire; pairs with [`set`](Self::set).
    #[inline(always)]
    pub fn get(&self) -> bool {
        self.0.load(GROWN)
    }

    /// Says so. For the owner, when the bin has [got](Bin::install) the magazine.
    ///
    /// Ordering: release.
    pub fn set(&self) {
        self.0.store(true, GROW);
    }
}

/// Whether the owner is about to take the topmost block of a bin that a reaper may take, too, and whether it has
/// lately.
#[derive(Debug)]
pub struct Popping {
    pop: Announcement,
    /// A hint, which the reaper takes back.
    is_used: AtomicBool,
}

impl Default for Popping {
    fn default() -> Self {
        Self::new()
    }
}

impl Popping {
    hakmem_sys::const_new! {
        /// Neither.
        pub fn new() -> Self {
            Self { pop: Announcement::new(), is_used: AtomicBool::new(false) }
        }
    }

    /// Whether the owner has popped nothing since this was asked last (relaxed).
    pub fn is_unused(&self) -> bool {
        let is_used = self.is_used.load(Ordering::Relaxed);
        if is_used {
            self.is_used.store(false, Ordering::Relaxed);
        }
        !is_used
    }
}

/// A bin: the top of the magazine in use, and the end of its slots.
///
/// Only the owner writes the two, and only the owner and, under the cache's lock, a reaper
/// write slots.
#[derive(Debug)]
#[repr(C)]
pub struct Bin {
    /// One past the last block.
    top: AtomicPtr<Slot>,
    end: AtomicPtr<Slot>,
}

impl Bin {
    hakmem_sys::const_new! {
        /// A bin over the slots from the end's magazine, with its top there.
        pub fn new(top: *mut Slot, end: *mut Slot) -> Self {
            Self { top: AtomicPtr::new(top), end: AtomicPtr::new(end) }
        }
    }

    /// Takes a block out; null if there is none.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and below the lowest slot there is a null.
    #[inline(always)]
    pub unsafe fn pop(&self) -> *mut u8 {
        // SAFETY: the null below the lowest slot stops the top from going lower.
        unsafe {
            let top = self.top.load(Ordering::Relaxed).sub(1);
            if !cfg!(hakmem_mutation = "bin_without_barrier") {
                barrier::this_thread();
            }
            let block = (*top).load(Ordering::Relaxed);
            if !block.is_null() {
                self.top.store(top, MOVE);
            }
            block
        }
    }

    /// The same from a bin whose topmost block may be [lifted](Self::lift).
    ///
    /// Ordering: release, at the end.
    ///
    /// # Safety
    ///
    /// As for [`pop`](Self::pop); all pops of the bin are announced here, or made under the cache's lock.
    #[inline(always)]
    pub unsafe fn pop_announced(&self, popping: &Popping) -> *mut u8 {
        popping.pop.begin();
        // SAFETY: passed on.
        let block = unsafe { self.pop() };
        popping.pop.end();
        popping.is_used.store(true, Ordering::Relaxed);
        block
    }

    /// Puts a block in; `false` if there is no room.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the block is free and in no list.
    #[inline(always)]
    pub unsafe fn push(&self, block: *mut u8) -> bool {
        // SAFETY: the top is below the end, so there is a slot.
        unsafe {
            let top = self.top.load(Ordering::Relaxed);
            if top == self.own_end() {
                return false;
            }
            Self::put(&*top, block);
            self.top.store(top.add(1), MOVE);
            true
        }
    }

    /// Puts so many blocks in, the first of them topmost.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner and holds the cache's lock; the bin has room for all. The
    /// blocks are free and in no list.
    pub unsafe fn push_all(&self, blocks: &[*mut u8]) {
        let top = self.top.load(Ordering::Relaxed);
        debug_assert!(top.wrapping_add(blocks.len()) <= self.end());
        for (slot, &block) in blocks.iter().rev().enumerate() {
            // SAFETY: there is room, so the slot is the magazine's.
            Self::put(unsafe { &*top.add(slot) }, block);
        }
        // SAFETY: as above.
        let top = unsafe { top.add(blocks.len()) };
        self.top.store(top, Ordering::Release);
    }

    /// Puts the blocks of so many slots in, from here on upwards, the last of them topmost.
    ///
    /// # Safety
    ///
    /// As for [`push_all`](Self::push_all); the slots are those of a magazine that nobody else writes.
    pub unsafe fn push_copies(&self, from: *const Slot, count: usize) {
        let top = self.top.load(Ordering::Relaxed);
        debug_assert!(top.wrapping_add(count) <= self.end());
        // SAFETY: passed on, and there is room.
        unsafe {
            for slot in 0..count {
                let block = (*from.add(slot)).load(Ordering::Relaxed);
                Self::put(&*top.add(slot), block);
            }
            self.top.store(top.add(count), Ordering::Release);
        }
    }

    #[inline(always)]
    fn put(slot: &Slot, block: *mut u8) {
        #[cfg(not(loom))]
        slot.store(block, Ordering::Relaxed);
        // Loom takes a store that nothing orders before or after an exchange of another
        // thread to be both. Exchanges it puts in one order, as the hardware does stores.
        #[cfg(loom)]
        slot.swap(block, Ordering::Relaxed);
    }

    /// The end, read by the owner: not an atomic load, for the sake of one instruction.
    #[inline(always)]
    unsafe fn own_end(&self) -> *mut Slot {
        #[cfg(not(loom))]
        // SAFETY: only the calling thread writes it.
        unsafe {
            *self.end.as_ptr()
        }
        #[cfg(loom)]
        self.end.load(Ordering::Relaxed)
    }

    /// The end of the slots.
    pub fn end(&self) -> *mut Slot {
        self.end.load(Ordering::Relaxed)
    }

    /// How many slots below the top hold something or nothing, of a magazine with this many
    /// slots: those from the lowest to the top.
    ///
    /// Ordering: acquire.
    pub fn height(&self, capacity: usize) -> usize {
        self.height_below(self.end(), capacity)
    }

    fn height_below(&self, end: *mut Slot, capacity: usize) -> usize {
        let lowest = (end as usize).wrapping_sub(capacity * size_of::<Slot>());
        let top = self.top.load(Ordering::Acquire) as usize;
        top.wrapping_sub(lowest) / size_of::<Slot>()
    }

    /// How many blocks there are. About as many, if the owner is at work.
    ///
    /// # Safety
    ///
    /// `end` was this bin's, of a magazine with this many slots.
    pub unsafe fn count(&self, end: *mut Slot, capacity: usize) -> usize {
        let height = self.height_below(end, capacity);
        if height > capacity {
            // The owner is changing magazines.
            return 0;
        }
        // SAFETY: the memory of magazines is there for ever.
        unsafe {
            let lowest = end.sub(capacity);
            (0..height)
                .filter(|&slot| !(*lowest.add(slot)).load(Ordering::Relaxed).is_null())
                .count()
        }
    }

    /// Makes another magazine the bin's, with `count` blocks in its lowest slots.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner and holds the cache's lock. The slots end at `end`.
    pub unsafe fn install(&self, end: *mut Slot, capacity: usize, count: usize) {
        self.end.store(end, Ordering::Relaxed);
        // SAFETY: there are so many slots, and no more blocks than slots.
        let top = unsafe { end.sub(capacity - count) };
        self.top.store(top, Ordering::Release);
    }

    /// Moves the blocks down over empty slots. Returns how many there are.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner and holds the cache's lock; the bin has a magazine
    /// with this many slots.
    pub unsafe fn close_holes(&self, capacity: usize) -> usize {
        let height = self.height(capacity);
        // SAFETY: the slots are the magazine's.
        unsafe {
            let lowest = self.end().sub(capacity);
            let mut count = 0;
            for slot in 0..height {
                let block = (*lowest.add(slot)).load(Ordering::Relaxed);
                if !block.is_null() {
                    (*lowest.add(count)).store(block, Ordering::Relaxed);
                    count += 1;
                }
            }
            self.top.store(lowest.add(count), Ordering::Release);
            count
        }
    }

    /// Moves the blocks down over the lowest `gone` slots, whose blocks are gone.
    ///
    /// # Safety
    ///
    /// As for [`close_holes`](Self::close_holes), and there are so many blocks.
    pub unsafe fn drop_lowest(&self, capacity: usize, gone: usize) {
        let height = self.height(capacity);
        // SAFETY: the slots are the magazine's.
        unsafe {
            let lowest = self.end().sub(capacity);
            for slot in gone..height {
                let block = (*lowest.add(slot)).load(Ordering::Relaxed);
                (*lowest.add(slot - gone)).store(block, Ordering::Relaxed);
            }
            self.top.store(lowest.add(height - gone), Ordering::Release);
        }
    }

    /// Takes the blocks below the topmost out of their slots, or all if its pops are
    /// [announced](Self::pop_announced), as many as `lifted` has room for, from the lowest on. Returns how many slots
    /// that were, up to the last that was not empty.
    ///
    /// # Safety
    ///
    /// The caller holds the cache's lock; the bin has a magazine with this many slots.
    pub unsafe fn lift(
        &self,
        capacity: usize,
        are_announced: bool,
        lifted: &mut [*mut u8],
    ) -> usize {
        let stays = usize::from(!are_announced);
        let count = self.height(capacity).saturating_sub(stays);
        let count = count.min(lifted.len());
        // SAFETY: the slots are the magazine's.
        let lowest = unsafe { self.end().sub(capacity) };
        let mut found = 0;
        for (number, block) in lifted[..count].iter_mut().enumerate() {
            // SAFETY: as above.
            *block = unsafe { &*lowest.add(number) }.swap(ptr::null_mut(), Ordering::Relaxed);
            if !block.is_null() {
                found = number + 1;
            }
        }
        found
    }

    /// Decides what became of what was lifted, after the barrier. What is the caller's now
    /// moves to the front of `lifted`; returns how many that are.
    ///
    /// Without a barrier in between (`passed` is false) all of it goes back. `popping` is where the bin's pops are
    /// announced, if they are.
    ///
    /// Ordering: acquire of that and of the top, and with it of the blocks.
    ///
    /// # Safety
    ///
    /// As for [`lift`](Self::lift), which filled all of `lifted`.
    pub unsafe fn settle(
        &self,
        capacity: usize,
        popping: Option<&Popping>,
        lifted: &mut [*mut u8],
        passed: bool,
    ) -> usize {
        // Before the top is read: no pop that has found a block is under way then.
        let has_all = popping.is_some_and(|popping| !popping.pop.is_under_way());
        let height = self.height(capacity);
        let safe = if has_all || cfg!(hakmem_mutation = "bin_takes_topmost") {
            height
        } else {
            height.saturating_sub(1)
        };
        // SAFETY: the slots are the magazine's.
        let lowest = unsafe { self.end().sub(capacity) };
        let mut taken = 0;
        for number in 0..lifted.len() {
            let block = lifted[number];
            if block.is_null() {
                continue;
            }
            // SAFETY: as above.
            let slot = unsafe { &*lowest.add(number) };
            if passed && number < safe {
                // Not null: the owner took it before the barrier, and has put another there.
                if slot.load(Ordering::Relaxed).is_null()
                    || cfg!(hakmem_mutation = "bin_without_second_look")
                {
                    lifted[taken] = block;
                    taken += 1;
                }
            } else if !cfg!(hakmem_mutation = "bin_without_return") {
                let _ = slot.compare_exchange(
                    ptr::null_mut(),
                    block,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
        }
        taken
    }
}
