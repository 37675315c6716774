//! Owner codes and the gate.
#![cfg(not(loom))]

use hakmem_region_id::word::{BIN_LIMIT, OWNERS, bin_offset};
use hakmem_region_id::{ClassIndex, Kind, OwnerId, Part, RegionWord};
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
    for number in [0, 1, 2, 77, OWNERS / 2, OWNERS - 1] {
        assert_eq!(owner(number).number(), number);
        assert_eq!(code(owner(number)), number + 1);
    }
    assert_eq!(OwnerId::from_number(OWNERS), None);
    assert_eq!(OwnerId::from_number(u32::MAX), None);
}

#[test]
fn a_region_that_holds_no_blocks_does_not_pass_the_gate() {
    let kinds = [
        Kind::Unmapped,
        Kind::FreeDirty,
        Kind::FreeClean,
        Kind::FreeHole,
        Kind::Foreign,
        Kind::Taken,
        Kind::LargeStart,
        Kind::Inside,
        Kind::Retained,
    ];
    for kind in kinds {
        let word = RegionWord::of_kind(kind);
        assert_eq!(word.kind(), Some(kind));
        assert_eq!(word.class(), None);
        assert_eq!(word.owner(), None);
        let gate = word.gate();
        // Offset 0 is the bin that takes nothing.
        assert!(gate >= BIN_LIMIT || (kind == Kind::Unmapped && gate == 0));
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    (any::<u8>(), any::<u8>()).prop_map(|(tag, place)| Part { tag, place })
}

fn any_class() -> impl Strategy<Value = ClassIndex> {
    (0..hakmem_region_id::CLASSES).prop_map(|number| ClassIndex::new(number).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_block_passes_the_gate_whoever_owns_it(
        mine in 0..OWNERS,
        theirs in 0..OWNERS,
        class in any_class(),
        part in any_part(),
    ) {
        let owned = RegionWord::owned(owner(theirs), class);
        let shared = RegionWord::shared(class, part);
        for word in [owned, shared, RegionWord::unowned(class)] {
            prop_assert_eq!(word.gate(), bin_offset(class));
        }
        prop_assert_eq!(owned.is_owned_by(owner(mine)), mine == theirs);
        prop_assert!(!shared.is_owned_by(owner(mine)));
        prop_assert!(!RegionWord::unowned(class).is_owned_by(owner(mine)));
    }

    #[test]
    fn a_word_tells_what_it_was_made_of(
        number in 0..OWNERS,
        class in any_class(),
        other in any_class(),
        part in any_part(),
    ) {
        let owned = RegionWord::owned(owner(number), class);
        let shared = RegionWord::shared(class, part);
        let unowned = RegionWord::unowned(class);
        for word in [owned, shared, unowned] {
            prop_assert_eq!(RegionWord::from_bits(word.bits()), word);
            prop_assert_eq!(word.class(), Some(class));
            prop_assert_eq!(word.kind(), None);
        }
        prop_assert_eq!(owned.owner(), Some(owner(number)));
        prop_assert_eq!(shared.owner(), None);
        prop_assert_eq!(unowned.owner(), None);
        prop_assert!(shared.is_shared() && !owned.is_shared() && !unowned.is_shared());
        prop_assert_eq!(shared.part_of(class), Some(part));
        prop_assert_eq!(shared.part_of(other).is_some(), other == class);
        prop_assert_eq!(owned.part_of(class), None);
        prop_assert_eq!(unowned.part_of(class), None);
        let text = format!("{owned:?}");
        prop_assert_eq!(text, format!("owned({number}, {})", class.size()));
        let text = format!("{shared:?}");
        let Part { tag, place } = part;
        prop_assert_eq!(text, format!("shared({}, tag {tag}, place {place})", class.size()));
    }
}
