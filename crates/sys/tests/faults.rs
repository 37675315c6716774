//! Failing mapping calls on purpose. The switch is the process's, so there is one test at a time.
#![cfg(not(loom))]

use hakmem_sys::vm::{self, MapError, fault};
use hakmem_test_support::{resident, turn};

#[test]
fn calls_fail_from_the_chosen_one_on_until_faults_are_off() {
    let _turn = turn();
    let page = vm::page_size();
    let start = vm::reserve(8 * page).expect("address space");
    let block = vm::map(2 * page).expect("memory");

    fault::fail_after(2);
    let first = vm::map(page).expect("the first call is let through");
    // SAFETY: the reserved range is this test's.
    assert!(unsafe { vm::commit(start, page) }.is_ok(), "and the second");
    for _ in 0..3 {
        assert_eq!(vm::map(page), None);
    }
    assert_eq!(vm::reserve(page), None);
    assert_eq!(vm::map_at(start, page), Err(MapError::OutOfMemory));
    // SAFETY: these ranges are this test's, and stay as they are.
    unsafe {
        assert_eq!(vm::commit(start + page, page), Err(MapError::OutOfMemory));
        assert_eq!(vm::move_out(block, page, page), None);
        assert_eq!(vm::resize(block, 2 * page, 4 * page), None);
        assert!(!vm::decommit(start, page));
        // What needs no memory is not refused.
        assert!(vm::purge(block, page));
        let block = vm::resize(block, 2 * page, page).expect("shrinking");
        fault::off();
        let block = vm::resize(block, page, 4 * page).expect("memory");
        assert!(vm::commit(start + page, page).is_ok());
        vm::unmap(block, 4 * page);
        vm::unmap(first, page);
        vm::unmap(start, 8 * page);
    }
}

/// `move_out` asks whether it is to fail, for a page that tells whether it would be locked, and for room;
/// and then for the mapping to be made longer.
const UNTIL_MOVED: i64 = 3;

#[test]
fn pages_that_have_moved_and_cannot_stay_come_back_and_are_there_once() {
    let _turn = turn();
    let length = 1024 * vm::page_size();
    let block = vm::map(length).expect("memory");
    let contents = std::ptr::with_exposed_provenance_mut::<u8>(block);
    // SAFETY: mapped above, for this test.
    unsafe { contents.write_bytes(7, length) };
    for keeps_mappings in [false, true] {
        let before = resident();
        fault::fail_after(UNTIL_MOVED);
        if keeps_mappings {
            fault::keep_mappings();
        }
        // SAFETY: the block is this test's.
        let moved = unsafe { vm::move_out(block, length, 2 * length) };
        fault::off();
        assert_eq!(moved, None);
        // SAFETY: as above.
        assert!((0..length).all(|at| unsafe { contents.add(at).read() } == 7));
        let grown = resident().saturating_sub(before);
        assert!(grown < length / 2, "{grown} bytes more are resident");
    }
    // SAFETY: the block is this test's.
    unsafe { vm::unmap(block, length) };
}
