//! The region map.
#![cfg(not(loom))]

use hakmem_region_id::{
    ClassIndex, Kind, OwnerId, Part, REGION_BYTES, RegionIndex, RegionMap, RegionWord,
};
use proptest::prelude::*;
use std::sync::atomic::AtomicU32;

/// A map of regions from `base` on, with words in leaked memory.
fn map(base: usize, regions: usize) -> RegionMap {
    let words: &'static mut [AtomicU32] =
        Box::leak((0..regions).map(|_| AtomicU32::new(0)).collect());
    let map = RegionMap::new();
    // SAFETY: the map is empty, and placed over words that live for ever.
    unsafe {
        map.place(base, words.as_mut_ptr().expose_provenance());
        map.set_len(regions);
    }
    map
}

#[test]
fn an_empty_map_describes_nothing() {
    let map = RegionMap::new();
    assert!(map.is_empty());
    for address in [0, 1, REGION_BYTES, 1 << 40, usize::MAX] {
        assert_eq!(map.region_of(address), None);
        assert_eq!(map.lookup(address), None);
    }
}

#[test]
fn a_map_describes_more_as_it_grows() {
    let base = 1 << 40;
    let words: &'static mut [AtomicU32] = Box::leak((0..4).map(|_| AtomicU32::new(0)).collect());
    let map = RegionMap::new();
    // SAFETY: the map is empty.
    unsafe { map.place(base, words.as_mut_ptr().expose_provenance()) };
    assert_eq!(map.region_of(base), None);
    for regions in 1..=4 {
        // SAFETY: there are four words, for ever.
        unsafe { map.set_len(regions) };
        assert_eq!(map.len(), regions);
        let last = base + regions * REGION_BYTES - 1;
        assert_eq!(map.region_of(last), Some(RegionIndex(regions as u32 - 1)));
        assert_eq!(map.region_of(last + 1), None);
    }
}

proptest! {
    #[test]
    fn an_address_belongs_to_the_region_around_it(
        base in (1usize..1 << 30).prop_map(|region| region * REGION_BYTES),
        regions in 1usize..64,
        offset in 0usize..66 * REGION_BYTES,
    ) {
        let map = map(base, regions);
        let address = base - REGION_BYTES + offset;
        match map.region_of(address) {
            Some(region) => {
                let start = map.address_of(region);
                prop_assert!(start <= address && address < start + REGION_BYTES);
                prop_assert!(region.index() < regions);
            }
            None => {
                prop_assert!(address < base || address >= base + regions * REGION_BYTES);
            }
        }
    }

    #[test]
    fn a_word_is_found_again_from_every_address_in_its_region(
        places in prop::collection::vec((0usize..16, 0usize..80, any::<bool>()), 1..40),
        offset in 0usize..REGION_BYTES,
    ) {
        let base = 1 << 41;
        let map = map(base, 16);
        let owner = OwnerId::from_number(77).unwrap();
        let mut model = [RegionWord::of_kind(Kind::Unmapped); 16];
        for (region, class, owned) in places {
            let class = ClassIndex::new(class).unwrap();
            model[region] = if owned {
                RegionWord::owned(owner, class)
            } else {
                RegionWord::shared(class, Part { tag: 3, place: region as u8 })
            };
            // SAFETY: in the map, and nobody else changes it.
            unsafe { map.set(RegionIndex(region as u32), model[region]) };
        }
        let view = map.view();
        for (region, word) in model.into_iter().enumerate() {
            let address = base + region * REGION_BYTES + offset;
            prop_assert_eq!(map.lookup(address), Some(word));
            let found = view.region_of(address).expect("in the map");
            prop_assert_eq!(view.number_of(address), region);
            prop_assert_eq!(view.address_of(found), address - offset);
            // SAFETY: the view describes the region.
            prop_assert_eq!(unsafe { view.get(found) }, word);
        }
        for outside in [base - 1, base + 16 * REGION_BYTES, 0, usize::MAX] {
            prop_assert_eq!(view.region_of(outside), map.region_of(outside));
        }
    }
}

#[test]
fn regions_at_equal_distances_are_spread_evenly() {
    for distance in [1, 5, 8, 9, 16, 17, 64, 1024] {
        for count in 1..=8 {
            let mut found = vec![0_u32; count as usize];
            for step in 0..1000 {
                found[RegionIndex(step * distance).spread(count) as usize] += 1;
            }
            let even = 1000 / count;
            let is_even = |&times: &u32| times.abs_diff(even) <= even / 4;
            assert!(found.iter().all(is_even), "{distance} apart: {found:?}");
        }
    }
}
