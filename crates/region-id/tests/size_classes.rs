//! Size classes and their tables.
#![cfg(not(loom))]

use hakmem_region_id::size_class::{
    COARSE_BY_STEP, MID_BY_STEP, SIZES, TINY_BY_STEP, TINY_BY_STEP_16, coarse_step, mid_step,
};
use hakmem_region_id::{
    CLASSES, ClassIndex, MAX_CACHED, MAX_CACHED_ALIGN, MAX_FINE, MAX_TINY, MID_ALIGN, TINY_CLASSES,
};
use proptest::prelude::*;

#[test]
fn every_size_gets_the_smallest_class_that_holds_it() {
    for size in 0..=MAX_CACHED {
        let class = ClassIndex::for_size(size).unwrap();
        assert!(class.size() >= size);
        if class.number() > 0 {
            assert!(size > SIZES[class.number() - 1] as usize);
        }
        assert_eq!(class.is_tiny(), size <= MAX_TINY);
        assert_eq!(class.is_coarse(), size > MAX_FINE);
    }
    assert_eq!(ClassIndex::for_size(MAX_CACHED + 1), None);
    assert_eq!(ClassIndex::for_size(usize::MAX), None);
}

#[test]
fn powers_of_two_have_classes_and_waste_stays_below_a_seventh_or_a_fourth() {
    for shift in 3..=17 {
        let size = 1 << shift;
        let more = if size > MAX_TINY { 128 } else { 0 };
        assert_eq!(ClassIndex::for_size(size).unwrap().size(), size + more);
        let aligned = ClassIndex::for_layout(size, size).map(ClassIndex::size);
        assert_eq!(aligned, (size <= MAX_CACHED_ALIGN).then_some(size));
    }
    for size in 129..=MAX_CACHED {
        let waste = ClassIndex::for_size(size).unwrap().size() - size;
        let share = if size <= MAX_FINE { 7 } else { 4 };
        assert!(waste * share < size, "{size} bytes waste {waste}");
    }
}

#[test]
fn blocks_of_a_large_class_start_at_many_places_of_their_pages() {
    for size in 1921..=MAX_CACHED {
        let class = ClassIndex::for_size(size).unwrap();
        let places: std::collections::BTreeSet<_> =
            (0..64).map(|block| block * class.size() % 4096).collect();
        assert_eq!(places.len(), 32, "{size} bytes");
    }
}

#[test]
fn the_tables_say_what_the_arithmetic_says() {
    for size in 0..=MAX_TINY {
        let step = size.div_ceil(8);
        let class = ClassIndex::for_size(size).unwrap();
        assert_eq!(usize::from(TINY_BY_STEP[step]), class.number());
        let class_16 = usize::from(TINY_BY_STEP_16[step]);
        let size_16 = SIZES[class_16] as usize;
        assert!(size_16 >= size);
        assert!(size <= 8 || size_16.is_multiple_of(16));
        let align = if size <= 8 { 8 } else { 16 };
        let expected = ClassIndex::for_layout(size, align).unwrap();
        assert_eq!(class_16, expected.number(), "{size} bytes");
    }
    for size in 1..=MAX_CACHED {
        let class = ClassIndex::for_size(size).unwrap();
        let of_table = usize::from(if size <= MAX_FINE {
            MID_BY_STEP[mid_step(size)]
        } else {
            COARSE_BY_STEP[coarse_step(size)]
        });
        // The steps are 128 bytes, and 8 KiB: exact where classes are.
        if size > 1024 {
            assert_eq!(of_table, class.number(), "{size} bytes");
        } else {
            assert!(of_table >= class.number());
        }
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_has_no_class() {
    for align in [0, 3, 24, 12_000, 32_767, usize::MAX] {
        for size in [0, 1, 8, 100, 32_768] {
            assert_eq!(ClassIndex::for_layout(size, align), None, "{size}, {align}");
        }
    }
}

#[test]
fn all_classes_are_numbered_in_order() {
    let numbers: Vec<usize> = ClassIndex::all().map(ClassIndex::number).collect();
    assert_eq!(numbers, (0..CLASSES).collect::<Vec<_>>());
    assert_eq!(ClassIndex::new(CLASSES), None);
    let tiny = ClassIndex::all().filter(|class| class.is_tiny()).count();
    assert_eq!(tiny, TINY_CLASSES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_layout_gets_a_class_whose_blocks_have_its_size_and_alignment(
        size in prop_oneof![0usize..=2048, 0..=MAX_CACHED + 64],
        shift in 0_u32..=16,
    ) {
        let align = 1usize << shift;
        if let Some(class) = ClassIndex::for_layout(size, align) {
            prop_assert!(class.size() >= size);
            // Blocks start at multiples of their size from the first one.
            prop_assert!(class.align() >= align && class.size().is_multiple_of(class.align()));
            // No smaller class would have done, but the aligned ones are for those who need them.
            prop_assert!(class.is_plain() || align > MID_ALIGN);
            let others = ClassIndex::all().filter(|other| other.is_plain() || align > MID_ALIGN);
            for smaller in others.filter(|other| other.size() < class.size()) {
                prop_assert!(smaller.size() < size || smaller.align() < align);
            }
        } else {
            let holds = |class: ClassIndex| class.size() >= size && class.align() >= align;
            prop_assert!(align > MAX_CACHED_ALIGN || !ClassIndex::all().any(holds));
        }
    }
}
