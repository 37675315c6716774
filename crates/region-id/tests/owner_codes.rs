//! Owner codes and the gate.
#![cfg(not(loom))]

use hakmem_region_id::word::{BIN_LIMIT, OWNERS, bin_offset};
use hakmem_region_id::{ClassIndex, Kind, OwnerId, RegionWord};
use proptest::prelude::*;

/// The owner code, as it stands in a word.
fn code(owner: OwnerId) -> u32 {
    RegionWord::owned(owner, ClassIndex::new(0).unwrap()).bits() >> 11
}

fn owner(number: u32) -> OwnerId {
    OwnerId::from_number(number).unwrap()
}

#[test]
fn numbers_and_codes_go_together_one_to_one() {
    // Codes rise with their numbers, so all are different.
    let mut before = 0;
    for number in 0..OWNERS {
        let owner = owner(number);
        assert_eq!(owner.number(), number);
        assert_eq!(code(owner).count_ones(), 10);
        assert!(code(owner) > before && code(owner) < 1 << 21);
        before = code(owner);
    }
}

#[test]
fn the_first_and_the_last_code_are_the_ends_of_their_kind() {
    assert_eq!(code(owner(0)), 0b11_1111_1111);
    assert_eq!(code(owner(OWNERS - 1)), 0b11_1111_1111 << 11);
    assert_eq!(OwnerId::from_number(OWNERS), None);
    assert_eq!(OwnerId::from_number(u32::MAX), None);
}

#[test]
fn no_heap_passes_the_gate_with_a_region_that_holds_no_blocks() {
    let kinds = [
        Kind::Unmapped,
        Kind::FreeDirty,
        Kind::FreeClean,
        Kind::FreeHole,
        Kind::Foreign,
        Kind::Taken,
        Kind::LargeStart,
        Kind::LargeInside,
        Kind::Retained,
    ];
    for kind in kinds {
        let word = RegionWord::of_kind(kind);
        assert_eq!(word.kind(), Some(kind));
        assert_eq!(word.class(), None);
        assert_eq!(word.owner(), None);
        for number in [0, 1, OWNERS / 2, OWNERS - 1] {
            let gate = word.gate(owner(number).mask());
            // Offset 0 is the bin that takes nothing.
            assert!(gate >= BIN_LIMIT || (kind == Kind::Unmapped && gate == 0));
        }
        let free = matches!(kind, Kind::FreeDirty | Kind::FreeClean | Kind::FreeHole);
        assert_eq!(word.is_free(), free);
    }
}

#[test]
fn a_closed_front_passes_only_what_takes_nothing() {
    // Its mask has all bits set.
    for class in ClassIndex::all() {
        assert!(RegionWord::owned(owner(7), class).gate(!0) >= BIN_LIMIT);
        assert!(RegionWord::unowned(class).gate(!0) >= BIN_LIMIT);
    }
}

fn any_class() -> impl Strategy<Value = ClassIndex> {
    (0..hakmem_region_id::CLASSES).prop_map(|number| ClassIndex::new(number).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_block_passes_the_gate_of_its_owner_and_of_nobody_else(
        mine in 0..OWNERS,
        theirs in 0..OWNERS,
        class in any_class(),
    ) {
        let word = RegionWord::owned(owner(theirs), class);
        let gate = word.gate(owner(mine).mask());
        prop_assert_eq!(gate < BIN_LIMIT, mine == theirs);
        if mine == theirs {
            prop_assert_eq!(gate, bin_offset(class));
        }
        prop_assert_eq!(word.is_owned_by(owner(mine)), mine == theirs);
    }

    #[test]
    fn a_shared_block_passes_every_gate_and_an_unowned_one_none(
        mine in 0..OWNERS,
        class in any_class(),
    ) {
        let mask = owner(mine).mask();
        prop_assert_eq!(RegionWord::shared(class).gate(mask), bin_offset(class));
        prop_assert!(RegionWord::unowned(class).gate(mask) >= BIN_LIMIT);
    }

    #[test]
    fn a_word_tells_what_it_was_made_of(number in 0..OWNERS, class in any_class()) {
        let owned = RegionWord::owned(owner(number), class);
        let shared = RegionWord::shared(class);
        let unowned = RegionWord::unowned(class);
        for word in [owned, shared, unowned] {
            prop_assert_eq!(RegionWord::from_bits(word.bits()), word);
            prop_assert_eq!(word.class(), Some(class));
            prop_assert_eq!(word.kind(), None);
            prop_assert!(!word.is_free());
        }
        prop_assert_eq!(owned.owner(), Some(owner(number)));
        prop_assert_eq!(shared.owner(), None);
        prop_assert_eq!(unowned.owner(), None);
        prop_assert!(shared.is_shared() && !owned.is_shared() && !unowned.is_shared());
        let text = format!("{owned:?}");
        prop_assert_eq!(text, format!("owned({number}, {})", class.size()));
    }
}
