//! A process that may have no more threads: the system refuses the purge thread.
#![cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]

use hakmem_alloc::{Hakmem, stats};
use hakmem_test_support::threads;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    extern "C" fn(*mut c_void) -> *mut c_void,
    *mut c_void,
) -> libc::c_int;

/// Whether new threads are refused, and how many were asked for since.
static REFUSES: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// The C library's own, unless new threads are refused.
///
/// # Safety
///
/// As for the C library's.
// SAFETY: what it stands in front of has this name, and its type.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> libc::c_int {
    if REFUSES.load(Ordering::Relaxed) {
        ASKED.fetch_add(1, Ordering::Relaxed);
        return libc::EAGAIN;
    }
    // SAFETY: the function found has this type, and gets its own arguments.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        std::mem::transmute::<*mut c_void, Create>(next)(thread, attributes, start, argument)
    }
}

/// Frees 64 MiB in blocks of 1 MiB.
fn burst() {
    let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
    drop(blocks);
}

#[test]
fn a_thread_that_is_refused_is_asked_for_once_in_a_second_and_memory_goes_back_without_it() {
    REFUSES.store(true, Ordering::Relaxed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        burst();
    }
    let asked = ASKED.load(Ordering::Relaxed);
    // Each time with a small stack, and then with the usual one.
    assert!((2..=6).contains(&asked), "{asked} times in 2.5 seconds");

    // What was freed goes back as the program goes on.
    let before = stats().purged_bytes;
    burst();
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(50));
        drop(vec![1_u8; 200 << 10]);
    }
    let given = stats().purged_bytes - before;
    assert!(given >= 32 << 20, "{given} bytes given back");

    // And the thread starts when it may.
    REFUSES.store(false, Ordering::Relaxed);
    let (count, deadline) = (threads(), Instant::now() + Duration::from_secs(10));
    while threads() <= count {
        assert!(Instant::now() < deadline, "no purge thread was started");
        burst();
    }
}
