//! Runs of blocks up to 32 KiB.

use crate::run_form::{FORMS, MAX_BLOCKS, MID_CLASSES, RunForm, mid_size, usual_regions};
use crate::run_word::{Given, RunWord, Taken};
use hakmem_page_arena::{Arena, Label, RUN_SIDE, Use};
use hakmem_region_id::{ClassIndex, REGION_BYTES, REGION_SHIFT, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::{StackLinks, Surplus, TaggedStack};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::report::{BadFree, bad_free};
use hakmem_sys::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hakmem_sys::vm;
use static_assertions::const_assert;

/// Lists for each class; a thread starts with the one its number names.
pub const SHARDS: usize = 8;

/// Runs with all blocks free that are kept of a class in a shard.
const WHOLE_KEPT: u32 = 1;
/// And beyond that one in so many of the listed runs, until they are looked for.
const WHOLE_SHARE: u32 = 8;
/// What is kept of a run, in the side record of each of its regions. Only the
/// first region's word and link mean anything.
#[repr(C)]
pub(crate) struct RunRecord {
    pub word: AtomicU64,
    pub link: AtomicU32,
    /// The run's first region.
    pub first: AtomicU32,
    /// Which shard lists the run. From here on the record is in the part of the
    /// side record that is the holder's alone.
    pub shard: AtomicU32,
    /// The free blocks when the purge last looked, and `PURGED`; zero when some were taken since. Whoever
    /// looks meanwhile may not see that, and takes what comes back for what was there.
    pub seen: AtomicU64,
}

#[cfg(not(loom))]
static_assertions::const_assert_eq!(
    core::mem::offset_of!(RunRecord, shard),
    RUN_SIDE.end - RUN_SIDE.start
);

/// `ceil(2^40 / size)`: `offset * RECIPROCAL >> 40` is `offset / size` for all offsets in a
/// run, because the product's error stays below one block.
const RECIPROCAL: [u32; MID_CLASSES] = {
    let mut table = [0; MID_CLASSES];
    let mut number = 0;
    while number < MID_CLASSES {
        table[number] = (1u64 << 40).div_ceil(mid_size(number) as u64) as u32;
        number += 1;
    }
    table
};

const_assert!({
    // What the reciprocal is too large by is less than one, so the quotient is too large by less
    // than `offset / 2^40`, which must not reach the next multiple: `1 / size`.
    let mut good = true;
    let mut number = 0;
    while number < MID_CLASSES {
        let bytes = usual_regions(mid_size(number)) as u64 * REGION_BYTES as u64;
        good &= bytes * hakmem_region_id::MAX_CACHED as u64 <= 1 << 40;
        number += 1;
    }
    good
});

/// What the first region of a run is aligned to, in regions, for blocks to be at multiples of the
/// largest power of two in their size.
fn run_align(class: ClassIndex) -> usize {
    ((1 << class.size().trailing_zeros()) >> REGION_SHIFT).max(1)
}

pub(crate) fn run_record(arena: &Arena, region: RegionIndex) -> &RunRecord {
    // SAFETY: side records stay mapped for ever; this part of them holds nothing
    // but these atomics, for which zero bytes are valid.
    unsafe { &*arena.side_record(region).add(RUN_SIDE.start).cast() }
}

/// Links of lists of runs.
pub(crate) struct RunLinks<'a>(pub &'a Arena);

impl StackLinks for RunLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        &run_record(self.0, RegionIndex(index)).link
    }
}

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

struct Shard {
    list: TaggedStack,
    /// Those of the listed runs that are wholly free.
    whole: Surplus,
}

/// The runs of blocks of all mid classes.
pub struct MidPool {
    shards: [[Shard; SHARDS]; MID_CLASSES],
    made: AtomicU64,
    ended: AtomicU64,
    met: AtomicU64,
    /// Regions of all runs.
    regions: AtomicUsize,
    /// Held while a list is in pieces, so that a fork can wait for that.
    upkeep: Lock<()>,
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
                    Taken::Blocks { bits, first: whole } => {
                        // The same blocks, free again, have been used.
                        record.seen.store(0, Ordering::Relaxed);
                        if whole {
                            list.whole.remove();
                        }
                        filled +=
                            spread(arena, RegionIndex(first), class, bits, &mut out[filled..]);
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
        let mut lengths = [0; FORMS];
        let mut forms = 0;
        for form in RunForm::all(class) {
            lengths[forms] = form.regions();
            forms += 1;
        }
        let label = Label::shared(class);
        let align = run_align(class);
        let run = arena.allocate_in_chunk(&lengths[..forms], align, label, Use::Unknown, 0);
        let Some(run) = run else {
            return (0, 0);
        };
        let regions = run.regions;
        let Some(form) = RunForm::all(class).find(|form| form.regions() == regions) else {
            unreachable!("a length that was asked for");
        };
        for region in 0..regions {
            let record = run_record(arena, run.first.plus(region));
            record.first.store(run.first.0, Ordering::Relaxed);
        }
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
        let filled = spread(arena, run.first, class, (1 << taken) - 1, out);
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
        let cut = Cut::of(class);
        let mut rest = blocks;
        while let [block, ..] = *rest {
            let (first, used) = cut.run_of(arena, block);
            let bits;
            (bits, rest) = cut.gather(arena.map().address_of(first), used, rest);
            self.give(arena, class, first, bits);
        }
    }

    fn give(&self, arena: &Arena, class: ClassIndex, first: RegionIndex, bits: u64) {
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
                let address = arena.map().address_of(first) + block * size;
                bad_free(address, BadFree::AlreadyFree { size })
            }
        }
    }

    /// Gives wholly free runs of a shard back to the arena, all but `keep`.
    fn end_whole_runs(&self, arena: &Arena, shard: &Shard, keep: u32) {
        if let Some(_held) = self.upkeep.try_lock() {
            self.end_whole_runs_of(arena, shard, keep);
        } else {
            // Somebody is at it; the count stays, so the next one tries again.
            arena.offer();
        }
    }

    /// The same, under the upkeep lock.
    fn end_whole_runs_of(&self, arena: &Arena, shard: &Shard, keep: u32) {
        let links = RunLinks(arena);
        let (mut kept, mut met) = (0, 0);
        let mut next = shard.list.take_all();
        while let Some(first) = next {
            next = TaggedStack::next(&links, first);
            met += 1;
            let region = RegionIndex(first);
            let word = RunWord(&run_record(arena, region).word);
            let form = word.form();
            if kept < keep && word.free_bits() == form.all_blocks() {
                kept += 1;
            } else if word.end() {
                // SAFETY: the run was popped, and all of its blocks were free when
                // its word became zero, so nobody can reach it.
                unsafe { arena.free(region, form.regions()) };
                self.ended.fetch_add(1, Ordering::Relaxed);
                self.regions.fetch_sub(form.regions(), Ordering::Relaxed);
                continue;
            } else if !word.unlist() {
                continue;
            }
            shard.list.push(&links, first);
        }
        shard.whole.set(kept);
        shard.whole.note_walk(met, WHOLE_SHARE);
        self.met.fetch_add(u64::from(met), Ordering::Relaxed);
    }

    /// Gives whole pages of free blocks back to the system, in runs that have been
    /// the same since the last call, or with `now` in all. Returns how many bytes it
    /// was; goes to no further list when that is `limit`.
    pub fn purge_holes(&self, arena: &Arena, now: bool, limit: usize) -> usize {
        let mut given = 0;
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            for shard in 0..SHARDS {
                let shard = self.shard(class, shard);
                if given < limit && !shard.list.is_empty() {
                    given += self.purge_holes_of(arena, class, shard, now);
                    // One that became whole while its other blocks were held there
                    // was not counted by whoever gave the last one back.
                    self.end_whole_runs(arena, shard, WHOLE_KEPT);
                }
            }
        }
        given
    }

    fn purge_holes_of(&self, arena: &Arena, class: ClassIndex, shard: &Shard, now: bool) -> usize {
        let Some(_held) = self.upkeep.try_lock() else {
            return 0;
        };
        let links = RunLinks(arena);
        let mut given = 0;
        let mut next = shard.list.take_all();
        while let Some(first) = next {
            next = TaggedStack::next(&links, first);
            let region = RegionIndex(first);
            let word = RunWord(&run_record(arena, region).word);
            let seen = &run_record(arena, region).seen;
            let free = word.free_bits();
            let before = seen.swap(free, Ordering::Relaxed);
            // A run in motion is left alone: what it gives back now it would have to
            // take again in a moment.
            let is_quiet = before & !PURGED == free;
            if is_quiet && before & PURGED != 0 {
                seen.store(before, Ordering::Relaxed);
            } else if is_quiet || now {
                let purged = purge_run(arena, region, class, &word);
                given += purged.given;
                if !purged.refused {
                    seen.store(free | PURGED, Ordering::Relaxed);
                }
            }
            if word.unlist() {
                shard.list.push(&links, first);
            }
        }
        given
    }

    /// The pool's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        self.upkeep.raw()
    }

    /// Gives wholly free runs back to the arena, all but those that are kept anyway, where a walk over
    /// the list is worth it: for when the arena is [offered](Arena::offer) them and has a use for them.
    /// Waits for no lock but the arena's.
    pub fn reclaim(&self, arena: &Arena) {
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            for shard in 0..SHARDS {
                let shard = self.shard(class, shard);
                if shard.whole.is_due(WHOLE_KEPT) {
                    self.end_whole_runs(arena, shard, WHOLE_KEPT);
                }
            }
        }
    }

    /// Gives wholly free runs back to the arena, all but those that are kept anyway: for once in a
    /// while, because after a long list has been looked through they may be many for a short one.
    pub fn sweep(&self, arena: &Arena) {
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            for shard in 0..SHARDS {
                let shard = self.shard(class, shard);
                if shard.whole.count() > WHOLE_KEPT {
                    self.end_whole_runs(arena, shard, WHOLE_KEPT);
                }
            }
        }
    }

    /// Gives all wholly free runs back to the arena.
    pub fn trim(&self, arena: &Arena) {
        // Who has it has lists in hand, whose runs may be what is missing.
        let _held = self.upkeep.lock();
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            for shard in 0..SHARDS {
                let shard = self.shard(class, shard);
                if !shard.list.is_empty() {
                    self.end_whole_runs_of(arena, shard, 0);
                }
            }
        }
    }

    /// The first region of the run that holds this region, and how many of its blocks are in use or in
    /// bins, for statistics.
    ///
    /// # Safety
    ///
    /// The region is in the arena's map, and is part of a mid run, or has been.
    pub unsafe fn inspect(arena: &Arena, region: RegionIndex) -> (RegionIndex, usize) {
        let first = RegionIndex(run_record(arena, region).first.load(Ordering::Relaxed));
        let word = RunWord(&run_record(arena, first).word);
        let free = word.free_bits().count_ones() as usize;
        (first, word.form().blocks().saturating_sub(free))
    }
}

/// Set in `seen` once the pages of these free blocks are given back.
const PURGED: u64 = 1 << 63;

/// What came of giving holes back.
struct Purged {
    /// Bytes that the system has now.
    given: usize,
    /// Whether it has refused some, which the program may have locked: they are to be tried again.
    refused: bool,
}

/// Gives the whole pages of a run's free blocks back to the system. Takes the
/// blocks meanwhile.
fn purge_run(arena: &Arena, first: RegionIndex, class: ClassIndex, word: &RunWord<'_>) -> Purged {
    let mut purged = Purged {
        given: 0,
        refused: false,
    };
    let Taken::Blocks { bits, .. } = word.take(class, MAX_BLOCKS) else {
        return purged;
    };
    let base = arena.map().address_of(first);
    let (size, page) = (class.size(), vm::page_size());
    let mut rest = bits;
    while rest != 0 {
        let start = rest.trailing_zeros() as usize;
        let length = (rest >> start).trailing_ones() as usize;
        rest &= !(((1 << length) - 1) << start);
        let from = (start * size).next_multiple_of(page);
        let to = (start + length) * size / page * page;
        if to > from {
            // SAFETY: all blocks that touch these pages were taken.
            if unsafe { vm::purge(base + from, to - from) } {
                purged.given += to - from;
            } else {
                purged.refused = true;
            }
        }
    }
    // The run was popped by the caller, who puts it back; so it counts as listed.
    word.give(bits);
    purged
}

/// Writes the addresses of the blocks in `bits`. Returns how many.
fn spread(
    arena: &Arena,
    first: RegionIndex,
    class: ClassIndex,
    mut bits: u64,
    out: &mut [*mut u8],
) -> usize {
    let base = arena.map().address_of(first);
    let mut filled = 0;
    while bits != 0 {
        let block = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        out[filled] = core::ptr::with_exposed_provenance_mut(base + block * class.size());
        filled += 1;
    }
    filled
}

/// Where the blocks of a class start: looked up once for many of them.
struct Cut {
    class: ClassIndex,
    /// Bytes of a block.
    size: usize,
    reciprocal: u64,
}

impl Cut {
    #[inline]
    fn of(class: ClassIndex) -> Self {
        Self {
            class,
            size: class.size(),
            reciprocal: u64::from(RECIPROCAL[class.number() - TINY_CLASSES]),
        }
    }

    /// The number of the block at an offset in a run, and how far it is inside.
    #[inline]
    fn divide(&self, offset: usize) -> (usize, usize) {
        let number = ((offset as u64 * self.reciprocal) >> 40) as usize;
        (number, offset - number * self.size)
    }

    /// The bits of the first blocks, as far as they lie in the `used` bytes of the run at `base`, and the
    /// others. As long as one of them is in use, all regions of the run name it: there is no need to ask
    /// each.
    #[inline]
    fn gather<'a>(
        &self,
        base: usize,
        used: usize,
        mut blocks: &'a [*mut u8],
    ) -> (u64, &'a [*mut u8]) {
        let size = self.size;
        let mut bits = 0;
        while let [block, rest @ ..] = blocks {
            let address = block.expose_provenance();
            let offset = address.wrapping_sub(base);
            if offset >= used {
                break;
            }
            let (number, inside) = self.divide(offset);
            if inside != 0 {
                bad_free(address, BadFree::Interior { inside, size });
            }
            let bit = 1 << number;
            if bits & bit != 0 {
                bad_free(address, BadFree::AlreadyFree { size });
            }
            bits |= bit;
            blocks = rest;
        }
        (bits, blocks)
    }

    /// The run of a block, and how many bytes its blocks have together. What is no block may be found
    /// out here, or when it is gathered.
    #[inline]
    fn run_of(&self, arena: &Arena, block: *mut u8) -> (RegionIndex, usize) {
        let address = block.expose_provenance();
        let map = arena.map();
        let Some(region) = map.region_of(address) else {
            bad_free(address, BadFree::NotOurs);
        };
        let first = RegionIndex(run_record(arena, region).first.load(Ordering::Relaxed));
        let offset = address.wrapping_sub(map.address_of(first));
        let form = RunWord(&run_record(arena, first).word).form();
        let used = form.blocks() * self.size;
        if offset >= used || !form.is_of(self.class) {
            self.refuse(address, offset, form);
        }
        (first, used)
    }

    #[cold]
    fn refuse(&self, address: usize, offset: usize, form: RunForm) -> ! {
        if !form.is_of(self.class) || offset >= form.regions() * REGION_BYTES {
            bad_free(address, BadFree::Gone);
        }
        let (size, (_, inside)) = (self.size, self.divide(offset));
        bad_free(address, BadFree::Interior { inside, size });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::RECIPROCAL;
    use crate::run_form::RunForm;
    use hakmem_region_id::{ClassIndex, REGION_BYTES, TINY_CLASSES};

    #[test]
    fn reciprocals_divide_every_offset_of_a_run() {
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            let reciprocal = u64::from(RECIPROCAL[class.number() - TINY_CLASSES]);
            for offset in 0..RunForm::usual(class).regions() * REGION_BYTES {
                let quotient = ((offset as u64 * reciprocal) >> 40) as usize;
                assert_eq!(quotient, offset / class.size(), "{offset} of {class:?}");
            }
        }
    }
}
