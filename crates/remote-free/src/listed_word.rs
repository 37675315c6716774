//! The word of something in parts that stands in a list while some of them are free.
//!
//! ```text
//!  63     62      56 55                                   0
//! +------+----------+--------------------------------------+
//! |listed|   tag    |  free parts                          |
//! +------+----------+--------------------------------------+
//! ```
//!
//! *Listed* says that it stands in the list; whoever sets the mark puts it there. A word that a
//! slow thread has read long ago does no harm: if it still is what stands there, the bits mean
//! what they meant.

use hakmem_sys::sync::{AtomicU64, Ordering};

/// Makes what the last holders left visible to the next.
const TAKE: Ordering = if cfg!(hakmem_mutation = "listed_take_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// The same, where all parts become memory of the arena's again.
const END: Ordering = if cfg!(hakmem_mutation = "listed_end_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Publishes it. Pairs with `TAKE` and `END`. As an acquire it pairs with `UNLIST`.
const GIVE: Ordering = if cfg!(hakmem_mutation = "listed_give_relaxed") {
    Ordering::Relaxed
} else if cfg!(hakmem_mutation = "listed_give_without_acquire") {
    Ordering::Release
} else {
    Ordering::AcqRel
};
/// Whoever walks over what was taken out of the list reads a link before it clears the mark, and who
/// sets the mark anew writes that link. (The models have a cell beside the link: loom lets no load of an
/// atomic see a store that comes later.)
const UNLIST: Ordering = if cfg!(hakmem_mutation = "listed_unlist_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Publishes what the arena's earlier users left to one who takes parts by a look at the list from
/// before this was started.
const START: Ordering = if cfg!(hakmem_mutation = "listed_start_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

/// The most parts there can be.
pub const MAX_PARTS: usize = 56;

const FREE: u64 = (1 << MAX_PARTS) - 1;
const LISTED: u64 = 1 << 63;

/// A word that was started with this tag, with these parts free.
const fn started(tag: u8, free: u64) -> u64 {
    debug_assert!(tag < 1 << 7 && free & !FREE == 0);
    LISTED | (tag as u64) << MAX_PARTS | free
}

/// What came of giving parts back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenBack {
    /// The caller has to put it into the list.
    pub list: bool,
    /// The parts that were free before.
    pub before: u64,
    /// What it was started with, or 0 if it has ended.
    pub tag: u8,
}

/// What came of taking parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOut {
    /// The parts that are the caller's now, if any.
    pub parts: u64,
    /// The parts that were free before.
    pub before: u64,
    /// What it was started with, or 0 if it has ended.
    pub tag: u8,
}

const fn tag_of(word: u64) -> u8 {
    ((word & !LISTED) >> MAX_PARTS) as u8
}

/// Operations on the word of something that is cut into parts, which lives in a side record: a
/// run, or a superslab. The parts are bits; who takes one holds it.
///
/// Life: [`start`](Self::start), then any number of *takes*, *gives* and *unlists*, then
/// [`end`](Self::end). All-zero bits are the state before and after.
#[derive(Clone, Copy, Debug)]
pub struct ListedWord<'a>(pub &'a AtomicU64);

impl ListedWord<'_> {
    /// Starts it with a tag, up to 127, that tells it from others in the same place; these parts
    /// are free. The caller has to put it into its list.
    ///
    /// Ordering: release.
    #[inline]
    pub fn start(self, tag: u8, free: u64) {
        self.0.store(started(tag, free), START);
    }

    /// Takes those of the free parts that `choose` says, given the tag and them, if there are any and
    /// `is_meant` says yes to the tag.
    ///
    /// Ordering: acquire.
    #[inline]
    pub fn take(self, is_meant: impl Fn(u8) -> bool, choose: impl Fn(u8, u64) -> u64) -> TakenOut {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let mut taken = TakenOut {
                parts: 0,
                before: word & FREE,
                tag: tag_of(word),
            };
            let other = !is_meant(taken.tag) && !cfg!(hakmem_mutation = "listed_take_without_tag");
            if taken.before == 0 || other {
                return taken;
            }
            taken.parts = choose(taken.tag, taken.before) & taken.before;
            let mut rest = word & !taken.parts;
            if cfg!(hakmem_mutation = "listed_take_unlists") {
                rest &= !LISTED;
            }
            match self
                .0
                .compare_exchange_weak(word, rest, TAKE, Ordering::Relaxed)
            {
                Ok(_) => return taken,
                Err(now) => word = now,
            }
        }
    }

    /// Gives parts back, that are none of the word's upper byte.
    ///
    /// Ordering: release, and acquire before the caller lists it.
    #[inline]
    pub fn give(self, parts: u64) -> GivenBack {
        debug_assert!(parts & !FREE == 0);
        let before = self.0.fetch_or(parts | LISTED, GIVE);
        GivenBack {
            list: before & LISTED == 0 || cfg!(hakmem_mutation = "listed_lists_twice"),
            before: before & FREE,
            tag: tag_of(before),
        }
    }

    /// Which parts are free (relaxed).
    #[inline]
    pub fn free(self) -> u64 {
        self.0.load(Ordering::Relaxed) & FREE
    }

    /// What it was started with, or 0 if it has ended (relaxed). As long as the caller holds a part, or
    /// has taken it out of its list, it stays that.
    #[inline]
    pub fn tag(self) -> u8 {
        tag_of(self.0.load(Ordering::Relaxed))
    }

    /// Settles what the caller has just taken out of its list. Returns whether it has free parts
    /// and the caller has to put it back (it is marked as listed then).
    ///
    /// Ordering: release, where it clears the mark.
    #[inline]
    pub fn unlist(self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & FREE != 0 && !cfg!(hakmem_mutation = "listed_unlist_blindly") {
                return true;
            }
            match self
                .0
                .compare_exchange_weak(word, word & !LISTED, UNLIST, Ordering::Relaxed)
            {
                Ok(_) => return false,
                Err(now) => word = now,
            }
        }
    }

    /// Ends what the caller has just taken out of its list, if `all` its parts are free. Returns
    /// whether it did.
    ///
    /// Ordering: acquire, so that nothing of its last users comes later.
    #[inline]
    pub fn end(self, tag: u8, all: u64) -> bool {
        if cfg!(hakmem_mutation = "listed_end_blindly") {
            let whole = self.free() == all;
            self.0.store(0, Ordering::Relaxed);
            return whole;
        }
        self.0
            .compare_exchange(started(tag, all), 0, END, Ordering::Relaxed)
            .is_ok()
    }
}
