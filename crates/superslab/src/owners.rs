//! From an owner's number to its slabs.

use crate::OwnedSlabs;
use core::ptr;
use hakmem_region_id::word::OWNERS;
use hakmem_remote_free::OwnerNumber;
use hakmem_sys::set_once::SetOnce;
use hakmem_sys::sync::{AtomicU32, Ordering};
use hakmem_sys::vm;

/// Owners that one look in turn sees at most.
const LOOKED_AT: u32 = 16;

/// Owners in a leaf.
const LEAF: usize = 1024;
const LEAVES: usize = (OWNERS as usize).div_ceil(LEAF);

type Leaf = [SetOnce<OwnedSlabs>; LEAF];

/// A table of owners in two levels, so that it costs what is used of it. Entries
/// are set once and never change: an owner is never unmapped.
#[derive(Debug)]
pub struct OwnerTable {
    leaves: [SetOnce<Leaf>; LEAVES],
    /// One more than the largest number entered.
    len: AtomicU32,
}

impl Default for OwnerTable {
    fn default() -> Self {
        Self::new()
    }
}

impl OwnerTable {
    hakmem_sys::const_new! {
        /// An empty table.
        pub fn new() -> Self {
            Self {
                leaves: hakmem_sys::array_of!(LEAVES, SetOnce::new()),
                len: AtomicU32::new(0),
            }
        }
    }

    /// Enters an owner under its number. Returns `false` if there is no memory for the table, or
    /// another owner was entered under that number.
    ///
    /// Ordering: release; pairs with [`get`](Self::get).
    pub fn enter(&self, owner: &'static OwnedSlabs) -> bool {
        let number = owner.number();
        let slot = &self.leaves[number.0 as usize / LEAF];
        let mut leaf = slot.get();
        if leaf.is_null() {
            let bytes = size_of::<Leaf>();
            let Some(fresh) = vm::map(bytes.next_multiple_of(vm::page_size())) else {
                return false;
            };
            let fresh: *mut Leaf = ptr::with_exposed_provenance_mut(fresh);
            match slot.set(fresh) {
                Ok(()) => leaf = fresh,
                Err(theirs) => {
                    // SAFETY: mapped above and known to nobody.
                    unsafe {
                        vm::unmap(
                            fresh.expose_provenance(),
                            bytes.next_multiple_of(vm::page_size()),
                        );
                    }
                    leaf = theirs;
                }
            }
        }
        // SAFETY: leaves are zeroed memory, valid as pointers that are not set, for ever.
        let entry = unsafe { &(*leaf)[number.0 as usize % LEAF] };
        let is_entered = entry.set(ptr::from_ref(owner).cast_mut()).is_ok();
        // Of another, too: its thread may have come no further, in the parent of a fork.
        self.len.fetch_max(number.0 + 1, Ordering::Relaxed);
        is_entered
    }

    /// One more than the largest number entered.
    ///
    /// Ordering: relaxed; a number below may not be seen yet by [`get`](Self::get).
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Everybody entered so far.
    pub fn all(&self) -> impl Iterator<Item = &'static OwnedSlabs> {
        (0..self.len()).filter_map(|number| self.get(OwnerNumber(number)))
    }

    /// Those who are next in turn, some of them; `turn` says where the last look ended.
    pub fn in_turn(&self, turn: &AtomicU32) -> impl Iterator<Item = &'static OwnedSlabs> + use<'_> {
        let len = self.len();
        let count = LOOKED_AT.min(len);
        let from = turn.fetch_add(count, Ordering::Relaxed);
        (0..count).filter_map(move |step| self.get(OwnerNumber(from.wrapping_add(step) % len)))
    }

    /// Whether nobody was entered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The owner with this number, if it was entered.
    ///
    /// Ordering: acquire.
    pub fn get(&self, number: OwnerNumber) -> Option<&'static OwnedSlabs> {
        let leaf = self.leaves.get(number.0 as usize / LEAF)?.get();
        if leaf.is_null() {
            return None;
        }
        // SAFETY: as in `enter`; entries are pointers to statics or null.
        unsafe { (*leaf)[number.0 as usize % LEAF].get().as_ref() }
    }
}
