//! Whole runs above 32 KiB, retained for the next request.

use crate::mid_pool::{RunLinks, SHARDS};
use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_remote_free::TaggedStack;
use hakmem_sys::sync::{AtomicUsize, Ordering};

/// The longest run that is retained, in regions (1 MiB).
pub const MAX_RUN_REGIONS: usize = 16;
/// The most that is retained in all, in regions (1 MiB). More spares a lock now and then, and
/// keeps the arena from joining what is free.
const RETAINED_MAX: usize = 16;

/// Freed runs by length.
pub struct RunPool {
    lists: [[TaggedStack; SHARDS]; MAX_RUN_REGIONS],
    retained: AtomicUsize,
}

impl Default for RunPool {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for RunPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunPool")
            .field("retained", &self.retained)
            .finish_non_exhaustive()
    }
}

/// A run handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PooledRun {
    /// Its first region, labelled as the start of a large run.
    pub first: RegionIndex,
    /// Whether it is known to read as zero.
    pub zeroed: bool,
}

impl RunPool {
    /// A pool without runs.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            lists: [const { [const { TaggedStack::new() }; SHARDS] }; MAX_RUN_REGIONS],
            retained: AtomicUsize::new(0),
        }
    }

    /// A pool without runs.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            lists: core::array::from_fn(|_| core::array::from_fn(|_| TaggedStack::new())),
            retained: AtomicUsize::new(0),
        }
    }

    /// Bytes retained.
    pub fn retained_bytes(&self) -> usize {
        self.retained.load(Ordering::Relaxed) * REGION_BYTES
    }

    /// Hands out a run of at least `regions` regions (1 to
    /// [`MAX_RUN_REGIONS`]), a retained one if there is one that is at most a
    /// quarter longer.
    pub fn allocate(&self, arena: &Arena, regions: usize, shard: usize) -> Option<PooledRun> {
        if self.retained.load(Ordering::Relaxed) >= regions {
            let longest = (regions + regions / 4).min(MAX_RUN_REGIONS);
            for length in regions..=longest {
                for offset in 0..SHARDS {
                    let list = &self.lists[length - 1][(shard + offset) % SHARDS];
                    if list.is_empty() {
                        continue;
                    }
                    let Some(popped) = list.pop(&RunLinks(arena)) else {
                        continue;
                    };
                    self.retained.fetch_sub(length, Ordering::Relaxed);
                    let first = RegionIndex(popped);
                    // SAFETY: the run was popped, so it is this thread's.
                    unsafe {
                        arena
                            .map()
                            .set(first, RegionWord::of_kind(Kind::LargeStart));
                    }
                    return Some(PooledRun {
                        first,
                        zeroed: false,
                    });
                }
            }
        }
        arena
            .allocate_in_chunk(regions, 1, Label::LARGE, false)
            .map(|run| PooledRun {
                first: run.first,
                zeroed: run.zeroed,
            })
    }

    /// Takes a run back: retains it if there is room, else gives it to the arena.
    ///
    /// # Safety
    ///
    /// The run is the caller's, has `regions` regions, at most
    /// [`MAX_RUN_REGIONS`], and is not used any more.
    pub unsafe fn free(&self, arena: &Arena, first: RegionIndex, regions: usize, shard: usize) {
        if self.retained.fetch_add(regions, Ordering::Relaxed) + regions > RETAINED_MAX {
            self.retained.fetch_sub(regions, Ordering::Relaxed);
            // SAFETY: passed on.
            unsafe { arena.free(first, regions) };
            return;
        }
        // SAFETY: the run is the caller's.
        unsafe { arena.map().set(first, RegionWord::of_kind(Kind::Retained)) };
        self.lists[regions - 1][shard % SHARDS].push(&RunLinks(arena), first.0);
    }

    /// Gives all retained runs to the arena.
    pub fn trim(&self, arena: &Arena) {
        for (length, shards) in self.lists.iter().enumerate() {
            let regions = length + 1;
            for list in shards {
                while let Some(popped) = list.pop(&RunLinks(arena)) {
                    self.retained.fetch_sub(regions, Ordering::Relaxed);
                    // SAFETY: the run was popped, so it is this thread's.
                    unsafe { arena.free(RegionIndex(popped), regions) };
                }
            }
        }
    }
}
