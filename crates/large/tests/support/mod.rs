//! Blocks that can be checked.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use hakmem_page_arena::{Arena, Label};
use hakmem_sys::vm;
use hakmem_test_support::{Numbers, with_room_for};

/// An arena that lives as long as the process.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new()))
}

/// An arena whose range is as small as ranges get, all of it in use: where it
/// cannot claim addresses, and a limit does not let it reserve more.
pub fn full_arena() -> &'static Arena {
    loop {
        let arena = arena();
        let run = with_room_for(200 << 20, || arena.allocate(1, 1, Label::LARGE));
        assert!(run.is_some(), "a range of 64 MiB fits under the limit");
        // What lies behind the range's used part is set aside only where the
        // whole range is; the first few arenas claim theirs.
        let beyond = arena.map().base() + arena.map().len() * hakmem_region_id::REGION_BYTES;
        if vm::map_at(beyond, 4096).is_ok() {
            // SAFETY: mapped just now.
            unsafe { vm::unmap(beyond, 4096) };
            continue;
        }
        while arena.allocate(1, 1, Label::LARGE).is_some() {}
        let range = arena.map().len() * hakmem_region_id::REGION_BYTES;
        assert!(range <= 256 << 20, "{range} bytes are not a small range");
        return arena;
    }
}

/// Bytes between the marks that [`fill`] makes.
const STEP: usize = 4096 - 8;

fn marks(size: usize) -> impl Iterator<Item = usize> {
    (0..size.saturating_sub(8)).step_by(STEP)
}

/// Writes a pattern that depends on `seed` alone, so that it may be moved.
pub fn fill(block: *mut u8, from: usize, size: usize, seed: u64) {
    for offset in marks(size).filter(|&offset| offset >= from) {
        // SAFETY: callers hold the block.
        unsafe {
            block
                .add(offset)
                .cast::<u64>()
                .write_unaligned(Numbers(seed ^ offset as u64).next());
        }
    }
}

/// Checks the part of the pattern for `size` bytes that lies in `kept` bytes.
pub fn check(block: *mut u8, size: usize, kept: usize, seed: u64) {
    for offset in marks(size.min(kept)) {
        // SAFETY: callers hold the block.
        let found = unsafe { block.add(offset).cast::<u64>().read_unaligned() };
        assert_eq!(
            found,
            Numbers(seed ^ offset as u64).next(),
            "byte {offset} of {size} at {block:p}"
        );
    }
}
