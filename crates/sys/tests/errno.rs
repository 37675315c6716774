//! `errno` stays the program's.
#![cfg(not(loom))]

use hakmem_sys::{errno, vm};
use std::thread;

#[test]
fn errno_is_what_was_set_and_each_threads_own() {
    errno::set(5);
    thread::spawn(|| {
        errno::set(6);
        assert_eq!(errno::get(), 6);
    })
    .join()
    .unwrap();
    assert_eq!(errno::get(), 5);
}

#[test]
fn a_preserved_call_changes_errno_only_while_it_runs() {
    errno::set(5);
    let inside = errno::preserved(|| {
        errno::set(6);
        errno::get()
    });
    assert_eq!((inside, errno::get()), (6, 5));
}

#[test]
fn refused_mapping_calls_leave_errno_alone() {
    let page = vm::page_size();
    let start = vm::map(page).expect("a page");
    let too_long = (usize::MAX / 2) & !(page - 1);
    // No program has memory there, so nothing of another thread's is hit.
    let nowhere = 1 << 60;
    errno::set(5);
    assert_eq!(vm::map(too_long), None);
    assert_eq!(vm::reserve(too_long), None);
    assert_eq!(vm::map_at(start, page), Err(vm::MapError::Occupied));
    assert!(!vm::is_readable(usize::MAX));
    // SAFETY: the page is this test's, and the other calls are refused.
    unsafe {
        assert_eq!(vm::resize(start, page, too_long), None);
        assert_eq!(vm::move_out(nowhere, page, page), None);
        assert!(vm::commit(nowhere, page).is_err());
        assert!(!vm::purge(nowhere, page));
        vm::unmap(nowhere, page);
        vm::unmap(start, page);
    }
    assert_eq!(errno::get(), 5);
}
