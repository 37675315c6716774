//! Magazines: where the slots of bins are.

use crate::bin::Slot;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;
use hakmem_region_id::{CLASSES, ClassIndex};

/// Slots of the largest magazine.
pub(crate) const MAX_CAPACITY: usize = 64;
/// Bytes of blocks that a magazine of a tiny class holds, if that is not more
/// than [`MAX_CAPACITY`] blocks.
const TINY_BYTES: usize = 16 * 1024;
/// The same for mid classes: eight blocks for 4096 bytes.
const MID_BYTES: usize = 33 * 1024;
/// The fewest blocks in a magazine,
const LEAST: usize = 4;
/// and in one of the classes from 7 to 8 KiB, which are those of most buffers: every fourth call for one would else
/// change magazines.
const LEAST_BUFFERS: usize = 8;
const BUFFERS: core::ops::RangeInclusive<usize> = 7 << 10..=(8 << 10) + 128;

/// How many blocks of a class a magazine holds.
#[inline]
pub const fn capacity(class: ClassIndex) -> usize {
    CAPACITIES[class.number()] as usize
}

/// The same by class number: the slow paths ask several times, and a division is slow.
static CAPACITIES: [u8; CLASSES] = {
    let mut table = [0; CLASSES];
    let mut number = 0;
    while number < CLASSES {
        let Some(class) = ClassIndex::new(number) else {
            break;
        };
        let bytes = if class.is_tiny() {
            TINY_BYTES
        } else {
            MID_BYTES
        };
        let blocks = bytes / class.size();
        let is_buffers = *BUFFERS.start() <= class.size() && class.size() <= *BUFFERS.end();
        let least = if is_buffers { LEAST_BUFFERS } else { LEAST };
        table[number] = if blocks > MAX_CAPACITY {
            MAX_CAPACITY
        } else if blocks < least {
            least
        } else {
            blocks
        } as u8;
        number += 1;
    }
    table
};

/// How many different capacities there are,
const SORTS: usize = SORTED.1;
/// and the number of each class's.
static SORT_OF: [u8; CLASSES] = SORTED.0;

const SORTED: ([u8; CLASSES], usize) = {
    let mut table = [0; CLASSES];
    let mut sorts = 0;
    let mut number = 0;
    while number < CLASSES {
        let mut first = 0;
        while CAPACITIES[first] != CAPACITIES[number] {
            first += 1;
        }
        if first == number {
            table[number] = sorts as u8;
            sorts += 1;
        } else {
            table[number] = table[first];
        }
        number += 1;
    }
    (table, sorts)
};

/// Slots of a class's first magazine in a cache, if [`capacity`] is not less. Most classes that a
/// thread uses never need more.
pub(crate) const FIRST_CAPACITY: usize = 8;

/// How many blocks the first magazine of a class holds.
pub const fn first_capacity(class: ClassIndex) -> usize {
    if capacity(class) < FIRST_CAPACITY {
        capacity(class)
    } else {
        FIRST_CAPACITY
    }
}

/// A magazine in memory: a link, the null below the lowest slot, the slots.
///
/// A magazine is named by the address of its lowest slot, so that a bin's `top`
/// of an empty magazine is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Magazine(NonNull<Slot>);

const HEADER: usize = 2;

/// Bytes of magazines for the bins of all classes, of the full capacity, and of the first ones.
const BINS_BYTES: usize = {
    let mut slots = 0;
    let mut number = 0;
    while let Some(class) = ClassIndex::new(number) {
        slots += 2 * HEADER + capacity(class) + first_capacity(class);
        number += 1;
    }
    slots * size_of::<Slot>()
};

impl Magazine {
    /// The magazine with this lowest slot.
    ///
    /// # Safety
    ///
    /// The slot is one that [`lowest`](Self::lowest) returned.
    pub unsafe fn from_lowest(lowest: *mut Slot) -> Self {
        // SAFETY: no magazine is at address zero.
        Self(unsafe { NonNull::new_unchecked(lowest) })
    }

    pub fn lowest(self) -> *mut Slot {
        self.0.as_ptr()
    }

    fn link(self) -> *mut Slot {
        // SAFETY: the header lies before the slots.
        unsafe { self.0.as_ptr().sub(HEADER) }
    }

    pub fn next(self) -> Option<Self> {
        // SAFETY: the header is the magazine's; `set_next` wrote it.
        let next = unsafe { (*self.link()).load(Ordering::Relaxed) };
        NonNull::new(next.cast()).map(Self)
    }

    pub fn set_next(self, next: Option<Self>) {
        // SAFETY: the header is the magazine's.
        unsafe {
            (*self.link()).store(
                next.map_or(ptr::null_mut(), |next| next.lowest().cast()),
                Ordering::Relaxed,
            );
        }
    }
}

/// Memory for magazines: a part of the heap's own memory, handed out once and
/// kept in free lists by capacity.
#[derive(Debug)]
pub(crate) struct Store {
    start: *mut Slot,
    next: *mut Slot,
    end: *mut Slot,
    /// Spare magazines by capacity: what one class does not need any more serves all with the same.
    spare: [Option<Magazine>; SORTS],
    /// Spare magazines of [`FIRST_CAPACITY`], of any class.
    spare_first: Option<Magazine>,
}

impl Store {
    pub const EMPTY: Self = Self {
        start: ptr::null_mut(),
        next: ptr::null_mut(),
        end: ptr::null_mut(),
        spare: [None; SORTS],
        spare_first: None,
    };

    /// A store over `[start, end)`.
    ///
    /// # Safety
    ///
    /// The memory is aligned to pointers, and the store's alone.
    pub unsafe fn set_memory(&mut self, start: *mut u8, end: *mut u8) {
        self.start = start.cast();
        self.next = self.start;
        self.end = end.cast();
    }

    /// Bytes of all magazines that were made.
    pub fn made_bytes(&self) -> usize {
        self.next as usize - self.start as usize
    }

    /// Forgets all magazines, which nobody uses. Returns where they were.
    pub fn clear(&mut self) -> Range<*mut u8> {
        let made = self.start.cast()..self.next.cast();
        self.next = self.start;
        self.spare = [None; SORTS];
        self.spare_first = None;
        made
    }

    /// As [`take`](Self::take), if what is left then is enough for a magazine of every class's bin.
    pub fn take_for_depot(&mut self, class: ClassIndex) -> Option<Magazine> {
        let room = self.end as usize - self.next as usize;
        let needed = (HEADER + capacity(class)) * size_of::<Slot>() + BINS_BYTES;
        if self.spare(class).is_none() && room < needed {
            return None;
        }
        self.take(class)
    }

    /// A magazine of a class's full [`capacity`].
    pub fn take(&mut self, class: ClassIndex) -> Option<Magazine> {
        if let Some(spare) = *self.spare(class) {
            *self.spare(class) = spare.next();
            return Some(spare);
        }
        self.make(capacity(class))
    }

    /// A magazine of a class's [`first_capacity`].
    pub fn take_first(&mut self, class: ClassIndex) -> Option<Magazine> {
        if first_capacity(class) == FIRST_CAPACITY
            && let Some(spare) = self.spare_first
        {
            self.spare_first = spare.next();
            return Some(spare);
        }
        self.make(first_capacity(class))
    }

    fn make(&mut self, capacity: usize) -> Option<Magazine> {
        let slots = HEADER + capacity;
        let room = (self.end as usize - self.next as usize) / size_of::<Slot>();
        if room < slots {
            return None;
        }
        // SAFETY: the header and the slots lie inside the store's memory.
        unsafe {
            for slot in 0..slots {
                self.next.add(slot).write(Slot::new(ptr::null_mut()));
            }
            let lowest = self.next.add(HEADER);
            self.next = self.next.add(slots);
            Some(Magazine::from_lowest(lowest))
        }
    }

    /// Takes back a magazine that [`take`](Self::take) gave.
    pub fn give(&mut self, class: ClassIndex, magazine: Magazine) {
        magazine.set_next(*self.spare(class));
        *self.spare(class) = Some(magazine);
    }

    /// The spare magazines of a class's full capacity.
    fn spare(&mut self, class: ClassIndex) -> &mut Option<Magazine> {
        &mut self.spare[usize::from(SORT_OF[class.number()])]
    }

    /// Takes back a magazine of [`FIRST_CAPACITY`].
    pub fn give_first(&mut self, magazine: Magazine) {
        magazine.set_next(self.spare_first);
        self.spare_first = Some(magazine);
    }
}
