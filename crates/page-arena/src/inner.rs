//! What the arena's lock guards: which regions there are, which of them are free, and where a request
//! is placed.

use crate::free_runs::{FreeRun, FreeRuns, INSIDE, Place, Records, State, align_region};
use crate::huge::{HUGE_REGIONS, HugeTaker};
use crate::run::{Label, Run, Shape};
use crate::space::Space;
use core::ops::Range;
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionMap, RegionWord};
use hakmem_sys::vm::{self, MapError};

/// Regions committed at a time at first (2 MiB), and the least ever.
pub(crate) const STEP_MIN: usize = (2 << 20) / REGION_BYTES;
/// So many holes are made at most where all free memory goes back. Each costs two mappings, of
/// which a process may have 65 530.
const MOST_HOLES: usize = 4096;
/// From this length on (4 MiB) a run that dirty memory is too scattered to serve
/// takes the place of as much of it: the system gets it back, so that large blocks
/// of changing sizes do not add up. What is below this part of what is in use stays: most of it
/// serves one of the next runs, and costs more to get anew than all else a large block does.
const REPLACE_REGIONS: usize = (4 << 20) / REGION_BYTES;
const REPLACE_SHARE: usize = 2;
/// From this length on (32 MiB) all of it goes: such blocks are few, and what they leave is much.
const REPLACE_ALL_REGIONS: usize = (32 << 20) / REGION_BYTES;
/// What a run has grown by makes up for as much dirty memory of what there is beyond this part of
/// what is in use.
const DIRTY_SHARE: usize = 4;
/// Beyond this part of what is in use long dirty runs are split for what will grow, so that it has room.
const ROOM_SHARE: usize = 2;

/// What is to be taken out of the free lists.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub shape: Shape,
    pub label: Label,
    /// Where in dirty memory it fits ([`Inner::dirty_for`]).
    pub dirty: Option<Place>,
    /// Whether it is another shape than was wanted, for that dirty memory.
    pub takes_dirty: bool,
}

/// A run taken out of the free lists.
#[derive(Clone, Copy)]
pub(crate) struct TakenRun {
    pub run: Run,
    /// The chunks that huge pages are to be put behind. What they have beyond the run was taken for
    /// that only.
    pub chunks: Option<Chunks>,
}

/// Where a run goes of which a part lies in clean chunks.
#[derive(Clone, Copy)]
pub(crate) struct Chunks {
    /// Where the run begins.
    pub start: RegionIndex,
    /// Regions of dirty memory that it begins with: all there is before the clean run.
    pub dirty: usize,
    /// The first chunk.
    pub first: RegionIndex,
    /// How many there are; none, if no huge page is to be taken now.
    pub count: usize,
}

impl Chunks {
    /// Where the chunks end or a run of so many regions does, whatever comes last.
    pub fn end(self, regions: usize) -> RegionIndex {
        let end = self.first.plus(self.count * HUGE_REGIONS);
        end.max(self.start.plus(regions))
    }
}

/// See the module's text.
pub(crate) struct Inner {
    pub space: Option<Space>,
    pub free: FreeRuns,
    /// Regions from the base on that the arena has taken.
    pub top: usize,
    /// Of these, regions somebody else has mapped.
    pub foreign: usize,
    /// Whether the system is to be kept from making huge pages by itself.
    pub is_small: bool,
    /// Regions given back to the system so far.
    pub purged: u64,
    /// Dirty runs in no list that the system has just refused to take: a chain, whose first is this region,
    /// plus one.
    refused: u32,
}

// SAFETY: the addresses inside mean the same on every thread.
unsafe impl Send for Inner {}

/// A detached run of which the system does not take all is tried in so many parts.
const REFUSED_PARTS: usize = 16;

/// Gives the memory of a run back to the system, which may refuse to take it. Returns whether it has all.
///
/// # Safety
///
/// The run was detached.
pub(crate) unsafe fn purge(map: &RegionMap, run: FreeRun) -> bool {
    // SAFETY: the run is in no list, so nobody uses it.
    unsafe { vm::purge(map.address_of(run.first), run.len * REGION_BYTES) }
}

/// Whether a run may get a huge page.
#[derive(Clone, Copy)]
pub(crate) struct Huge<'a> {
    pub taker: &'a HugeTaker,
    /// Regions that have to be in use.
    pub least: usize,
    /// Whether the run may begin anywhere.
    pub may_begin_before: bool,
}

impl Inner {
    pub const fn new() -> Self {
        Self {
            space: None,
            free: FreeRuns::new(),
            top: 0,
            foreign: 0,
            is_small: false,
            purged: 0,
            refused: 0,
        }
    }

    pub fn records<'a>(&self, map: &'a RegionMap) -> Records<'a> {
        Records {
            map,
            start: self.space.as_ref().map_or(0, |space| space.records),
            top: self.top,
        }
    }

    /// Regions handed out.
    pub fn used(&self) -> usize {
        let free: usize = State::ALL
            .iter()
            .map(|&state| self.free.regions(state))
            .sum();
        self.top - self.foreign - free
    }

    /// Moves the top up over `count` regions and makes them free, or foreign.
    pub fn append(&mut self, map: &RegionMap, count: usize, state: Option<State>) {
        let first = RegionIndex(self.top as u32);
        self.top += count;
        let at = self.records(map);
        if let Some(state) = state {
            let run = FreeRun { first, len: count };
            at.label(first, count, INSIDE);
            self.free.insert(at, run, state, 0);
        } else {
            at.label(first, count, RegionWord::of_kind(Kind::Foreign));
            self.foreign += count;
        }
        // SAFETY: metadata up to the top is committed and labelled.
        unsafe { map.set_len(self.top) };
    }

    /// Where free memory ends that begins with a run at `from`: behind `end`, or at the top. `None`
    /// if something else comes first, or a hole: filling one can fail half way, and a move of the
    /// block that would grow is as good.
    pub fn reach(
        &self,
        map: &RegionMap,
        from: RegionIndex,
        end: RegionIndex,
    ) -> Option<RegionIndex> {
        let at = self.records(map);
        let mut cursor = from;
        while cursor.0 < end.0 && cursor.index() < self.top {
            let state = State::of_word(at.word(cursor))?;
            if state == State::Hole {
                return None;
            }
            cursor = cursor.plus(at.record(cursor).len());
        }
        Some(cursor)
    }

    /// Commits what can be had of the next `count` regions, where somebody else
    /// has mapped a part of them.
    pub fn append_around_foreign(&mut self, map: &RegionMap, count: usize) -> Result<(), MapError> {
        let mut done = 0;
        while done < count {
            let step = (count - done).min(STEP_MIN);
            let space = self.space.as_ref().ok_or(MapError::OutOfMemory)?;
            match space.commit_more(self.top, step) {
                Ok(()) => self.append(map, step, Some(State::Clean)),
                Err(MapError::Occupied) => self.append(map, step, None),
                Err(error) => return Err(error),
            }
            done += step;
        }
        Ok(())
    }

    /// Takes a run out of the free lists: dirty memory first, because it is
    /// there already, and a hole last; but a short one where it fits ([`FreeRuns::choose`]).
    ///
    /// `Occupied` means that a hole was found to be foreign: try again.
    pub fn take(
        &mut self,
        map: &RegionMap,
        request: Request,
        huge: Option<Huge<'_>>,
    ) -> Result<Option<TakenRun>, MapError> {
        let Request {
            shape,
            label,
            dirty,
            takes_dirty,
        } = request;
        let count = shape.regions;
        let at = self.records(map);
        let spares_dirty = !takes_dirty && self.surplus_dirty() == 0;
        let mut refused = None;
        for with_holes in [true, false] {
            let found = self.free.choose(at, shape, dirty, spares_dirty, with_holes);
            let Some((state, run, mut start)) = found else {
                break;
            };
            let chunks =
                huge.and_then(|huge| self.huge_chunks(at, (run, start), state, count, huge));
            if chunks.is_some_and(|chunks| chunks.count > 0)
                && let Some(space) = self.space.as_mut()
            {
                space.set_small(true, self.top);
            }
            let mut end = start.plus(count);
            let mut lead = 0;
            if let Some(chunks) = chunks {
                (start, end, lead) = (chunks.start, chunks.end(count), chunks.dirty);
            }
            let taken = FreeRun {
                first: start,
                len: end.index() - start.index(),
            };
            let stamp = self.cut_out(at, (state, run), taken, lead);
            let outcome = match (state, self.space.as_ref()) {
                (State::Hole, Some(space)) => space.commit(start, count),
                _ => Ok(()),
            };
            if let Err(error) = outcome {
                if error == MapError::Occupied {
                    self.foreign += count;
                    at.label(start, count, RegionWord::of_kind(Kind::Foreign));
                    return Err(error);
                }
                self.free.insert(at, taken, state, stamp);
                refused = Some(error);
                continue;
            }
            at.label_run(start, 0..count, label);
            at.record(start).set_len(count);
            return Ok(Some(TakenRun {
                run: Run {
                    first: start,
                    regions: count,
                    soiled: if state == State::Dirty { count } else { lead },
                    huge_pages: 0,
                },
                chunks,
            }));
        }
        refused.map_or(Ok(None), Err)
    }

    /// Takes a run out of a free one, and its first `lead` regions out of the dirty one in front of
    /// that. What is left of the free one is free as before. Returns the stamp of that.
    fn cut_out(
        &mut self,
        at: Records<'_>,
        (state, run): (State, FreeRun),
        taken: FreeRun,
        lead: usize,
    ) -> u32 {
        let clean = taken.first.plus(lead);
        let end = taken.first.plus(taken.len);
        let stamp = at.record(run.first).stamp.get();
        self.free.remove(at, run, state);
        if lead > 0 {
            let dirty = FreeRun {
                first: taken.first,
                len: lead,
            };
            self.free.remove(at, dirty, State::Dirty);
            // Where the two meet is inside now.
            at.label(dirty.last(), 1, INSIDE);
            at.label(clean, 1, INSIDE);
        }
        at.label_ends(taken, RegionWord::of_kind(Kind::Taken));
        let before = FreeRun {
            first: run.first,
            len: clean.index() - run.first.index(),
        };
        let after = FreeRun {
            first: end,
            len: run.first.index() + run.len - end.index(),
        };
        for rest in [before, after] {
            if rest.len > 0 {
                self.free.insert(at, rest, state, stamp);
            }
        }
        stamp
    }

    /// Takes what is free from one region to another, all of it, as the rest of a run that begins with `first`
    /// and ends there. Returns whether it reads as zero, and how many regions were not dirty.
    pub fn take_behind(
        &mut self,
        map: &RegionMap,
        first: RegionIndex,
        rest: Range<usize>,
        label: Label,
    ) -> Option<(bool, usize)> {
        let at = self.records(map);
        let (mut zeroed, mut fresh) = (true, 0);
        let (mut cursor, end) = (first.plus(rest.start), first.plus(rest.end));
        while cursor.0 < end.0 {
            let len = at.record(cursor).len();
            let state = State::of_word(at.word(cursor))?;
            let stamp = at.record(cursor).stamp.get();
            self.free.remove(at, FreeRun { first: cursor, len }, state);
            let used = len.min(end.index() - cursor.index());
            if state == State::Dirty {
                zeroed = false;
            } else {
                fresh += used;
            }
            let place = cursor.index() - first.index();
            at.label_run(first, place..place + used, label);
            if used < len {
                let tail = FreeRun {
                    first: cursor.plus(used),
                    len: len - used,
                };
                self.free.insert(at, tail, state, stamp);
            }
            cursor = cursor.plus(len);
        }
        Some((zeroed, fresh))
    }

    /// How many regions are dirty beyond their share.
    pub fn surplus_dirty(&self) -> usize {
        self.dirty_beyond(DIRTY_SHARE)
    }

    /// Whether there is so much dirty memory that long runs of it may be split for what will grow.
    pub fn has_room(&self) -> bool {
        self.dirty_beyond(ROOM_SHARE) > 0
    }

    /// How many regions are dirty beyond one in so many of those in use.
    fn dirty_beyond(&self, share: usize) -> usize {
        let dirty = self.free.regions(State::Dirty);
        dirty.saturating_sub(self.used() / share)
    }

    /// Where in a free run, that would take it elsewhere, a run of so many regions lies so that huge
    /// pages can be put behind its chunks, if they can and are to be. It begins with a chunk; or in
    /// the dirty memory before one, if there is some: what earlier runs have left of their last chunk
    /// would else serve shorter ones only. If there is no room for its last chunk, it lies where it
    /// would, and those that are wholly inside get huge pages.
    fn huge_chunks(
        &self,
        at: Records<'_>,
        (free, elsewhere): Place,
        state: State,
        count: usize,
        huge: Huge<'_>,
    ) -> Option<Chunks> {
        if state != State::Clean || self.foreign > 0 || self.used() < huge.least {
            return None;
        }
        let first = align_region(at.map.base(), free.first, HUGE_REGIONS);
        // The first chunk may begin beyond the top.
        let before = if huge.may_begin_before && first == free.first {
            at.free_before(first, State::Dirty)
        } else {
            0
        };
        let dirty = if before < count { before } else { 0 };
        let mut chunks = Chunks {
            start: RegionIndex(first.0 - dirty as u32),
            dirty,
            first,
            count: (count - dirty).div_ceil(HUGE_REGIONS),
        };
        if chunks.end(count).index() > free.first.index() + free.len {
            if dirty == 0 {
                chunks.start = elsewhere;
                chunks.first = align_region(at.map.base(), elsewhere, HUGE_REGIONS);
            }
            let end = chunks.start.index() + count;
            chunks.count = end.saturating_sub(chunks.first.index()) / HUGE_REGIONS;
        }
        if chunks.count > 0 && !huge.taker.is_turn() {
            chunks.count = 0;
        }
        (chunks.count > 0 || dirty > 0).then_some(chunks)
    }

    /// Takes up to `part` regions, the last ones, of a dirty run that `is_meant` says yes to, by
    /// when it was freed, out of the lists.
    pub fn detach_dirty(
        &mut self,
        map: &RegionMap,
        part: usize,
        is_meant: impl Fn(u32) -> bool,
    ) -> Option<FreeRun> {
        let at = self.records(map);
        let run = self.free.find_dirty(at, is_meant)?;
        let stamp = at.record(run.first).stamp.get();
        self.free.remove(at, run, State::Dirty);
        let len = run.len.min(part);
        let rest = FreeRun {
            first: run.first,
            len: run.len - len,
        };
        let detached = FreeRun {
            first: run.first.plus(rest.len),
            len,
        };
        at.label_ends(detached, RegionWord::of_kind(Kind::Taken));
        if rest.len > 0 {
            self.free.insert(at, rest, State::Dirty, stamp);
        }
        Some(detached)
    }

    /// Where in dirty memory such a run fits.
    pub fn dirty_for(&self, map: &RegionMap, shape: Shape) -> Option<Place> {
        self.free.find(self.records(map), State::Dirty, shape)
    }

    /// How much dirty memory, of what there is beyond its share, is to go back to the system where it is
    /// too scattered to serve so long a run: what will be taken in its place is not on top of it.
    pub fn scattered_for(&self, count: usize) -> usize {
        if count < REPLACE_REGIONS {
            return 0;
        }
        let surplus = if count < REPLACE_ALL_REGIONS {
            self.dirty_beyond(REPLACE_SHARE)
        } else {
            usize::MAX
        };
        surplus.min(count).min(self.free.regions(State::Dirty))
    }

    /// Puts a detached run back of which the system has all, if it is `done`, or refused to take some: then
    /// each part is tried by itself, and what is refused again is set aside. Returns how many regions
    /// the system has.
    ///
    /// # Safety
    ///
    /// The run was detached, and if it is `done`, it reads as zero.
    pub unsafe fn note_purged(&mut self, map: &RegionMap, run: FreeRun, done: bool) -> usize {
        let mut given = 0;
        let part = if done {
            run.len
        } else {
            run.len.div_ceil(REFUSED_PARTS)
        };
        for offset in (0..run.len).step_by(part) {
            let part = FreeRun {
                first: run.first.plus(offset),
                len: part.min(run.len - offset),
            };
            let at = self.records(map);
            // SAFETY: the run was detached: it is in no list, so nobody uses it.
            if done || unsafe { purge(map, part) } {
                self.free.insert(at, part, State::Clean, 0);
                given += part.len;
            } else {
                at.label_ends(part, RegionWord::of_kind(Kind::Taken));
                at.set_aside(part, &mut self.refused);
            }
        }
        self.purged += given as u64;
        given
    }

    /// Puts back, as dirty just now, what the system has refused to take: with what it is joined to, so that
    /// others have their turn before it is tried again.
    pub fn put_back(&mut self, map: &RegionMap) {
        let at = self.records(map);
        let stamp = hakmem_sys::clock::now_ms();
        while let Some(run) = at.next_aside(&mut self.refused) {
            let joined = self.free.insert(at, run, State::Dirty, stamp);
            at.record(joined).stamp.set(stamp);
        }
    }

    /// Gives all free memory back to the system, and its addresses, too: what a limit
    /// on either was missing. Not the addresses of runs so short that there might be more
    /// than [`MOST_HOLES`], unless they lie beside a hole; and no addresses at all where they would not
    /// come back.
    pub fn release_free(&mut self, map: &RegionMap) {
        let space = self.space.filter(Space::can_fill_holes);
        let least = match space {
            Some(_) => (self.top / MOST_HOLES).max(1),
            None => usize::MAX,
        };
        while let Some(run) = self.detach_dirty(map, usize::MAX, |_| true) {
            // SAFETY: the run was detached: it is in no list, so nobody uses it.
            unsafe {
                if run.len >= least && self.decommit(run) {
                    self.free.insert(self.records(map), run, State::Hole, 0);
                    self.purged += run.len as u64;
                } else {
                    let done = purge(map, run);
                    self.note_purged(map, run, done);
                }
            }
        }
        self.put_back(map);
        let Some(space) = space else {
            return;
        };
        let at = self.records(map);
        let mut least = least;
        self.free.visit(at, State::Clean, |free, run| {
            // One beside a hole costs no mapping.
            let is_beside = at.is_beside(run, State::Hole);
            if run.len < least && !is_beside {
                return true;
            }
            // SAFETY: the run is free, and the lock is held.
            let is_hole = unsafe { space.decommit(run.first, run.len) };
            if is_hole {
                free.remove(at, run, State::Clean);
                free.insert(at, run, State::Hole, 0);
            } else {
                // There are as many mappings as there may be.
                least = usize::MAX;
            }
            is_hole || !is_beside
        });
    }

    /// # Safety
    ///
    /// The run is committed, and nobody uses it.
    pub unsafe fn decommit(&self, run: FreeRun) -> bool {
        self.space.as_ref().is_some_and(|space| {
            // SAFETY: passed on.
            unsafe { space.decommit(run.first, run.len) }
        })
    }
}
