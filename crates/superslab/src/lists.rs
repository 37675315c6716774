//! A heap's slabs by class: in which list each stands.

use crate::held::Held;
use crate::record::Place;
use crate::slab::Slab;
use core::cell::Cell;
use hakmem_region_id::{ClassIndex, RegionIndex, RegionWord, TINY_CLASSES};

/// Sparse slabs beyond this many of a class are for others, where those ask.
pub(crate) const SPARSE_KEPT: u32 = 4;

/// A heap's slabs of one class. Heads are region + 1.
///
/// Cells, because several views of them may be at hand at once.
#[derive(Default)]
pub(crate) struct ClassSlabs {
    pub current: Cell<u32>,
    pub partial: Cell<u32>,
    pub sparse: Cell<u32>,
    pub full: Cell<u32>,
    pub partial_count: Cell<u32>,
    pub sparse_count: Cell<u32>,
    pub full_count: Cell<u32>,
    /// Whether the heap has allocated from the class (since its last owner).
    pub active: Cell<bool>,
}

impl ClassSlabs {
    /// The head of the list for this place, and how many are in it, if it is a list.
    fn list(&self, place: Place) -> Option<(&Cell<u32>, &Cell<u32>)> {
        match place {
            Place::Partial => Some((&self.partial, &self.partial_count)),
            Place::Sparse => Some((&self.sparse, &self.sparse_count)),
            Place::Full => Some((&self.full, &self.full_count)),
            Place::Current | Place::Nowhere => None,
        }
    }
}

pub(crate) type Lists = [ClassSlabs; TINY_CLASSES];

/// Adds one.
fn count_up(count: &Cell<u32>) {
    count.set(count.get() + 1);
}

/// Takes one away.
fn count_down(count: &Cell<u32>) {
    count.set(count.get() - 1);
}

impl<'a> Held<'a> {
    pub(crate) fn lists(&self) -> &Lists {
        &self.owned.lists
    }

    pub(crate) fn class(&self, class: ClassIndex) -> &ClassSlabs {
        &self.lists()[class.number()]
    }

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
    pub(crate) fn first(&self, class: ClassIndex, place: Place) -> Option<Slab<'a>> {
        let slabs = self.class(class);
        let head = match place {
            Place::Current => &slabs.current,
            _ => slabs.list(place)?.0,
        };
        // SAFETY: it is read now.
        unsafe { self.linked(head.get()) }
    }

    /// The slab after this one in its list, if it stands in one.
    pub(crate) fn after(&self, slab: Slab<'a>) -> Option<Slab<'a>> {
        let own = slab.own();
        match own.place.get() {
            Place::Current | Place::Nowhere => None,
            // SAFETY: it is read now.
            Place::Partial | Place::Sparse | Place::Full => unsafe { self.linked(own.next.get()) },
        }
    }

    /// Puts a slab that stands in no list into this place.
    #[inline(never)]
    pub(crate) fn link(&self, slab: Slab<'a>, place: Place) {
        let class = self.class(slab.class());
        let own = slab.own();
        let Some((head, count)) = class.list(place) else {
            if place == Place::Current {
                class.current.set(slab.region.0 + 1);
                own.place.set(place);
            }
            return;
        };
        count_up(count);
        let next = head.replace(slab.region.0 + 1);
        own.place.set(place);
        own.prev.set(0);
        own.next.set(next);
        // SAFETY: it was the list's head until now.
        if let Some(next) = unsafe { self.linked(next) } {
            next.own().prev.set(slab.region.0 + 1);
        }
    }

    /// Takes a slab out of its place.
    #[inline(never)]
    pub(crate) fn unlink(&self, slab: Slab<'a>) {
        let class = self.class(slab.class());
        let own = slab.own();
        let (prev, next) = (own.prev.get(), own.next.get());
        let place = own.place.replace(Place::Nowhere);
        let Some((head, count)) = class.list(place) else {
            if place == Place::Current {
                class.current.set(0);
            }
            return;
        };
        count_down(count);
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
    pub(crate) fn retire_current(&self, slab: Slab<'a>, class: ClassIndex) {
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
    pub(crate) fn promote_head(&self, class: ClassIndex) -> bool {
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

    /// Whether a region is a slab of this heap's, of this class and in this place.
    pub(crate) fn has(&self, region: RegionIndex, class: ClassIndex, place: Place) -> bool {
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
}
