//! A request comes while a purge has the only free memory in hand, and the system maps no other.
//!
//! One test only: what is injected concerns the whole process.

mod support {
    pub mod arena;
    pub mod lengths;
    pub mod runs;
}

use core::ffi::{c_int, c_void};
use hakmem_page_arena::Label;
use hakmem_sys::vm::fault;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::arena::arena;
use support::lengths::KIB64;
use support::runs::hand_out;

static IS_SLOW: AtomicBool = AtomicBool::new(false);
static IS_CALLED: AtomicBool = AtomicBool::new(false);

/// In place of the system's: the same, but slow where it is to be.
///
/// # Safety
///
/// As for the system's.
#[unsafe(no_mangle)]
unsafe extern "C" fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int {
    if IS_SLOW.load(Ordering::SeqCst) {
        IS_CALLED.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(500));
    }
    // SAFETY: passed on.
    unsafe { libc::syscall(libc::SYS_madvise, address, length, advice) as c_int }
}

#[test]
fn a_request_waits_for_what_a_purge_has_in_hand() {
    /// What a purge takes at a time (4 MiB).
    const PART: usize = 64 * KIB64;
    let arena = arena();
    let run = hand_out(arena, PART);
    let _wall = hand_out(arena, 1);
    // SAFETY: handed out above.
    unsafe { arena.free(run, PART) };
    fault::fail_after(0);
    let served = thread::scope(|scope| {
        IS_SLOW.store(true, Ordering::SeqCst);
        scope.spawn(|| arena.purge(0, usize::MAX));
        while !IS_CALLED.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        IS_SLOW.store(false, Ordering::SeqCst);
        arena.allocate(PART, 1, Label::LARGE)
    });
    fault::off();
    assert_eq!(served.map(|served| served.first), Some(run));
}
