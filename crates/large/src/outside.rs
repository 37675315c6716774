//! Mappings outside the arena: an open-addressing table from address to length.

use hakmem_sys::vm;

/// A mapping outside the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Zero: never used. One: removed.
    address: usize,
    /// Bytes that the block may use from `address` on.
    length: usize,
    /// Start and length of the mapping, which alignment may make larger.
    mapping: usize,
    mapped: usize,
}

const REMOVED: usize = 1;

/// The table. Lives in a mapping of its own and doubles when three quarters
/// full.
#[derive(Debug)]
pub(crate) struct Outside {
    entries: usize,
    capacity: usize,
    used: usize,
    live: usize,
    bytes: usize,
}

/// What a lookup tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub length: usize,
    pub mapping: usize,
    pub mapped: usize,
}

impl Outside {
    pub const fn new() -> Self {
        Self {
            entries: 0,
            capacity: 0,
            used: 0,
            live: 0,
            bytes: 0,
        }
    }

    /// Mappings and bytes in the table.
    pub fn totals(&self) -> (usize, usize) {
        (self.live, self.bytes)
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "the table is reached under its lock, one method at a time"
    )]
    fn slots(&self) -> &mut [Entry] {
        if self.capacity == 0 {
            return &mut [];
        }
        // SAFETY: `entries` is a mapping of `capacity` entries, zeroed at first,
        // that only this value (behind its lock) refers to; callers keep the
        // borrow within one method.
        unsafe {
            core::slice::from_raw_parts_mut(
                core::ptr::with_exposed_provenance_mut(self.entries),
                self.capacity,
            )
        }
    }

    fn place(address: usize, capacity: usize) -> usize {
        ((address >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) & (capacity - 1)
    }

    /// Makes room for one more entry. `false` if there is no memory.
    pub fn make_room(&mut self) -> bool {
        if self.used * 4 < self.capacity * 3 {
            return true;
        }
        let capacity = if self.capacity > 0 && self.live * 2 < self.capacity {
            self.capacity
        } else {
            (self.capacity * 2).max(vm::page_size() / size_of::<Entry>())
        };
        let bytes = (capacity * size_of::<Entry>()).next_multiple_of(vm::page_size());
        let Some(entries) = vm::map(bytes) else {
            return false;
        };
        let grown = Self {
            entries,
            capacity,
            used: self.live,
            live: self.live,
            bytes: self.bytes,
        };
        for entry in self.slots() {
            if entry.address > REMOVED {
                grown.put(*entry);
            }
        }
        if self.capacity > 0 {
            let old = (self.capacity * size_of::<Entry>()).next_multiple_of(vm::page_size());
            // SAFETY: the old table is this value's own mapping.
            unsafe { vm::unmap(self.entries, old) };
        }
        *self = grown;
        true
    }

    fn put(&self, entry: Entry) {
        let slots = self.slots();
        let mut place = Self::place(entry.address, slots.len());
        while slots[place].address > REMOVED {
            place = (place + 1) & (slots.len() - 1);
        }
        slots[place] = entry;
    }

    fn find(&mut self, address: usize) -> Option<&mut Entry> {
        let slots = self.slots();
        if slots.is_empty() || address <= REMOVED {
            return None;
        }
        let mut place = Self::place(address, slots.len());
        for _ in 0..slots.len() {
            match slots[place].address {
                0 => return None,
                found if found == address => return Some(&mut slots[place]),
                _ => place = (place + 1) & (slots.len() - 1),
            }
        }
        None
    }

    /// Enters a mapping. `false` if there is no memory for the table.
    pub fn insert(&mut self, address: usize, found: Found) -> bool {
        if !self.make_room() {
            return false;
        }
        self.put(Entry {
            address,
            length: found.length,
            mapping: found.mapping,
            mapped: found.mapped,
        });
        self.used += 1;
        self.live += 1;
        self.bytes += found.length;
        true
    }

    /// What is known of the mapping whose block starts at this address.
    pub fn get(&mut self, address: usize) -> Option<Found> {
        self.find(address).map(|entry| Found {
            length: entry.length,
            mapping: entry.mapping,
            mapped: entry.mapped,
        })
    }

    /// The start and the usable bytes of the block around an address.
    pub fn around(&self, address: usize) -> Option<(usize, usize)> {
        self.slots()
            .iter()
            .find(|entry| {
                entry.address > REMOVED && address.wrapping_sub(entry.address) < entry.length
            })
            .map(|entry| (entry.address, entry.length))
    }

    /// Forgets a mapping.
    pub fn remove(&mut self, address: usize) -> Option<Found> {
        let entry = self.find(address)?;
        let found = Found {
            length: entry.length,
            mapping: entry.mapping,
            mapped: entry.mapped,
        };
        entry.address = REMOVED;
        self.live -= 1;
        self.bytes -= found.length;
        Some(found)
    }
}
