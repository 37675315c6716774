//! What the tests of the whole allocator share.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod model;

use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The allocator, to be called directly.
pub const HAKMEM: Hakmem = Hakmem::new();

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
/// One test of a binary at a time, for those that look at counters.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident bytes of this process.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A block with a pattern in it that depends on its seed, not on where it is.
#[derive(Debug)]
pub struct Block {
    pub address: *mut u8,
    pub layout: Layout,
    pub seed: u64,
}

// SAFETY: blocks are handed from thread to thread, which is what is tested.
unsafe impl Send for Block {}

/// The offsets that carry the pattern: all of a small block, else the start, the
/// end, and a few bytes between, at least one in every page.
fn marks(size: usize) -> impl Iterator<Item = usize> {
    let dense = if size <= 160 { size } else { 32 };
    (0..dense)
        .chain((dense..size).step_by(if size <= 4096 { 61 } else { 4093 }))
        .chain(size.saturating_sub(16).max(dense)..size)
}

fn value(seed: u64, offset: usize) -> u8 {
    let mixed = (seed ^ offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 | 1
}

impl Block {
    /// Allocates and fills a block; `None` if there is no memory.
    pub fn new(layout: Layout, zeroed: bool, seed: u64) -> Option<Self> {
        // SAFETY: callers ask for sizes that are not zero.
        let address = unsafe {
            if zeroed {
                HAKMEM.alloc_zeroed(layout)
            } else {
                HAKMEM.alloc(layout)
            }
        };
        if address.is_null() {
            return None;
        }
        let block = Self {
            address,
            layout,
            seed,
        };
        assert_eq!(address.addr() % layout.align(), 0, "{block:?}");
        if zeroed {
            block.assert_zero();
        }
        block.fill(0);
        Some(block)
    }

    fn assert_zero(&self) {
        // SAFETY: the block is ours.
        let (before, words, after) = unsafe {
            std::slice::from_raw_parts(self.address, self.layout.size()).align_to::<u128>()
        };
        assert!(
            before.iter().chain(after).all(|&byte| byte == 0),
            "{self:?}"
        );
        assert!(words.iter().all(|&word| word == 0), "{self:?} is not zero");
    }

    pub fn fill(&self, from: usize) {
        for offset in marks(self.layout.size()).filter(|&offset| offset >= from) {
            // SAFETY: the block is ours, and the offset inside it.
            unsafe { self.address.add(offset).write(value(self.seed, offset)) };
        }
    }

    pub fn check(&self) {
        self.check_first(self.layout.size());
    }

    /// Checks what of the pattern lies in the first `kept` bytes.
    fn check_first(&self, kept: usize) {
        for offset in marks(self.layout.size()).filter(|&offset| offset < kept) {
            // SAFETY: the block is ours, and the offset inside it.
            let found = unsafe { self.address.add(offset).read() };
            assert_eq!(found, value(self.seed, offset), "byte {offset} of {self:?}");
        }
    }

    /// Bytes that may be used.
    pub fn usable(&self) -> usize {
        // SAFETY: the block is live.
        unsafe { HAKMEM.usable_size(self.address) }
    }

    /// Resizes the block; `false`, with the block as it was, if there is no
    /// memory.
    #[must_use]
    pub fn resize(&mut self, size: usize) -> bool {
        self.check();
        // SAFETY: the block is live, and callers ask for sizes that are not zero.
        let moved = unsafe { HAKMEM.realloc(self.address, self.layout, size) };
        if moved.is_null() {
            self.check();
            return false;
        }
        self.address = moved;
        assert_eq!(moved.addr() % self.layout.align(), 0, "{self:?}");
        self.check_first(size);
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.fill(0);
        true
    }

    pub fn free(self) {
        self.check();
        // SAFETY: the block is live, and not used any more.
        unsafe { HAKMEM.dealloc(self.address, self.layout) };
    }
}

pub fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a valid layout")
}

const CHILD: &str = "HAKMEM_TEST_CHILD";

/// Runs the test `name` of this binary in a process of its own, in which
/// [`is_child`] is true.
pub fn assert_aborts(name: &str, message: &str) {
    let output = Command::new(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("the test can be started again");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.signal(),
        Some(6),
        "not aborted, but {}: {text}",
        output.status
    );
    let line = text
        .lines()
        .find(|line| line.starts_with("hakmem: "))
        .unwrap_or_else(|| panic!("no message: {text}"));
    assert!(line.contains(message), "{line:?} does not say {message:?}");
}

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}
