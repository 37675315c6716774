//! The thread slot.
#![cfg(not(loom))]

use std::sync::Barrier;
use std::thread;

#[derive(Debug)]
struct Heap(u32);

static INITIAL: Heap = Heap(1);

hakmem_sys::thread_slot! {
    mod slot: *mut Heap = &INITIAL
}

static OTHER: u64 = 2;

hakmem_sys::thread_slot! {
    mod other: *mut u64 = &OTHER
}

#[test]
fn two_slots_do_not_share_a_pointer() {
    assert_eq!(slot::get().cast_const(), &raw const INITIAL);
    assert_eq!(other::get().cast_const(), &raw const OTHER);
    let mut own = 3;
    other::set(&raw mut own);
    assert_eq!(slot::get().cast_const(), &raw const INITIAL);
    assert_eq!(other::get(), &raw mut own);
}

#[test]
fn a_new_thread_starts_with_the_initial_address_and_keeps_its_own() {
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for number in 0..4 {
            let barrier = &barrier;
            scope.spawn(move || {
                assert_eq!(slot::get().cast_const(), &raw const INITIAL);
                // SAFETY: the address of a static.
                assert_eq!(unsafe { (*slot::get()).0 }, 1);
                let mut own = Heap(number);
                slot::set(&raw mut own);
                barrier.wait();
                assert_eq!(slot::get(), &raw mut own);
                // SAFETY: this thread's own local.
                assert_eq!(unsafe { (*slot::get()).0 }, number);
                barrier.wait();
                slot::set((&raw const INITIAL).cast_mut());
            });
        }
    });
    assert_eq!(slot::get().cast_const(), &raw const INITIAL);
}
