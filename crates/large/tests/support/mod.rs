//! Blocks that can be checked.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use hakmem_page_arena::{Arena, Label};
use hakmem_sys::vm;

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// An arena that lives as long as the process.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new()))
}

/// An arena whose range is as small as ranges get, all of it in use: where it
/// cannot claim addresses, and a limit does not let it reserve more.
pub fn full_arena() -> &'static Arena {
    loop {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a valid place for the limit.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
        assert_eq!(got, 0);
        let low = libc::rlimit {
            rlim_cur: address_space() + (200 << 20),
            ..limit
        };
        let arena = arena();
        // SAFETY: a valid limit, each time.
        let run = unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const low), 0);
            let run = arena.allocate(1, 1, Label::LARGE);
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
            run
        };
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

fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    pages * vm::page_size() as u64
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

pub fn assert_zero(block: *mut u8, size: usize) {
    // SAFETY: callers hold the block.
    let (before, words, after) =
        unsafe { std::slice::from_raw_parts(block, size).align_to::<u128>() };
    assert!(before.iter().chain(after).all(|&byte| byte == 0));
    assert!(words.iter().all(|&word| word == 0), "{block:p} is not zero");
}
