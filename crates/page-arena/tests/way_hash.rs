//! What a free reads of the metadata and of the first heaps does not compete for one place
//! in the cache.

mod support {
    pub mod arena;
    pub mod lengths;
    pub mod reserved;
}

use hakmem_page_arena::Label;
use hakmem_region_id::RegionIndex;
use support::arena::arena;
use support::lengths::KIB64;
use support::reserved::is_reserved;

/// The hash by which AMD's processors guess the way of a line: Lipp et al., "Take A Way" (2020).
fn way_hash(address: usize) -> usize {
    const PAIRS: [(u32, u32); 8] = [
        (12, 27),
        (13, 26),
        (14, 25),
        (15, 20),
        (16, 21),
        (17, 22),
        (18, 23),
        (19, 24),
    ];
    let bit = |number: u32| address >> number & 1;
    PAIRS
        .iter()
        .fold(0, |hash, &(low, high)| hash << 1 | bit(low) ^ bit(high))
}

#[test]
fn region_words_and_the_first_heaps_have_other_places() {
    let arena = arena();
    arena.allocate(1, 1, Label::LARGE).expect("memory");
    if is_reserved(arena) {
        // Its addresses are the system's choice.
        return;
    }
    let word_hash = way_hash(arena.map().words().expose_provenance());
    for number in 0..28 {
        let heap = RegionIndex(0).plus(number * 2 * KIB64);
        let heap = arena.map().address_of(heap);
        assert_ne!(way_hash(heap), word_hash, "heap {number}");
    }
    // The pages of the first heap, where its slots are.
    for page in 0..32 {
        let slots = arena.map().base() + page * 4096;
        assert_ne!(way_hash(slots), word_hash, "page {page}");
    }
}
