//! The arena itself: what it consists of, what it is told, and its counters.

use crate::free_runs::{INSIDE, Record, State};
use crate::huge::{HugePages, HugeTaker};
use crate::inner::Inner;
use crate::space::{BITS_BYTES, SIDE_BYTES, Space};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use hakmem_region_id::{REGION_BYTES, RegionIndex, RegionMap};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::vm::{self, HUGE_PAGE_BYTES, HugePageSetting};

/// Counters of an arena. Bytes, except where said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArenaStats {
    /// Mapped from the system for regions (metadata not counted).
    pub mapped_bytes: u64,
    /// Free and dirty: resident, but not in use.
    pub dirty_bytes: u64,
    /// Free and clean.
    pub clean_bytes: u64,
    /// Handed out.
    pub used_bytes: u64,
    /// Given back to the system so far.
    pub purged_bytes: u64,
    /// Taken as huge pages so far.
    pub huge_bytes: u64,
    /// Steps in which the arena grew (a count).
    pub growths: u64,
}

/// On cache lines of its own.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub T);

/// What is written whenever runs come and go. Apart, because all slow paths read what is beside it.
pub(crate) struct Written {
    pub inner: Lock<Inner>,
    /// Held, before `inner`'s lock, by who has a run in hand that is in no list and nobody's, so that a fork
    /// waits for it.
    pub in_hand: Lock<()>,
    /// How many regions are free and dirty, as of the last change,
    dirty: AtomicUsize,
    /// and how many are handed out.
    used: AtomicUsize,
    pub growths: AtomicU64,
}

/// A range of addresses cut into regions, with runs of regions to hand
/// out. See the crate's text.
///
/// Lives in a `static`: nothing is mapped before the first request, and nothing
/// is ever unmapped as a whole.
pub struct Arena {
    pub(crate) map: RegionMap,
    side: AtomicUsize,
    bits: AtomicUsize,
    pub(crate) records: AtomicUsize,
    pub(crate) written: Apart<Written>,
    pub(crate) huge: HugeTaker,
    /// Whether a holder has said since it was asked last that it has runs to spare.
    pub(crate) is_offered: AtomicBool,
    reclaim: fn(),
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Arena {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Arena")
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

impl Arena {
    hakmem_sys::const_new! {
        /// An arena that has nothing yet.
        pub fn new() -> Self {
            Self {
                map: RegionMap::new(),
                side: AtomicUsize::new(0),
                bits: AtomicUsize::new(0),
                records: AtomicUsize::new(0),
                written: Apart(Written {
                    inner: Lock::new(Inner::new()),
                    in_hand: Lock::new(()),
                    dirty: AtomicUsize::new(0),
                    used: AtomicUsize::new(0),
                    growths: AtomicU64::new(0),
                }),
                huge: HugeTaker::new(),
                is_offered: AtomicBool::new(false),
                reclaim: || (),
            }
        }
    }

    /// The same arena, which calls `reclaim` where it has no dirty memory for a request, if a holder has
    /// [offered](Self::offer) some since the last time: that is to free what holders keep and can do
    /// without.
    ///
    /// It is called inside [`allocate`](Self::allocate), with whatever the caller holds, so it must not
    /// wait for a lock but this arena's, which is free, nor allocate from it.
    #[must_use]
    pub const fn with_reclaim(mut self, reclaim: fn()) -> Self {
        self.reclaim = reclaim;
        self
    }

    /// To be told by a holder that keeps runs which it does not use, after it has put them where
    /// `reclaim` finds them. A hint: one that is lost is made up for by the next.
    pub fn offer(&self) {
        // Read first, because many may say so again and again.
        if !self.is_offered.load(Ordering::Relaxed) {
            self.is_offered.store(true, Ordering::Relaxed);
        }
    }

    /// Has holders free what they offer.
    #[cold]
    pub(crate) fn reclaim_offered(&self) {
        if self.is_offered.swap(false, Ordering::Relaxed) {
            (self.reclaim)();
        }
    }

    /// What is to be taken as huge pages from now on: at first what the system makes by itself.
    /// Up to four system calls, one of which reads the system's setting.
    pub fn set_huge_pages(&self, wanted: HugePages) {
        let takes = wanted > HugePages::Never;
        let setting = if takes {
            vm::huge_page_setting()
        } else {
            HugePageSetting::Never
        };
        let can_take = setting != HugePageSetting::Never && vm::has_usable_huge_pages();
        self.huge.set_wanted(if takes && !can_take {
            HugePages::Never
        } else {
            wanted
        });
        let is_small = wanted == HugePages::Never || setting == HugePageSetting::Always;
        let mut inner = self.written.0.inner.lock();
        inner.is_small = is_small;
        let top = inner.top;
        if let Some(space) = inner.space.as_mut() {
            space.set_small(is_small, top);
        }
    }

    /// The map of the arena's regions.
    #[inline(always)]
    pub fn map(&self) -> &RegionMap {
        &self.map
    }

    /// The address of a region's side record: [`SIDE_BYTES`] bytes, aligned to
    /// their size, zero when first handed out and otherwise as the last holder
    /// of the region left them; mapped for ever.
    #[inline]
    pub fn side_record(&self, region: RegionIndex) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(
            self.side.load(Ordering::Relaxed) + region.index() * SIDE_BYTES,
        )
    }

    /// The address of a region's bit space: [`BITS_BYTES`] bytes, otherwise like
    /// [`side_record`](Self::side_record).
    #[inline]
    pub fn bit_space(&self, region: RegionIndex) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(
            self.bits.load(Ordering::Relaxed) + region.index() * BITS_BYTES,
        )
    }

    /// The first region of the run that a region of the map lies inside of, by its word; of any
    /// other region, the region itself. It takes a step for each region between them.
    ///
    /// # Safety
    ///
    /// `region` is in the map.
    pub unsafe fn first_of(&self, mut region: RegionIndex) -> RegionIndex {
        // SAFETY: regions before one of the map are in the map.
        while region.0 > 0 && unsafe { self.map.get(region) } == INSIDE {
            region.0 -= 1;
        }
        region
    }

    /// Length in regions of the run whose first region this is, if the run was handed
    /// out and is not freed meanwhile; some number otherwise.
    ///
    /// # Safety
    ///
    /// `first` is a region that was part of a run once.
    #[inline]
    pub unsafe fn run_len(&self, first: RegionIndex) -> usize {
        let records: *const Record =
            core::ptr::with_exposed_provenance(self.records.load(Ordering::Relaxed));
        // SAFETY: the record exists; only its length, an atomic, is borrowed.
        unsafe { (*records.add(first.index())).len.load(Ordering::Relaxed) as usize }
    }

    /// How many regions are free and dirty (relaxed).
    pub fn dirty_regions(&self) -> usize {
        self.written.0.dirty.load(Ordering::Relaxed)
    }

    /// How many regions are handed out (relaxed).
    pub fn used_regions(&self) -> usize {
        self.written.0.used.load(Ordering::Relaxed)
    }

    pub(crate) fn note_counts(&self, inner: &Inner) {
        let Written { dirty, used, .. } = &self.written.0;
        dirty.store(inner.free.regions(State::Dirty), Ordering::Relaxed);
        used.store(inner.used(), Ordering::Relaxed);
    }

    /// The arena's counters.
    pub fn stats(&self) -> ArenaStats {
        let inner = self.written.0.inner.lock();
        let bytes = |regions: usize| (regions * REGION_BYTES) as u64;
        let [dirty, clean, holes] = State::ALL.map(|state| inner.free.regions(state));
        ArenaStats {
            mapped_bytes: bytes(inner.top - inner.foreign - holes),
            dirty_bytes: bytes(dirty),
            clean_bytes: bytes(clean),
            used_bytes: bytes(inner.used()),
            purged_bytes: inner.purged * REGION_BYTES as u64,
            huge_bytes: self.huge.taken() * HUGE_PAGE_BYTES as u64,
            growths: self.written.0.growths.load(Ordering::Relaxed),
        }
    }

    /// The arena's locks in the order in which they nest, for the fork hooks.
    pub fn raw_locks(&self) -> [&RawLock; 2] {
        [self.written.0.in_hand.raw(), self.written.0.inner.raw()]
    }

    /// Finds the range at the first request.
    pub(crate) fn open(&self, inner: &mut Inner) -> Option<()> {
        if inner.space.is_none() {
            let mut space = Space::open()?;
            space.set_small(inner.is_small, 0);
            self.side.store(space.side, Ordering::Relaxed);
            self.bits.store(space.bits, Ordering::Relaxed);
            self.records.store(space.records, Ordering::Relaxed);
            // SAFETY: the range is opened once, and nothing is in the map yet.
            unsafe { self.map.place(space.base, space.map) };
            inner.space = Some(space);
        }
        Some(())
    }
}
