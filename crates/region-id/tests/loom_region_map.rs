//! While a map is placed and gets its length, an address outside of it is in no region
//! of it, and one inside is in none or the right one, whose word is then what it was set
//! to before.
//!
//! mutation: map_base_first
//! mutation: map_len_relaxed
//! mutation: map_set_len_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_region_id::{ClassIndex, Part, REGION_BYTES, RegionIndex, RegionMap, RegionWord};
use hakmem_sys::model::{Turns, beside, explore};
use hakmem_sys::sync::AtomicU32;
use loom::sync::Arc;

const REGIONS: usize = 2;
const BASE: usize = 1 << 40;

struct World {
    map: RegionMap,
    words: Vec<AtomicU32>,
    turns: Turns,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            map: RegionMap::new(),
            words: (0..REGIONS).map(|_| AtomicU32::new(0)).collect(),
            turns: Turns::new(),
        })
    }

    /// What the arena does when it gets its first memory.
    fn place(&self) {
        // SAFETY: the map is empty; it is looked at only while the words are there.
        unsafe {
            self.map
                .place(BASE, self.words.as_ptr().expose_provenance());
            self.map.set(RegionIndex(1), word());
            self.turns.step(|| self.map.set_len(REGIONS));
        }
    }
}

fn word() -> RegionWord {
    RegionWord::shared(
        ClassIndex::for_size(2048).unwrap(),
        Part { tag: 1, place: 0 },
    )
}

#[test]
fn an_address_outside_is_in_no_region_while_the_map_is_placed() {
    explore(|| {
        let world = World::new();
        let placer = beside(&world, |world| world.place());
        assert_eq!(world.map.region_of(64), None);
        placer.join().unwrap();
    });
}

#[test]
fn an_address_inside_has_its_word_as_soon_as_it_has_a_region() {
    explore(|| {
        let world = World::new();
        let placer = beside(&world, |world| world.place());
        let address = BASE + REGION_BYTES + 64;
        let seen = world.turns.step(|| world.map.lookup(address));
        assert!(seen.is_none_or(|seen| seen == word()), "{seen:?}");
        placer.join().unwrap();
        assert_eq!(world.map.lookup(address), Some(word()));
    });
}
