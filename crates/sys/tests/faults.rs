//! Failing mapping calls on purpose. One test: the switch is the process's.
#![cfg(not(loom))]

use hakmem_sys::vm::{self, MapError, fault};

#[test]
fn calls_fail_from_the_chosen_one_on_until_faults_are_off() {
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
        // Moved, and then not to be made longer: everything is as it was.
        let contents = std::ptr::with_exposed_provenance_mut::<u8>(block);
        contents.write_bytes(7, 2 * page);
        fault::fail_after(1);
        assert_eq!(vm::move_out(block, 2 * page, 8 * page), None);
        fault::off();
        assert!((0..2 * page).all(|at| contents.add(at).read() == 7));
        vm::unmap(block, 4 * page);
        vm::unmap(first, page);
        vm::unmap(start, 8 * page);
    }
}
