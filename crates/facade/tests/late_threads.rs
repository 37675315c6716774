//! Threads that allocate so late that the allocator's exit hook does not run any more.

mod support {
    pub mod block;
    pub mod direct;
    pub mod forked;
}

use hakmem_alloc::{Hakmem, Stats, stats};
use hakmem_test_support::turn;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Barrier, OnceLock};
use std::thread;
use support::block::Block;
use support::direct::layout;
use support::forked::in_child;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// The rounds of destructors that the system makes.
const ROUNDS: usize = 4;

static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();

/// Has the thread's destructor run in another round, with this value.
fn arm(value: usize) {
    // SAFETY: the key is valid; the value is a number.
    let armed = unsafe { libc::pthread_setspecific(KEY.get().copied().unwrap(), number(value)) };
    assert_eq!(armed, 0);
}

fn number(value: usize) -> *mut c_void {
    ptr::without_provenance_mut(value)
}

/// Allocates in the round of destructors whose number is in the last place of its value, and in those
/// after it; which round this is is in the first.
unsafe extern "C" fn in_each_round(value: *mut c_void) {
    let (round, first) = (value.addr() / 10, value.addr() % 10);
    if round >= first {
        for size in [16, 500, 5000, 60_000] {
            Block::new(layout(size, 8), false, 9)
                .expect("memory")
                .free();
        }
    }
    if round < ROUNDS {
        arm((round + 1) * 10 + first);
    }
}

extern "C" fn allocates_late(first: *mut c_void) -> *mut c_void {
    arm(10 + first.addr());
    ptr::null_mut()
}

/// A thread that makes no call of the allocator before this round of its destructors.
fn late_thread(first: usize) -> libc::pthread_t {
    KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is a valid place. The allocator's own key exists, so that its turn comes first.
        let made = unsafe { libc::pthread_key_create(&raw mut key, Some(in_each_round)) };
        assert_eq!(made, 0);
        key
    });
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the place is valid, the argument a number, and a thread that was started is written down.
    unsafe {
        let place = thread.as_mut_ptr();
        let started = libc::pthread_create(place, ptr::null(), allocates_late, number(first));
        assert_eq!(started, 0);
        thread.assume_init()
    }
}

fn join(thread: libc::pthread_t) {
    // SAFETY: it is joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
}

fn assert_few_more(before: &Stats, most: u64) {
    let after = stats();
    assert!(
        after.heaps <= before.heaps + most,
        "{} heaps before, {} after",
        before.heaps,
        after.heaps
    );
    assert!(after.mapped_bytes <= before.mapped_bytes + (8 << 20));
}

#[test]
fn threads_that_allocate_in_late_rounds_of_destructors_need_one_heap() {
    let _turn = turn();
    join(late_thread(1));
    for first in 1..=ROUNDS {
        let before = stats();
        for _ in 0..200 {
            join(late_thread(first));
        }
        assert_few_more(&before, 2);
    }
}

#[test]
fn such_threads_beside_each_other_need_one_heap_each() {
    let _turn = turn();
    join(late_thread(1));
    let before = stats();
    for _ in 0..100 {
        let threads = [3, 4, 3, 4, 4, 4, 1, 4].map(late_thread);
        threads.into_iter().for_each(join);
    }
    assert_few_more(&before, 10);
}

#[test]
fn a_thread_in_the_child_of_a_fork_does_not_take_the_heap_of_one_that_is_not_there() {
    const THREADS: usize = 24;
    let _turn = turn();
    let allocate = || drop(vec![1_u8; 100]);
    let beside_each_other = |then: &dyn Fn()| {
        let all_there = Barrier::new(THREADS + 1);
        let done = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    allocate();
                    all_there.wait();
                    done.wait();
                });
            }
            all_there.wait();
            let outcome = catch_unwind(AssertUnwindSafe(then));
            // They end all the same.
            done.wait();
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
        });
    };
    beside_each_other(&|| {
        let idle = stats().heaps - stats().heaps_attached;
        in_child(|| {
            let before = stats().heaps;
            // The C library puts them where those were that are not here.
            beside_each_other(&|| {
                let more = stats().heaps - before;
                assert!(
                    more + idle >= THREADS as u64,
                    "{more} heaps and {idle} that were idle for {THREADS} threads"
                );
            });
        });
    });
}
