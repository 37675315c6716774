//! Giving back: runs whose blocks are all free, and whole free pages of the others.

use crate::cut::start_of;
use crate::mid_pool::{MidPool, Shard, WHOLE_KEPT};
use crate::record::{RunLinks, run_record};
use crate::run_form::MAX_BLOCKS;
use crate::run_word::{RunWord, Taken};
use hakmem_page_arena::Arena;
use hakmem_region_id::{ClassIndex, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::TaggedStack;
use hakmem_sys::sync::Ordering;
use hakmem_sys::vm;

/// Beyond [`WHOLE_KEPT`], wholly free runs stay until they are one in so many of the listed ones.
const WHOLE_SHARE: u32 = 8;
/// Set in `seen` once the pages of these free blocks are given back.
const PURGED: u64 = 1 << 63;

impl MidPool {
    /// All lists, class by class.
    fn lists(&self) -> impl Iterator<Item = (ClassIndex, &Shard)> {
        let classes = ClassIndex::all().skip(TINY_CLASSES).zip(&self.shards);
        classes.flat_map(|(class, shards)| shards.iter().map(move |shard| (class, shard)))
    }

    /// Gives wholly free runs back to the arena, all but those that are kept anyway, where a walk over
    /// the list is worth it: for when the arena is [offered](Arena::offer) them and has a use for them.
    /// Waits for no lock but the arena's.
    pub fn reclaim(&self, arena: &Arena) {
        for (_, shard) in self.lists() {
            if shard.whole.is_due(WHOLE_KEPT) {
                self.end_whole_runs(arena, shard, WHOLE_KEPT);
            }
        }
    }

    /// Gives wholly free runs back to the arena, all but those that are kept anyway: for once in a
    /// while, because after a long list has been looked through they may be many for a short one.
    pub fn sweep(&self, arena: &Arena) {
        for (_, shard) in self.lists() {
            if shard.whole.count() > WHOLE_KEPT {
                self.end_whole_runs(arena, shard, WHOLE_KEPT);
            }
        }
    }

    /// Gives all wholly free runs back to the arena.
    pub fn trim(&self, arena: &Arena) {
        // Who has it has lists in hand, whose runs may be what is missing.
        let _held = self.upkeep.lock();
        for (_, shard) in self.lists() {
            if !shard.list.is_empty() {
                self.end_whole_runs_of(arena, shard, 0);
            }
        }
    }

    /// Gives whole pages of free blocks back to the system, in runs that have been
    /// the same since the last call, or with `now` in all. Returns how many bytes it
    /// was; goes to no further list when that is `limit`.
    pub fn purge_holes(&self, arena: &Arena, now: bool, limit: usize) -> usize {
        let mut given = 0;
        for (class, shard) in self.lists() {
            if given < limit && !shard.list.is_empty() {
                given += self.purge_holes_of(arena, class, shard, now);
                // One that became whole while its other blocks were held there
                // was not counted by whoever gave the last one back.
                self.end_whole_runs(arena, shard, WHOLE_KEPT);
            }
        }
        given
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

    /// The same in the runs of one shard; none if somebody has lists in hand.
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
}

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
    let Taken::Blocks { bits, form, .. } = word.take(class, MAX_BLOCKS) else {
        return purged;
    };
    let (run, base) = (arena.map().address_of(first), start_of(arena, first, form));
    let (size, page) = (class.size(), vm::page_size());
    let mut rest = bits;
    while rest != 0 {
        let start = rest.trailing_zeros() as usize;
        let length = (rest >> start).trailing_ones() as usize;
        rest &= !(((1 << length) - 1) << start);
        let end = start + length;
        // What lies before the first block, or behind the last, is nobody's.
        let from = if start == 0 {
            run
        } else {
            (base + start * size).next_multiple_of(page)
        };
        let to = if end == form.blocks() {
            run + form.bytes()
        } else {
            (base + end * size) / page * page
        };
        if to > from {
            // SAFETY: all blocks that touch these pages were taken.
            if unsafe { vm::purge(from, to - from) } {
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
