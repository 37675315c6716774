//! The slabs of one heap.

use crate::marks::Marks;
use crate::pool::{EmptySource, Shared};
use crate::record::{InboxLinks, Place, Slab, shared_of};
use core::cell::Cell;
use core::mem::MaybeUninit;
use hakmem_page_arena::{Arena, Use};
use hakmem_region_id::{ClassIndex, OwnerId, REGION_BYTES, RegionIndex, RegionWord, TINY_CLASSES};
use hakmem_remote_free::{
    BlockLinks, Bundle, Chain, Disowned, OwnerNumber, Pushed, RegionBlocks, TaggedStack, Unlisted,
};
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::RawLock;
use hakmem_sys::report;
use hakmem_sys::sync::{AtomicBool, AtomicU32, Ordering};

/// Slabs with room that a heap keeps when it claims another by freeing into it.
const CLAIMED_KEPT: u32 = 4;
/// Untouched memory is asked for an eighth of what the class has full slabs of at a time: it
/// will be used, and at worst so much is there too early.
const AHEAD: usize = 8;
/// If that is at least so many bytes: less at a time costs as much as the pages one by one. Where
/// regions have 16 KiB, it is a whole slab.
const LEAST_AHEAD: usize = 16 * 1024;
/// From this many full slabs on (16 MiB), a heap's next superslab is taken to become full too:
/// of what the heap has, a huge page is an eighth at most.
const DENSE_FROM: u32 = ((16 << 20) / REGION_BYTES) as u32;
/// A sleeper's slab goes to the pool if one in so many of its blocks is free.
const SLEEPER_GIVES: u16 = 8;
/// Sparse slabs beyond this many of a class are for others, where those ask.
const SPARSE_KEPT: u32 = 4;
/// So many are given at a time.
const SPARE_GIVEN: usize = 8;
/// After so many slabs, or so many bytes that the system has taken, who gives the holes of a heap back
/// leaves the lock for others: some hundred microseconds.
const MET_AT_A_TIME: usize = 64;
const GIVEN_AT_A_TIME: usize = 1 << 20;

/// What happened to a heap's slabs, as counts of events.
#[derive(Debug, Default)]
pub struct SlabCounts {
    /// Refills served from the heap's own slabs.
    pub refills_own: Counter,
    /// Slabs claimed from the pool of their class for a refill.
    pub refills_pool: Counter,
    /// Empty slabs taken from superslabs in use.
    pub refills_empty: Counter,
    /// Empty slabs taken from wholly empty superslabs.
    pub refills_superslab: Counter,
    /// Empty slabs taken from new superslabs.
    pub refills_arena: Counter,
    /// Blocks that came back into the heap's own slabs.
    pub local_frees: Counter,
    /// Blocks freed by this heap that went to another's slab.
    pub remote_frees: Counter,
    /// Chains pushed to slabs of other heaps.
    pub remote_pushes: Counter,
    /// Chains taken from remote lists.
    pub remote_drains: Counter,
    /// Slabs claimed by freeing into them.
    pub claims: Counter,
    /// Slabs given up.
    pub disowns: Counter,
    /// Slabs that became empty and went back to their superslab.
    pub emptied: Counter,
    /// Times this heap took in what was waiting for another one. This and `remote_frees` are
    /// added to without the heap's lock: by `add_shared` only.
    pub helps: Counter,
}

impl SlabCounts {
    /// Empty slabs taken, wherever from.
    pub fn slabs_started(&self) -> u64 {
        self.refills_empty.get() + self.refills_superslab.get() + self.refills_arena.get()
    }
}

/// A heap's slabs of one class. Heads are region + 1.
///
/// Cells, because several views of them may be at hand at once.
#[derive(Default)]
struct ClassSlabs {
    current: Cell<u32>,
    partial: Cell<u32>,
    sparse: Cell<u32>,
    full: Cell<u32>,
    partial_count: Cell<u32>,
    sparse_count: Cell<u32>,
    full_count: Cell<u32>,
    /// Whether the heap has allocated from the class (since its last owner).
    active: Cell<bool>,
}

type Lists = [ClassSlabs; TINY_CLASSES];

/// Adds one.
fn count_up(count: &Cell<u32>) {
    count.set(count.get() + 1);
}

/// Takes one away.
fn count_down(count: &Cell<u32>) {
    count.set(count.get() - 1);
}

/// The slabs that one heap owns, and its inbox.
///
/// All work on them is done under the heap's lock. Its own thread takes it on slow paths only.
/// Others wait for it a little to free blocks of its slabs, only try it to do the upkeep of a
/// heap whose thread sleeps, and wait as long as it takes in [`trim`](Self::trim).
pub struct OwnedSlabs {
    number: OwnerNumber,
    pub(crate) owner: OwnerId,
    lock: RawLock,
    /// Slabs in whose remote lists blocks are waiting.
    pub(crate) inbox: TaggedStack,
    lists: Lists,
    /// How often the heap's own thread came, and what that was when another looked last.
    visits: AtomicU32,
    visits_seen: AtomicU32,
    /// Whether nothing has changed since another did the upkeep. Written under the lock.
    is_tended: AtomicBool,
    pub(crate) counts: SlabCounts,
}

// SAFETY: the cells in `lists` are only reached through `Held`, which exists under the lock.
unsafe impl Sync for OwnedSlabs {}

impl core::fmt::Debug for OwnedSlabs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OwnedSlabs")
            .field("number", &self.number)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl OwnedSlabs {
    /// No slabs yet, for the owner with this number; `None` when numbers have
    /// run out.
    ///
    /// # Safety
    ///
    /// Before anything else is done with them, these slabs are where they stay for as long as the
    /// program runs, and are [entered](crate::OwnerTable::enter) among the owners of one pool. They are
    /// used with that pool only, and with its arena. (Those that could not be entered, because there
    /// was no memory or another has the number, are not used.)
    pub unsafe fn new(number: u32) -> Option<Self> {
        let mut slabs = MaybeUninit::uninit();
        // SAFETY: the place is a local one; it is initialised where `init` says so. The rest is
        // passed on.
        unsafe { Self::init(slabs.as_mut_ptr(), number).then(|| slabs.assume_init()) }
    }

    /// The same in `place`, without a value of some kilobytes on the stack, whose pages would
    /// stay with each thread. False, and nothing is written, when numbers have run out.
    ///
    /// # Safety
    ///
    /// `place` can be written to, and nobody else uses it; and as for [`new`](Self::new).
    pub unsafe fn init(place: *mut Self, number: u32) -> bool {
        let Some(owner) = OwnerId::from_number(number) else {
            return false;
        };
        // All fields are named here, so that one more cannot be forgotten below.
        let _ = |slabs: &Self| {
            let Self {
                number: _,
                owner: _,
                lock: _,
                inbox: _,
                lists: _,
                visits: _,
                visits_seen: _,
                is_tended: _,
                counts: _,
            } = slabs;
        };
        // SAFETY: the place is the caller's to write to.
        unsafe {
            let lists: *mut ClassSlabs = (&raw mut (*place).lists).cast();
            for class in 0..TINY_CLASSES {
                lists.add(class).write(ClassSlabs::default());
            }
            (&raw mut (*place).number).write(OwnerNumber(number));
            (&raw mut (*place).owner).write(owner);
            (&raw mut (*place).lock).write(RawLock::new());
            (&raw mut (*place).inbox).write(TaggedStack::new());
            (&raw mut (*place).visits).write(AtomicU32::new(0));
            (&raw mut (*place).visits_seen).write(AtomicU32::new(0));
            (&raw mut (*place).is_tended).write(AtomicBool::new(false));
            (&raw mut (*place).counts).write(SlabCounts::default());
        }
        true
    }

    /// The owner code that the words of these slabs carry.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// The number by which the owner stands in the
    /// [`OwnerTable`](crate::OwnerTable).
    pub fn number(&self) -> OwnerNumber {
        self.number
    }

    /// What has happened so far.
    pub fn counts(&self) -> &SlabCounts {
        &self.counts
    }

    /// The heap's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        &self.lock
    }

    /// Takes up to `out.len()` free blocks of a tiny class, mostly in
    /// ascending order. Returns how many; zero only when there is no memory, or the class is not
    /// tiny.
    pub fn refill(&self, shared: Shared<'_>, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() {
            return 0;
        }
        self.note_visit();
        self.held(shared).refill(class, out)
    }

    /// As [`refill`](Self::refill), but of one slab, and a heap without slabs of the class has
    /// none afterwards: the class's pool gets it, for whoever comes next. For a heap that perhaps
    /// never needs more.
    pub fn refill_once(&self, shared: Shared<'_>, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() {
            return 0;
        }
        self.note_visit();
        self.held(shared).refill_once(class, out)
    }

    /// Gives up all slabs, for a heap whose thread ends. A slab into which a push
    /// is just arriving stays, and is dealt with by whoever uses the heap next or
    /// does its upkeep.
    pub fn abandon(&self, shared: Shared<'_>) {
        let mut held = self.held(shared);
        held.give_up_with_room(|_| true);
        held.give_up_full();
        for class in held.lists() {
            class.active.set(false);
        }
    }

    /// Takes in what is waiting for this heap, whose thread sleeps, and gives all slabs to
    /// the pool of which an eighth or more is free. Returns `false` if that has been done and
    /// nothing has changed since, or somebody holds the heap's lock.
    pub fn tend(&self, shared: Shared<'_>) -> bool {
        if self.is_tended.load(Ordering::Relaxed) && self.inbox.is_empty() {
            return false;
        }
        let Some(mut held) = self.try_held(shared) else {
            return false;
        };
        held.give_up_with_room(|slab| slab.available() >= slab.capacity().div_ceil(SLEEPER_GIVES));
        self.is_tended.store(true, Ordering::Relaxed);
        true
    }

    /// Gives a few sparse slabs that this heap has to spare to the class's pool. Returns `false` if
    /// there are none, or somebody holds the heap's lock.
    fn give_spare(&self, shared: Shared<'_>, class: ClassIndex) -> bool {
        let Some(held) = self.try_held(shared) else {
            return false;
        };
        let mut cursor = held.first(class, Place::Sparse);
        let mut given = false;
        for _ in 0..SPARE_GIVEN {
            let has_many = held.class(class).sparse_count.get() > SPARSE_KEPT;
            let Some(slab) = cursor.filter(|_| has_many) else {
                shared.note_no_spare(class, self.number);
                break;
            };
            cursor = held.after(slab);
            given |= held.give_to_pool(slab);
        }
        given
    }

    /// As [`tend`](Self::tend), but waits for the lock, and gives the pool's all-free
    /// slabs back to their superslabs.
    pub fn trim(&self, shared: Shared<'_>) {
        let mut held = self.held(shared);
        held.give_up_with_room(|slab| {
            slab.is_all_free() || matches!(slab.own().place.get(), Place::Partial | Place::Sparse)
        });
        held.clear_pools();
    }

    /// Gives all-free slabs that stand in the pool's lists back to their
    /// superslabs, and wholly empty superslabs to the arena.
    pub fn clear_pool(&self, shared: Shared<'_>) {
        let held = self.held(shared);
        held.clear_pools();
        shared.end_whole_superslabs(0);
    }

    /// Gives all-free slabs that stand in the pool's lists back to their
    /// superslabs, whole free pages of the other slabs there to the system, and the
    /// memory of empty slabs too: of those that were empty at the last call
    /// already, or of all. Returns how many bytes went to the system.
    pub fn purge_pool(&self, shared: Shared<'_>, all: bool) -> usize {
        let held = self.held(shared);
        let mut given = 0;
        for class in ClassIndex::all().take(TINY_CLASSES) {
            given += held.settle_pool(class, |slab| slab.purge_holes(all));
        }
        given + shared.purge_empty(all)
    }

    /// Gives whole free pages of this heap's slabs back to the system: of slabs
    /// that nobody used since the last call, or with `now` of all. Returns how many
    /// bytes, or zero if somebody holds the lock; ends when that is `limit` bytes, or a little more. Leaves
    /// the lock now and then for others; what these move meanwhile may be passed over.
    pub fn purge_holes(&self, shared: Shared<'_>, now: bool, limit: usize) -> usize {
        let Some(held) = self.try_held(shared) else {
            return 0;
        };
        if held.take_inbox() {
            self.is_tended.store(false, Ordering::Relaxed);
        }
        let mut given = 0;
        for class in ClassIndex::all().take(TINY_CLASSES) {
            for place in [Place::Current, Place::Partial, Place::Sparse] {
                let mut cursor = held.first(class, place);
                let (mut met, mut before) = (0, given);
                while let Some(slab) = cursor {
                    given += slab.purge_holes(now);
                    met += 1;
                    cursor = held.after(slab);
                    if met < MET_AT_A_TIME && given - before < GIVEN_AT_A_TIME {
                        continue;
                    }
                    if given >= limit {
                        return given;
                    }
                    (met, before) = (0, given);
                    // SAFETY: held here.
                    unsafe { self.lock.let_others() };
                    // Others may have it by now.
                    cursor = cursor.filter(|slab| held.has(slab.region, class, place));
                }
            }
        }
        given
    }

    /// Not exact where threads share a heap, and need not be.
    pub(crate) fn note_visit(&self) {
        let visits = self.visits.load(Ordering::Relaxed).wrapping_add(1);
        self.visits.store(visits, Ordering::Relaxed);
    }

    pub(crate) fn held<'a>(&'a self, shared: Shared<'a>) -> Held<'a> {
        self.lock.lock();
        self.is_tended.store(false, Ordering::Relaxed);
        Held {
            owned: self,
            shared,
        }
    }

    /// As [`held`](Self::held), unless somebody else holds the lock for longer.
    pub(crate) fn held_soon<'a>(&'a self, shared: Shared<'a>) -> Option<Held<'a>> {
        self.lock.lock_soon().then(|| {
            self.is_tended.store(false, Ordering::Relaxed);
            Held {
                owned: self,
                shared,
            }
        })
    }

    /// As [`held`](Self::held), unless somebody else holds the lock, and the caller sees to
    /// `is_tended`.
    fn try_held<'a>(&'a self, shared: Shared<'a>) -> Option<Held<'a>> {
        self.lock.try_lock().then(|| Held {
            owned: self,
            shared,
        })
    }
}

/// A heap's slabs while its lock is held.
pub(crate) struct Held<'a> {
    pub owned: &'a OwnedSlabs,
    pub shared: Shared<'a>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: a `Held` is made only after taking the lock.
        unsafe { self.owned.lock.unlock() }
    }
}

impl<'a> Held<'a> {
    fn lists(&self) -> &Lists {
        &self.owned.lists
    }

    fn class(&self, class: ClassIndex) -> &ClassSlabs {
        &self.lists()[class.number()]
    }

    /// A view of a slab this heap owns.
    ///
    /// # Safety
    ///
    /// This heap owns the slab, or nobody else can know it, for as long as the view is used; and for so
    /// long the lock is held.
    pub(crate) unsafe fn slab(&self, region: RegionIndex) -> Slab<'a> {
        // SAFETY: passed on.
        unsafe { Slab::new(self.shared.arena, region) }
    }

    fn set_word(&self, slab: Slab<'a>, word: RegionWord) {
        // SAFETY: a view of a slab is its owner's, who may change its word.
        unsafe { self.shared.arena.map().set(slab.region, word) }
    }

    // ---- lists -----------------------------------------------------------

    /// The slab that a head or a link of this heap's lists names.
    ///
    /// # Safety
    ///
    /// It was read there under this lock, and the slab is still in the list.
    #[inline(always)]
    unsafe fn linked(&self, link: u32) -> Option<Slab<'a>> {
        // SAFETY: what stands in this heap's lists is this heap's.
        (link != 0).then(|| unsafe { self.slab(RegionIndex(link - 1)) })
    }

    /// The first slab of a class in this place.
    fn first(&self, class: ClassIndex, place: Place) -> Option<Slab<'a>> {
        let heads = self.class(class);
        let head = match place {
            Place::Current => &heads.current,
            Place::Partial => &heads.partial,
            Place::Sparse => &heads.sparse,
            Place::Full => &heads.full,
            Place::Nowhere => return None,
        };
        // SAFETY: it is read now.
        unsafe { self.linked(head.get()) }
    }

    /// The slab after this one in its list, if it stands in one.
    fn after(&self, slab: Slab<'a>) -> Option<Slab<'a>> {
        let own = slab.own();
        match own.place.get() {
            Place::Current | Place::Nowhere => None,
            // SAFETY: it is read now.
            Place::Partial | Place::Sparse | Place::Full => unsafe { self.linked(own.next.get()) },
        }
    }

    #[inline(never)]
    fn link(&self, slab: Slab<'a>, place: Place) {
        let class = self.class(slab.class());
        let head = match place {
            Place::Partial => {
                count_up(&class.partial_count);
                &class.partial
            }
            Place::Sparse => {
                count_up(&class.sparse_count);
                &class.sparse
            }
            Place::Full => {
                count_up(&class.full_count);
                &class.full
            }
            Place::Current => {
                class.current.set(slab.region.0 + 1);
                slab.own().place.set(place);
                return;
            }
            Place::Nowhere => return,
        };
        let next = head.replace(slab.region.0 + 1);
        let own = slab.own();
        own.place.set(place);
        own.prev.set(0);
        own.next.set(next);
        // SAFETY: it was the list's head until now.
        if let Some(next) = unsafe { self.linked(next) } {
            next.own().prev.set(slab.region.0 + 1);
        }
    }

    #[inline(never)]
    fn unlink(&self, slab: Slab<'a>) {
        let class = self.class(slab.class());
        let own = slab.own();
        let (prev, next) = (own.prev.get(), own.next.get());
        let place = own.place.replace(Place::Nowhere);
        let head = match place {
            Place::Partial => {
                count_down(&class.partial_count);
                &class.partial
            }
            Place::Sparse => {
                count_down(&class.sparse_count);
                &class.sparse
            }
            Place::Full => {
                count_down(&class.full_count);
                &class.full
            }
            Place::Current => {
                class.current.set(0);
                return;
            }
            Place::Nowhere => return,
        };
        // SAFETY: these are the links of a slab in the list.
        let (before, after) = unsafe { (self.linked(prev), self.linked(next)) };
        match before {
            Some(before) => before.own().next.set(next),
            None => head.set(next),
        }
        if let Some(after) = after {
            after.own().prev.set(prev);
        }
    }

    /// Moves the current slab of a class to the full ones: what [`unlink`](Self::unlink) and
    /// [`link`](Self::link) do, without their choices.
    #[inline(always)]
    fn retire_current(&self, slab: Slab<'a>, class: ClassIndex) {
        let class = self.class(class);
        let number = slab.region.0 + 1;
        class.current.set(0);
        count_up(&class.full_count);
        let next = class.full.replace(number);
        let own = slab.own();
        own.place.set(Place::Full);
        own.prev.set(0);
        own.next.set(next);
        // SAFETY: it was the list's head until now.
        if let Some(next) = unsafe { self.linked(next) } {
            next.own().prev.set(number);
        }
    }

    /// Makes the first slab with room of a class, which has no current one, that, in the same way.
    /// Returns `false` if there is none.
    #[inline(always)]
    fn promote_head(&self, class: ClassIndex) -> bool {
        let class = self.class(class);
        // Those that are sparse last: they may become empty.
        let (head, count) = if class.partial.get() == 0 {
            (&class.sparse, &class.sparse_count)
        } else {
            (&class.partial, &class.partial_count)
        };
        // SAFETY: it is read now.
        let Some(first) = (unsafe { self.linked(head.get()) }) else {
            return false;
        };
        let own = first.own();
        let next = own.next.get();
        class.current.set(first.region.0 + 1);
        count_down(count);
        head.set(next);
        own.place.set(Place::Current);
        // SAFETY: it is the list's head now.
        if let Some(next) = unsafe { self.linked(next) } {
            next.own().prev.set(0);
        }
        true
    }

    // ---- refill ----------------------------------------------------------

    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.class(class).active.set(true);
        let mut filled = 0;
        loop {
            if let Some(slab) = self.first(class, Place::Current) {
                let ahead = self.class(class).full_count.get() as usize * REGION_BYTES / AHEAD;
                if ahead >= LEAST_AHEAD {
                    slab.populate(out.len() - filled, ahead.min(REGION_BYTES));
                }
                filled += slab.take(&mut out[filled..]);
                if filled == out.len() {
                    self.owned.counts.refills_own.add(1);
                    return filled;
                }
                if slab.remote().waiting() > 0 {
                    self.drain(slab);
                    continue;
                }
                self.retire_current(slab, class);
            }
            if !self.owned.inbox.is_empty() {
                self.take_inbox();
            }
            if self.promote_head(class) {
                continue;
            }
            // Half a batch is enough not to go to the next stage for more.
            if filled * 2 >= out.len() {
                self.owned.counts.refills_own.add(1);
                return filled;
            }
            if !self.find_slab(class) {
                return filled;
            }
        }
    }

    fn refill_once(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let heads = self.class(class);
        let heads = [&heads.current, &heads.partial, &heads.sparse, &heads.full];
        if heads.iter().any(|head| head.get() != 0) {
            return self.refill(class, out);
        }
        if !self.find_slab(class) {
            return 0;
        }
        let Some(slab) = self.first(class, Place::Current) else {
            return 0;
        };
        let filled = slab.take(out);
        self.give_to_pool(slab);
        filled
    }

    /// Makes a slab that was not this heap's the current one: stage by stage, the one that
    /// needs least first.
    fn find_slab(&self, class: ClassIndex) -> bool {
        self.claim_listed(class)
            || (self.ask_for_spare(class) && self.claim_listed(class))
            || self.start_empty(class)
            || (self.look_at_others(class) && self.claim_listed(class))
            || self.start_superslab(class)
    }

    /// Has another heap that has sparse slabs of a class to spare give some to the class's pool.
    /// Returns whether it has.
    fn ask_for_spare(&self, class: ClassIndex) -> bool {
        let Some(number) = self.shared.has_spare(class) else {
            return false;
        };
        if number == self.owned.number {
            // It has none: it is looking for some.
            self.shared.note_no_spare(class, number);
            return false;
        }
        let other = self.shared.pool.owners.get(number);
        other.is_some_and(|other| other.give_spare(self.shared, class))
    }

    /// Makes a slab out of the class's pool the current one.
    fn claim_listed(&self, class: ClassIndex) -> bool {
        while let Some(region) = self.shared.pop_listed(class) {
            let remote = &shared_of(self.shared.arena, region).remote;
            if remote.unlist(self.owned.number) == Unlisted::HasOwner {
                continue;
            }
            // SAFETY: it was claimed.
            let slab = unsafe { self.slab(region) };
            self.set_word(slab, RegionWord::owned(self.owned.owner, class));
            self.owned.counts.refills_pool.add(1);
            if slab.available() == 0 {
                self.link(slab, Place::Full);
                continue;
            }
            self.link(slab, Place::Current);
            return true;
        }
        false
    }

    /// Makes an empty slab of a superslab there is the current one.
    fn start_empty(&self, class: ClassIndex) -> bool {
        let Some((region, source)) = self.shared.take_empty() else {
            return false;
        };
        let counts = &self.owned.counts;
        match source {
            EmptySource::Superslab => counts.refills_empty.add(1),
            EmptySource::WholeSuperslab => counts.refills_superslab.add(1),
        }
        // SAFETY: it was taken, and nobody else knows it.
        unsafe { self.start(region, class) };
        true
    }

    /// Makes the first slab of a new superslab the current one.
    fn start_superslab(&self, class: ClassIndex) -> bool {
        // What sleepers gave up may have become an empty slab, not one of this class.
        if self.start_empty(class) {
            return true;
        }
        let full: u32 = self
            .lists()
            .iter()
            .map(|class| class.full_count.get())
            .sum();
        let expected = if full >= DENSE_FROM {
            Use::Proven
        } else {
            Use::Unknown
        };
        let Some(region) = self.shared.make_superslab(expected) else {
            return false;
        };
        self.owned.counts.refills_arena.add(1);
        // SAFETY: as above.
        unsafe { self.start(region, class) };
        true
    }

    /// Does the upkeep of heaps whose threads have done nothing since somebody looked last: what
    /// they hold is needed here. Of others, takes what they have to spare of the class, though
    /// another has said so since. Returns whether there was anything.
    fn look_at_others(&self, class: ClassIndex) -> bool {
        let mut found = false;
        let others = self.shared.heaps_in_turn();
        for other in others.filter(|other| other.number != self.owned.number) {
            let visits = other.visits.load(Ordering::Relaxed);
            found |= if other.visits_seen.swap(visits, Ordering::Relaxed) == visits {
                other.tend(self.shared)
            } else {
                other.give_spare(self.shared, class)
            };
        }
        found
    }

    /// Makes an empty slab that this heap holds the current one.
    ///
    /// # Safety
    ///
    /// It was taken from its superslab for that.
    #[inline(never)]
    unsafe fn start(&self, region: RegionIndex, class: ClassIndex) {
        // SAFETY: it is this heap's.
        let slab = unsafe { self.slab(region) };
        slab.start(class);
        slab.remote().adopt(self.owned.number);
        self.set_word(slab, RegionWord::owned(self.owned.owner, class));
        self.link(slab, Place::Current);
    }

    // ---- blocks coming back ----------------------------------------------

    /// Moves what is waiting in a slab's remote list into its bits.
    fn drain(&self, slab: Slab<'a>) {
        let chain = slab.remote().take_all();
        self.put_chain(slab, chain);
    }

    fn put_chain(&self, slab: Slab<'a>, chain: Chain) {
        if chain.count == 0 {
            return;
        }
        self.owned.counts.remote_drains.add(1);
        let base = slab.base();
        // SAFETY: the chain was taken, so its blocks are this heap's.
        let links = unsafe { RegionBlocks::new(base) };
        let (mut next, mut left) = (chain.head, chain.count);
        let mut marks = Marks::of(slab);
        while left > 0 {
            // A link is what the program has left of it, if it has written to a freed block.
            if next.is_none() || next.offset() >= REGION_BYTES {
                broken_chain(slab);
            }
            let block = next;
            left -= 1;
            // The link lies in the block; it is read before the block is free.
            if left > 0 {
                next = links.next(block);
            }
            marks.mark(base + block.offset());
        }
        marks.end();
    }

    /// Whether a region is a slab of this heap's, of this class and in this place.
    fn has(&self, region: RegionIndex, class: ClassIndex, place: Place) -> bool {
        // SAFETY: the region was a slab of this heap's.
        let word = unsafe { self.shared.arena.map().get(region) };
        // Nobody else makes it this heap's, or takes it away.
        if word != RegionWord::owned(self.owned.owner, class) {
            return false;
        }
        // SAFETY: it is this heap's.
        let slab = unsafe { self.slab(region) };
        slab.own().place.get() == place
    }

    /// Takes in all blocks that are waiting, but for those that come meanwhile: others may send as fast
    /// as this thread can take. Returns whether there were any.
    #[inline(never)]
    pub(crate) fn take_inbox(&self) -> bool {
        let links = InboxLinks(self.shared.arena);
        let mut next = self.owned.inbox.take_all();
        let found = next.is_some();
        while let Some(region) = next {
            // Behind this the slab may be sent to again, and so stand in the inbox.
            next = TaggedStack::next(&links, region);
            // SAFETY: a slab in the inbox stays this heap's until it is taken out, below.
            let slab = unsafe { self.slab(RegionIndex(region)) };
            let chain = slab.remote().take_from_inbox();
            self.put_chain(slab, chain);
            self.settle(slab);
        }
        found
    }

    /// Puts an owned slab where it belongs after blocks have come back.
    #[inline(never)]
    pub(crate) fn settle(&self, slab: Slab<'a>) {
        let before = slab.own().place.get();
        if before == Place::Current || (slab.is_all_free() && self.release(slab)) {
            return;
        }
        let place = slab.place_with_room();
        if place == before || (before == Place::Full && slab.shared().free() == 0) {
            return;
        }
        self.unlink(slab);
        self.link(slab, place);
        let class = slab.class();
        if self.class(class).sparse_count.get() > SPARSE_KEPT {
            self.shared.note_spare(class, self.owned.number);
        }
    }

    /// Gives an all-free slab back to its superslab, unless something still
    /// refers to it.
    #[inline(never)]
    fn release(&self, slab: Slab<'a>) -> bool {
        if !slab.remote().retire(self.owned.number) {
            return false;
        }
        self.unlink(slab);
        self.owned.counts.emptied.add(1);
        // SAFETY: all blocks are free, the list is retired, the slab is in none
        // of the heap's lists.
        unsafe { self.shared.give_empty(slab.region) };
        true
    }

    // ---- blocks of others ------------------------------------------------

    /// Brings a bundle to its slab: to the owner's remote list, or, if there is
    /// no owner, into a slab that is this heap's by that.
    pub(crate) fn deliver(&mut self, bundle: Bundle) {
        let arena = self.shared.arena;
        let region = bundle.region;
        // SAFETY: the bundle's blocks are freed and this heap's to link.
        let links = unsafe { RegionBlocks::new(arena.map().address_of(region)) };
        let remote = &shared_of(arena, region).remote;
        let me = self.owned.number;
        self.owned
            .counts
            .remote_frees
            .add_shared(u64::from(bundle.count));
        match remote.push_chain(&links, bundle.head, bundle.tail, bundle.count, me) {
            Pushed::Waiting { owner, notify } => {
                self.owned.counts.remote_pushes.add(1);
                let Some(owner) = self.shared.pool.owners.get(owner) else {
                    return;
                };
                if notify {
                    owner.inbox.push(&InboxLinks(arena), region.0);
                }
            }
            Pushed::Claimed => {
                self.owned.counts.claims.add(1);
                // SAFETY: it was claimed.
                let slab = unsafe { self.slab(region) };
                let class = slab.class();
                self.set_word(slab, RegionWord::owned(self.owned.owner, class));
                self.put_chain(
                    slab,
                    Chain {
                        head: bundle.head,
                        count: bundle.count,
                    },
                );
                self.settle_claimed(slab);
            }
        }
    }

    /// Decides what becomes of a slab that was claimed by freeing into it: a
    /// heap that allocates from the class may keep it, others hand it on.
    fn settle_claimed(&mut self, slab: Slab<'a>) {
        if slab.is_all_free() && self.release(slab) {
            return;
        }
        let class = slab.class();
        let slabs = self.class(class);
        let has_few = slabs.partial_count.get() + slabs.sparse_count.get() < CLAIMED_KEPT;
        let may_keep = slabs.active.get() && has_few;
        self.link(slab, slab.place_with_room());
        if !slab.is_all_free() && may_keep {
            return;
        }
        if self.give_to_pool(slab) && self.shared.has_many_empty_listed(class) {
            self.clear_pool_of_empty(class);
        }
    }

    // ---- giving up -------------------------------------------------------

    /// Gives a slab to the pool of its class (or to nobody, if it is full).
    /// Returns `false` if blocks are arriving in it and it has to stay.
    #[inline(never)]
    fn give_to_pool(&self, slab: Slab<'a>) -> bool {
        let class = slab.class();
        let region = slab.region;
        let listable = slab.available() > 0;
        let all_free = slab.is_all_free();
        let place = slab.own().place.get();
        self.unlink(slab);
        // The word changes before the mark: after it the slab is not ours.
        self.set_word(slab, RegionWord::unowned(class));
        match slab.remote().disown(listable) {
            Disowned::Refused => {
                self.set_word(slab, RegionWord::owned(self.owned.owner, class));
                self.link(slab, place);
                return false;
            }
            Disowned::Done => {}
            Disowned::List => self.shared.push_listed(class, region),
        }
        if all_free {
            self.shared.note_empty_listed(class);
        }
        self.owned.counts.disowns.add(1);
        true
    }

    /// Takes in what is waiting, and gives up all slabs with room of which `wanted` is true,
    /// empty ones to their superslabs. Those without are not looked at: there may be many.
    #[inline(never)]
    fn give_up_with_room(&mut self, wanted: impl Fn(Slab<'a>) -> bool) {
        self.take_inbox();
        for class in ClassIndex::all().take(TINY_CLASSES) {
            // All before the first, which may move slabs from one to another.
            let places = [Place::Current, Place::Partial, Place::Sparse];
            for first in places.map(|place| self.first(class, place)) {
                self.give_up(first, &wanted);
            }
        }
    }

    /// Gives up all slabs that were full when they were used last.
    fn give_up_full(&mut self) {
        for class in ClassIndex::all().take(TINY_CLASSES) {
            self.give_up(self.first(class, Place::Full), &|_| true);
        }
    }

    /// Gives up those slabs from this one of a list on of which `wanted` is true.
    #[inline(never)]
    fn give_up(&mut self, first: Option<Slab<'a>>, wanted: &dyn Fn(Slab<'a>) -> bool) {
        let mut cursor = first;
        while let Some(slab) = cursor {
            cursor = self.after(slab);
            if wanted(slab) && !(slab.is_all_free() && self.release(slab)) {
                self.give_to_pool(slab);
            }
        }
    }

    fn clear_pools(&self) {
        for class in ClassIndex::all().take(TINY_CLASSES) {
            if self.shared.has_empty_listed(class) {
                self.clear_pool_of_empty(class);
            }
        }
    }

    /// Gives the all-free slabs in a class's pool back to their superslabs.
    fn clear_pool_of_empty(&self, class: ClassIndex) {
        self.settle_pool(class, |_| 0);
    }

    /// Gives the all-free slabs in a class's pool back to their superslabs, and
    /// does something to the others. Returns the sum of what that returns.
    fn settle_pool(&self, class: ClassIndex, work: impl Fn(Slab<'a>) -> usize) -> usize {
        let (mut sum, mut met) = (0, 0);
        for region in self.shared.take_all_listed(class) {
            met += 1;
            let remote = &shared_of(self.shared.arena, region).remote;
            if remote.unlist(self.owned.number) == Unlisted::HasOwner {
                continue;
            }
            // SAFETY: it was claimed.
            let slab = unsafe { self.slab(region) };
            self.set_word(slab, RegionWord::owned(self.owned.owner, class));
            slab.own().place.set(Place::Nowhere);
            if slab.is_all_free() && self.release(slab) {
                continue;
            }
            sum += work(slab);
            self.link(slab, slab.place_with_room());
            self.give_to_pool(slab);
        }
        self.shared.note_settled(class, met);
        sum
    }
}

/// How many blocks of the slab in this region are in use or in a cache,
/// whoever owns it: exact when nobody uses it meanwhile.
///
/// # Safety
///
/// The region is in the arena's map.
pub unsafe fn used_blocks(arena: &Arena, region: RegionIndex) -> usize {
    let waiting = shared_of(arena, region).remote.waiting() as usize;
    shared_of(arena, region).used().saturating_sub(waiting)
}

#[cold]
fn broken_chain(slab: Slab<'_>) -> ! {
    report::fatal(format_args!(
        "blocks of {} bytes at {:#x} were freed twice, or written to after they were freed",
        slab.class().size(),
        slab.base()
    ))
}
