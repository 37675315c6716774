//! The records of runs, and their links.

use hakmem_page_arena::{Arena, RUN_SIDE};
use hakmem_region_id::RegionIndex;
use hakmem_remote_free::StackLinks;
use hakmem_sys::sync::{AtomicU32, AtomicU64};

/// What is kept of a run, in the side record of its first region.
#[repr(C)]
pub(crate) struct RunRecord {
    pub word: AtomicU64,
    pub link: AtomicU32,
    /// Which shard lists the run.
    pub shard: AtomicU32,
    /// Not used. From here on the record is in the part of the side record that is the holder's alone, where a large
    /// block has an atomic of 32 bits: one of another length in the same place, though never at the same time, is
    /// what Rust's memory model has no words for.
    _large: AtomicU64,
    /// The free blocks when the purge last looked, and `PURGED`; zero when some were taken since. Whoever
    /// looks meanwhile may not see that, and takes what comes back for what was there.
    pub seen: AtomicU64,
}

#[cfg(not(loom))]
static_assertions::const_assert_eq!(
    core::mem::offset_of!(RunRecord, _large),
    RUN_SIDE.end - RUN_SIDE.start
);

/// What this region's side record has of the run.
pub(crate) fn run_record(arena: &Arena, region: RegionIndex) -> &RunRecord {
    // SAFETY: side records stay mapped for ever; this part of them holds nothing
    // but these atomics, for which zero bytes are valid.
    unsafe { &*run_record_at(arena, region) }
}

/// Where that is.
#[inline]
pub(crate) fn run_record_at(arena: &Arena, region: RegionIndex) -> *const RunRecord {
    arena
        .side_record(region)
        .wrapping_add(RUN_SIDE.start)
        .cast()
}

/// Links of lists of runs.
pub(crate) struct RunLinks<'a>(pub &'a Arena);

impl StackLinks for RunLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        &run_record(self.0, RegionIndex(index)).link
    }
}
