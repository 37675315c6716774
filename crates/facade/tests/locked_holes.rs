//! Free pages between blocks in use that the program has locked, and unlocks later.

use hakmem_alloc::{Hakmem, trim};
use hakmem_test_support::resident;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// Bytes of what is locked, freed, and unlocked: an unprivileged process may lock 8 MiB.
const LOCKED: usize = 4 << 20;

/// Frees all but one in so many blocks of this size while their pages are locked.
fn leave_locked_holes(size: usize, kept_of: usize) {
    let mut blocks: Vec<Option<Vec<u8>>> =
        (0..LOCKED / size).map(|_| Some(vec![1; size])).collect();
    let lock = |call: unsafe extern "C" fn(*const libc::c_void, usize) -> i32, address: usize| {
        let page = std::ptr::without_provenance(address & !4095);
        let size = size + address % 4096;
        // SAFETY: changes what the system may do with these pages, and not what is in them.
        unsafe { call(page, size) == 0 }
    };
    let addresses: Vec<usize> = blocks
        .iter()
        .flatten()
        .map(|block| block.as_ptr().addr())
        .collect();
    for &address in &addresses {
        assert!(lock(libc::mlock, address));
    }
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % kept_of != 0 {
            *block = None;
        }
    }
    trim();
    let before = resident();
    for &address in &addresses {
        // (Refused where a wholly free run has gone back with its addresses.)
        lock(libc::munlock, address);
    }
    trim();
    let given = before.saturating_sub(resident());
    assert!(given >= LOCKED / 3, "{given} bytes in blocks of {size}");
}

#[test]
fn what_the_system_refused_once_goes_back_later() {
    leave_locked_holes(512, 16);
    leave_locked_holes(3000, 8);
    leave_locked_holes(20_000, 4);
}
