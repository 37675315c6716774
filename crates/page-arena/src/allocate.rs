//! Runs are handed out: from what is free, or from what the arena grows by.

use crate::arena::Arena;
use crate::free_runs::{FreeRun, State, align_region};
use crate::huge::{HUGE_REGIONS, Use};
use crate::inner::{Huge, Inner, Request, STEP_MIN, TakenRun};
use crate::run::{Label, Run, Shape, large_regions};
use core::sync::atomic::Ordering;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_sys::vm::MapError;

/// Regions committed at a time at most where no more is asked for (64 MiB).
const STEP_MAX: usize = (64 << 20) / REGION_BYTES;

/// From so many regions in use on (16 MiB), and as many times what is asked for, dense memory is
/// taken as huge pages: what is there too early is an eighth at most.
const HUGE_FROM: usize = HUGE_SHARE * HUGE_REGIONS;
const HUGE_SHARE: usize = 8;

/// In a smaller arena, from so many regions in use on by what comes in runs like the one that is
/// asked for: twice what a short run's chunk has (4 MiB), of which the rest is for the next ones,
const HUGE_FROM_LIKE: usize = 2 * HUGE_REGIONS;
/// and for a run of a chunk or more what it has itself.
const fn huge_from_like(count: usize) -> usize {
    if count < HUGE_REGIONS {
        HUGE_FROM_LIKE
    } else {
        count
    }
}

/// The longest run that comes as huge pages, in regions (of a block of 8 MiB). What is touched at once is still in
/// the caches when it is used, and the call takes a millisecond at most where huge pages are at hand.
pub const MAX_HUGE_RUN: usize = large_regions(4 * HUGE_REGIONS * REGION_BYTES, 1);

impl Arena {
    /// Hands out `count` regions in a row whose first address is a multiple of
    /// `align` regions, labelled `label`; or `None` if the system has no memory, the range is
    /// used up, `count` is zero or more than the label [may have](Label::may_have), or `align` is no power of
    /// two or more than the range.
    pub fn allocate(&self, count: usize, align: usize, label: Label) -> Option<Run> {
        let shape = Shape {
            regions: count,
            align,
        };
        self.allocate_from(&[(shape, label)], None)
            .map(|taken| taken.run)
    }

    /// As [`allocate`](Self::allocate) without alignment, for a run that will [grow](Self::extend): `count`
    /// regions with which a dirty free run of at least `room` begins, so that it can become so long where it
    /// is, in memory that is there. `None` if there is no such run, or no more dirty memory than half of what is
    /// in use: then long runs are not split for this.
    pub fn allocate_with_room(&self, count: usize, room: usize, label: Label) -> Option<Run> {
        let shape = Shape {
            regions: count,
            align: 1,
        };
        if !shape.is_possible() || !label.may_have(count) || room < count {
            return None;
        }
        let mut inner = self.written.0.inner.lock();
        if room > inner.top || !inner.has_room() {
            return None;
        }
        let roomy = Shape {
            regions: room,
            ..shape
        };
        let request = Request {
            shape,
            label,
            dirty: Some(inner.dirty_for(&self.map, roomy)?),
            takes_dirty: true,
        };
        let taken = inner.take(&self.map, request, None).ok()??;
        self.note_counts(&inner);
        Some(taken.run)
    }

    /// As [`allocate`](Self::allocate), of the first of these `shapes`, or of a later one (but those that no run
    /// can have) where dirty memory is there for that only, as it may be for a shorter run, with the label that
    /// stands beside it; for runs that may come as huge pages, of which they share the first and the last with
    /// others (runs up to [`MAX_HUGE_RUN`]; longer ones get none). Which of them get some is what
    /// [`set_huge_pages`](Self::set_huge_pages) says; `like` is how many regions are in use for runs of their
    /// kind, as far as the caller knows, which may be wrong.
    pub fn allocate_in_chunk(
        &self,
        shapes: &[(Shape, Label)],
        expected: Use,
        like: usize,
    ) -> Option<Run> {
        let (usual, _) = *shapes.first()?;
        let (count, align) = (usual.regions, usual.align);
        let fits = count <= MAX_HUGE_RUN && align <= HUGE_REGIONS;
        let huge = (fits && self.huge.is_wanted(expected)).then(|| Huge {
            taker: &self.huge,
            least: if like >= huge_from_like(count) {
                0
            } else {
                HUGE_FROM.max(HUGE_SHARE * count)
            },
            may_begin_before: align == 1,
        });
        let TakenRun { run, chunks } = self.allocate_from(shapes, huge)?;
        let Some(chunks) = chunks.filter(|chunks| chunks.count > 0) else {
            return Some(run);
        };
        let first = self.map.address_of(chunks.first);
        // SAFETY: free chunks, of which the run has a part, were taken for this, and read as zero.
        let huge_pages = unsafe { self.huge.take(first, chunks.count) };
        let (behind, end) = (run.first.plus(run.regions), chunks.end(run.regions));
        if behind < end {
            let rest = FreeRun {
                first: behind,
                len: end.index() - behind.index(),
            };
            let (state, stamp) = if huge_pages == chunks.count {
                (State::Dirty, hakmem_sys::clock::now_ms())
            } else {
                (State::Clean, 0)
            };
            let mut inner = self.written.0.inner.lock();
            let at = inner.records(&self.map);
            inner.free.insert(at, rest, state, stamp);
            self.note_counts(&inner);
        }
        Some(Run { huge_pages, ..run })
    }

    fn allocate_from(&self, shapes: &[(Shape, Label)], huge: Option<Huge<'_>>) -> Option<TakenRun> {
        let (&(usual, label), others) = shapes.split_first()?;
        let is_possible =
            |shape: Shape, label: Label| shape.is_possible() && label.may_have(shape.regions);
        if !is_possible(usual, label) {
            return None;
        }
        let mut inner = self.written.0.inner.lock();
        self.open(&mut inner)?;
        let range = inner.space.as_ref()?.regions;
        let is_in_range = |shape: Shape| shape.regions.max(shape.align) <= range;
        if !is_in_range(usual) {
            return None;
        }
        let mut dirty = inner.dirty_for(&self.map, usual);
        if dirty.is_none() && self.is_offered.load(Ordering::Relaxed) {
            drop(inner);
            self.reclaim_offered();
            inner = self.written.0.inner.lock();
            dirty = inner.dirty_for(&self.map, usual);
        }
        let scattered = if dirty.is_none() {
            inner.scattered_for(usual.regions)
        } else {
            0
        };
        if scattered > 0 {
            drop(inner);
            self.give_back_for_request(scattered);
            inner = self.written.0.inner.lock();
            dirty = inner.dirty_for(&self.map, usual);
        }
        let mut request = Request {
            shape: usual,
            label,
            dirty,
            takes_dirty: false,
        };
        if dirty.is_none() {
            let mut others = others
                .iter()
                .filter(|&&(shape, label)| is_possible(shape, label) && is_in_range(shape));
            let found = others.find_map(|&(shape, label)| {
                let place = inner.dirty_for(&self.map, shape)?;
                Some(Request {
                    shape,
                    label,
                    dirty: Some(place),
                    takes_dirty: true,
                })
            });
            request = found.unwrap_or(request);
        }
        let mut purged = false;
        loop {
            match inner.take(&self.map, request, huge) {
                Ok(Some(taken)) => {
                    self.note_counts(&inner);
                    return Some(taken);
                }
                // A hole turned out to be taken by somebody else; look again.
                Err(MapError::Occupied) => continue,
                Ok(None) => match self.grow(&mut inner, request.shape) {
                    // In the other case, the arena grew around somebody else's
                    // mapping.
                    Ok(()) | Err(MapError::Occupied) => continue,
                    Err(_) => {}
                },
                Err(_) => {}
            }
            // The system refuses. Dirty runs may be holding the memory that is
            // missing: give them back, merge, and look once more.
            if purged {
                return None;
            }
            purged = true;
            // So may somebody who has it in hand: wait until it is in the lists again.
            drop(inner);
            let in_hand = self.written.0.in_hand.lock();
            inner = self.written.0.inner.lock();
            inner.release_free(&self.map);
            drop(in_hand);
            // What could not be given back is dirty still.
            request.dirty = inner.dirty_for(&self.map, request.shape);
        }
    }

    /// Adds room for `count` aligned regions at the top.
    fn grow(&self, inner: &mut Inner, shape: Shape) -> Result<(), MapError> {
        let (count, align) = (shape.regions, shape.align);
        let at = inner.records(&self.map);
        let top = RegionIndex(inner.top as u32);
        // A clean run at the top becomes part of what is added.
        let clean = at.free_before(top, State::Clean);
        let start = RegionIndex(top.0 - clean as u32);
        let start = align_region(self.map.base(), start, align);
        // The run at the top can be long enough and yet not have been found, behind
        // many others in its list: what is added to it puts it in front.
        let missing = (start.index() + count).saturating_sub(top.index());
        self.grow_by(inner, missing.max(1))
    }

    /// Commits at least `needed` more regions at the top.
    ///
    /// `Occupied` means that the arena grew, but that a part of what was added
    /// belongs to somebody else.
    pub(crate) fn grow_by(&self, inner: &mut Inner, needed: usize) -> Result<(), MapError> {
        let top = inner.top;
        let space = inner.space.as_mut().ok_or(MapError::OutOfMemory)?;
        let room = space.regions - top;
        if needed > room {
            return Err(MapError::OutOfMemory);
        }
        let generous = (top / 8).clamp(STEP_MIN, STEP_MAX).max(needed);
        let generous = generous.next_multiple_of(STEP_MIN).min(room);
        let mut failure = MapError::OutOfMemory;
        for step in [generous, needed] {
            // The regions first: what is too much is refused at once, and has taken nothing.
            let committed = space.commit_more(top, step);
            if let Err(error) = committed
                && error != MapError::Occupied
            {
                failure = error;
                continue;
            }
            if let Err(error) = space.commit_meta(top + step) {
                if committed.is_ok() {
                    // SAFETY: committed a moment ago, and used by nobody.
                    unsafe { space.undo_more(top, step) };
                }
                failure = error;
                continue;
            }
            if committed.is_err() {
                inner.append_around_foreign(&self.map, step)?;
                return Err(MapError::Occupied);
            }
            self.written.0.growths.fetch_add(1, Ordering::Relaxed);
            inner.append(&self.map, step, Some(State::Clean));
            return Ok(());
        }
        // Metadata that collides with somebody else's mapping ends the range.
        Err(if failure == MapError::Occupied {
            MapError::OutOfMemory
        } else {
            failure
        })
    }
}
