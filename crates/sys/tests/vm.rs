//! Address space and memory.
#![cfg(not(loom))]

use hakmem_sys::vm::{self, MapError};
use hakmem_test_support::{again, is_child, resident_pages};
use proptest::prelude::*;
use std::ptr;

/// Mapped bytes, as a slice.
///
/// # Safety
///
/// They are readable and writable, and nobody else has a reference.
unsafe fn bytes<'a>(address: usize, length: usize) -> &'a mut [u8] {
    // SAFETY: passed on.
    unsafe { std::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(address), length) }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[test]
fn the_page_size_is_a_power_of_two_and_at_least_4096() {
    assert!(vm::page_size().is_power_of_two());
    assert!(vm::page_size() >= 4096);
}

#[test]
fn the_entropy_of_the_start_stays_the_same() {
    assert_eq!(vm::start_entropy(), vm::start_entropy());
    assert_ne!(vm::start_entropy(), 0);
}

#[test]
fn fresh_memory_is_zero_and_writable() {
    let length = 4 * vm::page_size();
    let start = vm::map(length).expect("memory");
    // SAFETY: mapped just now, for this test.
    unsafe {
        assert!(is_zero(bytes(start, length)));
        bytes(start, length).fill(1);
        vm::unmap(start, length);
    }
}

#[test]
fn unmapped_memory_is_gone() {
    // In a process of its own, where no other test maps something there.
    if !is_child() {
        let output = again("unmapped_memory_is_gone");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let page = vm::page_size();
    let start = vm::map(3 * page).expect("memory");
    // SAFETY: mapped just now, for this test.
    unsafe { vm::unmap(start + page, page) };
    assert!(vm::is_readable(start));
    assert!(!vm::is_readable(start + page));
    assert!(vm::is_readable(start + 2 * page));
}

#[test]
fn a_claim_succeeds_where_nothing_is_and_only_there() {
    let page = vm::page_size();
    let start = vm::reserve(4 * page).expect("address space");
    // SAFETY: the range is this test's.
    unsafe { vm::unmap(start, 4 * page) };
    match vm::map_at(start + page, page) {
        Ok(()) => {}
        // Another test's thread was faster, or the system cannot do it.
        Err(MapError::Occupied | MapError::Unsupported) => return,
        Err(error) => panic!("{error:?}"),
    }
    // SAFETY: mapped just now.
    unsafe { bytes(start + page, page).fill(7) };
    assert_eq!(vm::map_at(start, 4 * page), Err(MapError::Occupied));
    assert_eq!(vm::map_at(start + page, page), Err(MapError::Occupied));
    // SAFETY: as above.
    unsafe {
        assert!(bytes(start + page, page).iter().all(|&byte| byte == 7));
        vm::unmap(start + page, page);
    }
}

#[test]
fn reserved_addresses_have_memory_only_while_committed() {
    let page = vm::page_size();
    let start = vm::reserve(64 * page).expect("address space");
    assert!(!vm::is_readable(start));
    // SAFETY: the range is this test's.
    unsafe {
        vm::commit(start + page, 2 * page).expect("memory");
        assert!(!vm::is_readable(start + page - 1));
        assert!(vm::is_readable(start + page));
        assert!(vm::is_readable(start + 3 * page - 1));
        assert!(!vm::is_readable(start + 3 * page));
        bytes(start + page, 2 * page).fill(9);
        assert!(vm::decommit(start + page, 2 * page));
        assert!(!vm::is_readable(start + page));
        vm::commit(start + page, 2 * page).expect("memory");
        assert!(is_zero(bytes(start + page, 2 * page)));
        vm::unmap(start, 64 * page);
    }
}

#[test]
fn purged_memory_reads_as_zero_and_its_neighbours_are_kept() {
    let page = vm::page_size();
    let start = vm::map(3 * page).expect("memory");
    // SAFETY: mapped just now, for this test.
    unsafe {
        bytes(start, 3 * page).fill(3);
        assert!(vm::purge(start + page, page));
        assert!(bytes(start, page).iter().all(|&byte| byte == 3));
        assert!(is_zero(bytes(start + page, page)));
        assert!(bytes(start + 2 * page, page).iter().all(|&byte| byte == 3));
        vm::unmap(start, 3 * page);
    }
}

#[test]
fn populated_memory_is_there_and_keeps_its_contents() {
    const PAGES: usize = 16;
    let page = vm::page_size();
    let start = vm::map(PAGES * page).expect("memory");
    // SAFETY: mapped just now, for this test.
    let populated = unsafe {
        bytes(start + 3 * page, 1)[0] = 7;
        vm::populate(start, PAGES * page)
    };
    if populated {
        assert_eq!(resident_pages(start, PAGES), PAGES);
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(bytes(start + 3 * page, 1)[0], 7);
        assert!(is_zero(bytes(start, 3 * page)));
        assert!(is_zero(bytes(start + 4 * page, 12 * page)));
        vm::unmap(start, PAGES * page);
    }
}

#[test]
fn what_cannot_be_populated_is_refused_and_leaves_errno_alone() {
    let page = vm::page_size();
    let start = vm::reserve(2 * page).expect("address space");
    hakmem_sys::errno::set(77);
    // SAFETY: the range is this test's; there is nothing behind it to be harmed.
    assert!(!unsafe { vm::populate(start, 2 * page) });
    assert_eq!(hakmem_sys::errno::get(), 77);
}

#[test]
fn pages_that_are_moved_out_keep_their_contents_and_leave_zeros() {
    let page = vm::page_size();
    for more in [0, 1, 100] {
        let from = vm::map(4 * page).expect("memory");
        let new = (2 + more) * page;
        // SAFETY: all ranges are this test's.
        unsafe {
            bytes(from, 4 * page).fill(4);
            let to = vm::move_out(from + page, 2 * page, new).expect("Linux 5.7");
            assert!(bytes(to, 2 * page).iter().all(|&byte| byte == 4));
            assert!(is_zero(bytes(to + 2 * page, more * page)));
            assert!(is_zero(bytes(from + page, 2 * page)));
            for rest in [from, from + 3 * page] {
                assert!(
                    bytes(rest, page).iter().all(|&byte| byte == 4),
                    "not asked for"
                );
            }
            vm::unmap(to, new);
            vm::unmap(from, 4 * page);
        }
    }
}

/// What is left of a range whose pages have moved would not be locked.
#[test]
fn pages_that_are_locked_in_memory_are_not_moved_out() {
    // Locking what will be mapped concerns the whole process.
    if !is_child() {
        let output = again("pages_that_are_locked_in_memory_are_not_moved_out");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let page = vm::page_size();
    let from = vm::map(2 * page).expect("memory");
    let start = ptr::with_exposed_provenance::<libc::c_void>(from);
    // SAFETY: all ranges are this test's.
    unsafe {
        bytes(from, 2 * page).fill(5);
        assert_eq!(libc::mlock(start, 2 * page), 0, "two pages may be locked");
        assert_eq!(vm::move_out(from, 2 * page, 4 * page), None);
        assert_eq!(libc::munlock(start, 2 * page), 0);

        assert_eq!(libc::mlockall(libc::MCL_FUTURE), 0);
        let moved = vm::move_out(from, 2 * page, 4 * page);
        assert_eq!(libc::munlockall(), 0);
        assert_eq!(moved, None);
        assert!(bytes(from, 2 * page).iter().all(|&byte| byte == 5));

        let to = vm::move_out(from, 2 * page, 4 * page).expect("Linux 5.7");
        assert!(bytes(to, 2 * page).iter().all(|&byte| byte == 5));
    }
}

#[test]
fn what_starts_at_null_cannot_be_read() {
    assert!(!vm::is_readable(0));
    assert!(!vm::is_readable(usize::MAX));
}

#[test]
fn what_a_program_has_can_be_read() {
    static CONSTANT: u8 = 1;
    let local = 2u8;
    let boxed = Box::new(3u8);
    for place in [&raw const CONSTANT, &raw const local, &raw const *boxed] {
        assert!(vm::is_readable(place.expose_provenance()));
    }
    // Instructions as well.
    assert!(vm::is_readable(vm::is_readable as *const () as usize));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_resized_mapping_keeps_what_fits(old in 1usize..64, new in 1usize..64, seed: u8) {
        let page = vm::page_size();
        let pattern = |index: usize| (index / 512) as u8 ^ seed;
        let start = vm::map(old * page).expect("memory");
        // SAFETY: mapped just now, for this test.
        unsafe {
            for (index, byte) in bytes(start, old * page).iter_mut().enumerate() {
                *byte = pattern(index);
            }
            let moved = vm::resize(start, old * page, new * page).expect("memory");
            let kept = old.min(new) * page;
            let now = bytes(moved, new * page);
            prop_assert!(now[..kept].iter().enumerate().all(|(i, &byte)| byte == pattern(i)));
            prop_assert!(is_zero(&now[kept..]));
            vm::unmap(moved, new * page);
        }
    }
}
