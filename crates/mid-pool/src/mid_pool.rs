//! Runs of blocks up to 128 KiB.

use crate::cut::{Around, Cut, run_align, start_of};
use crate::record::{RunLinks, run_record};
use crate::run_form::{MID_CLASSES, RunForm, first_blocks};
use crate::run_word::{Given, RunWord, Taken};
use hakmem_page_arena::{Arena, Label, Shape, Use};
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::{Surplus, TaggedStack};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::report::{BadFree, bad_free};
use hakmem_sys::sync::{AtomicU64, AtomicUsize, Ordering};

/// Lists for each class; a thread starts with the one its number names.
pub const SHARDS: usize = 8;

/// The records of so many blocks' runs are asked for before the first is waited for.
const ASKED_AHEAD: usize = 16;

/// Runs with all blocks free that are kept of a class in a shard.
pub(crate) const WHOLE_KEPT: u32 = 1;

/// Counters of a mid pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MidCounts {
    /// Runs made so far.
    pub runs_made: u64,
    /// Runs given back to the arena so far.
    pub runs_ended: u64,
    /// Runs met so far by those who looked for some to give back.
    pub runs_met: u64,
}

/// A list of runs of one class.
pub(crate) struct Shard {
    pub list: TaggedStack,
    /// Those of the listed runs that are wholly free.
    pub whole: Surplus,
}

/// The runs of blocks of all mid classes.
pub struct MidPool {
    pub(crate) shards: [[Shard; SHARDS]; MID_CLASSES],
    made: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) met: AtomicU64,
    /// Regions of all runs.
    pub(crate) regions: AtomicUsize,
    /// Held while a list is in pieces, so that a fork can wait for that.
    pub(crate) upkeep: Lock<()>,
}

impl core::fmt::Debug for MidPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MidPool")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl MidPool {
    hakmem_sys::const_new! {
        /// A pool without runs.
        ///
        /// # Safety
        ///
        /// The pool is used with one arena only, which all calls are given.
        pub unsafe fn new() -> Self {
            Self {
                shards: hakmem_sys::array_of!(
                    MID_CLASSES,
                    hakmem_sys::array_of!(SHARDS, Shard {
                        list: TaggedStack::new(),
                        whole: Surplus::new(),
                    })
                ),
                made: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                met: AtomicU64::new(0),
                regions: AtomicUsize::new(0),
                upkeep: Lock::new(()),
            }
        }
    }

    /// The pool's counters.
    pub fn counts(&self) -> MidCounts {
        MidCounts {
            runs_made: self.made.load(Ordering::Relaxed),
            runs_ended: self.ended.load(Ordering::Relaxed),
            runs_met: self.met.load(Ordering::Relaxed),
        }
    }

    /// Bytes of all runs (relaxed).
    pub fn used_bytes(&self) -> usize {
        self.regions.load(Ordering::Relaxed) * REGION_BYTES
    }

    fn shard(&self, class: ClassIndex, shard: usize) -> &Shard {
        &self.shards[class.number() - TINY_CLASSES][shard % SHARDS]
    }

    /// Takes up to `out.len()` free blocks of a mid class, the lists of `shard`
    /// first, which may be any number. Returns how many; zero only when there is no memory, or
    /// nothing was asked for that the pool has.
    pub fn refill(
        &self,
        arena: &Arena,
        class: ClassIndex,
        shard: usize,
        out: &mut [*mut u8],
    ) -> usize {
        match self.refill_free(arena, class, shard, out) {
            0 => self.refill_new(arena, class, shard, out).0,
            filled => filled,
        }
    }

    /// As [`refill`](Self::refill), but only from runs that there are.
    pub fn refill_free(
        &self,
        arena: &Arena,
        class: ClassIndex,
        shard: usize,
        out: &mut [*mut u8],
    ) -> usize {
        if out.is_empty() || class.is_tiny() {
            // Taking no block of a whole run would look like taking its first.
            return 0;
        }
        let mut filled = 0;
        for offset in 0..SHARDS {
            let list = self.shard(class, shard.wrapping_add(offset));
            while let Some(first) = list.list.peek() {
                let record = run_record(arena, RegionIndex(first));
                let word = RunWord(&record.word);
                match word.take(class, out.len() - filled) {
                    Taken::Blocks {
                        bits,
                        first: whole,
                        form,
                    } => {
                        // The same blocks, free again, have been used.
                        record.seen.store(0, Ordering::Relaxed);
                        if whole {
                            list.whole.remove();
                        }
                        let start = start_of(arena, RegionIndex(first), form);
                        filled += spread(start, class, bits, &mut out[filled..]);
                        if filled == out.len() {
                            return filled;
                        }
                    }
                    Taken::Exhausted => Self::drop_exhausted(arena, list),
                }
            }
            // A part of a batch is enough not to search everybody's lists.
            if filled > 0 {
                return filled;
            }
        }
        0
    }

    /// Takes the run on top out of a list, unless it has got blocks again.
    fn drop_exhausted(arena: &Arena, list: &Shard) {
        let links = RunLinks(arena);
        if let Some(popped) = list.list.pop(&links)
            && RunWord(&run_record(arena, RegionIndex(popped)).word).unlist()
        {
            list.list.push(&links, popped);
        }
    }

    /// As [`refill`](Self::refill), but from a new run; returns its length in regions, too. It is of the
    /// usual [form](RunForm), or of a shorter one where dirty memory is there for that only.
    pub fn refill_new(
        &self,
        arena: &Arena,
        class: ClassIndex,
        shard: usize,
        out: &mut [*mut u8],
    ) -> (usize, usize) {
        if out.is_empty() || class.is_tiny() {
            // A whole run for nothing would be one that nobody counts as that.
            return (0, 0);
        }
        let align = run_align(class);
        let forms = RunForm::numbers(class);
        let shapes = forms.map(|form| {
            let regions = form.regions();
            (Shape { regions, align }, Label::shared(class, form.tag()))
        });
        let run = arena.allocate_in_chunk(&shapes, Use::Unknown, 0);
        let Some(run) = run else {
            return (0, 0);
        };
        let regions = run.regions;
        let Some(form) = forms.into_iter().find(|form| form.regions() == regions) else {
            unreachable!("a length that was asked for");
        };
        let record = run_record(arena, run.first);
        record
            .shard
            .store((shard % SHARDS) as u32, Ordering::Relaxed);
        record.seen.store(0, Ordering::Relaxed);
        let taken = out.len().min(form.blocks());
        RunWord(&record.word).start(form, taken);
        self.shard(class, shard)
            .list
            .push(&RunLinks(arena), run.first.0);
        self.made.fetch_add(1, Ordering::Relaxed);
        self.regions.fetch_add(regions, Ordering::Relaxed);
        let start = start_of(arena, run.first, form);
        let filled = spread(start, class, first_blocks(taken), out);
        (filled, regions)
    }

    /// Takes back blocks of a mid class.
    ///
    /// Aborts with a message if one of them is not a block that can be freed.
    ///
    /// # Safety
    ///
    /// The blocks lie in runs of this pool of the class, and are not used any more.
    pub unsafe fn flush(&self, arena: &Arena, class: ClassIndex, blocks: &[*mut u8]) {
        let cut = Cut::of(arena, class);
        // In a large heap the runs' records are in no near cache.
        for part in blocks.chunks(ASKED_AHEAD) {
            for &block in part {
                cut.prefetch(block);
            }
            let mut rest = part;
            while let [block, ..] = *rest {
                let run = cut.run_of(block);
                let bits;
                (bits, rest) = cut.gather(&run, rest);
                self.give(arena, class, &run, bits);
            }
        }
    }

    fn give(&self, arena: &Arena, class: ClassIndex, run: &Around, bits: u64) {
        let first = run.first;
        let record = run_record(arena, first);
        // Read before the blocks are given up: after that the run may end.
        let shard = self.shard(class, record.shard.load(Ordering::Relaxed) as usize);
        match RunWord(&record.word).give(bits) {
            Given::Done { list, whole } => {
                if list {
                    shard.list.push(&RunLinks(arena), first.0);
                }
                if whole {
                    shard.whole.add();
                    if shard.whole.is_due(WHOLE_KEPT) {
                        arena.offer();
                    }
                }
            }
            Given::AlreadyFree(twice) => {
                let block = twice.trailing_zeros() as usize;
                let size = class.size();
                let address = run.start + block * size;
                bad_free(address, BadFree::AlreadyFree { size })
            }
        }
    }

    /// The pool's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        self.upkeep.raw()
    }

    /// The first region of the run of a mid class that this region is part of, if it is, and how many of
    /// its blocks are in use or in bins, for statistics.
    ///
    /// # Safety
    ///
    /// The region is in the arena's map.
    pub unsafe fn inspect(arena: &Arena, region: RegionIndex) -> Option<(RegionIndex, usize)> {
        // SAFETY: passed on.
        let word = unsafe { arena.map().get(region) };
        let first = region.back(word.part_of(word.class()?)?.place);
        let word = RunWord(&run_record(arena, first).word);
        let free = word.free_bits().count_ones() as usize;
        Some((first, word.form().blocks().saturating_sub(free)))
    }
}

/// Writes the addresses of the blocks in `bits` of a run whose first block starts there. Returns how many.
fn spread(start: usize, class: ClassIndex, mut bits: u64, out: &mut [*mut u8]) -> usize {
    let mut filled = 0;
    while bits != 0 {
        let block = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        out[filled] = core::ptr::with_exposed_provenance_mut(start + block * class.size());
        filled += 1;
    }
    filled
}
