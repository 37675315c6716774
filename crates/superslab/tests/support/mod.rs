//! Heaps to test with, and blocks that can be checked.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use hakmem_page_arena::Arena;
use hakmem_region_id::{ClassIndex, RegionIndex};
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool, used_blocks};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

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

/// An arena, a pool over it and so many heaps.
pub fn heaps(count: u32) -> (Shared<'static>, Vec<&'static OwnedSlabs>) {
    let shared = Shared {
        arena: Box::leak(Box::new(Arena::new())),
        pool: Box::leak(Box::new(SlabPool::new())),
    };
    let owners = (0..count).map(|number| heap(shared, number)).collect();
    (shared, owners)
}

pub fn heap(shared: Shared<'static>, number: u32) -> &'static OwnedSlabs {
    let owned: &'static OwnedSlabs =
        Box::leak(Box::new(OwnedSlabs::new(number).expect("a small number")));
    assert!(shared.pool.owners.set(owned.number(), owned));
    owned
}

pub fn class(size: usize) -> ClassIndex {
    ClassIndex::for_size(size).expect("a tiny size")
}

/// Writes a pattern that depends on the address into both ends of a block.
pub fn fill(block: *mut u8, size: usize) {
    let value = Numbers(block.addr() as u64).next();
    let words = block.cast::<u64>();
    // SAFETY: callers hold the block.
    unsafe {
        words.write(value);
        words.add(size / 8 - 1).write(value);
    }
}

pub fn check(block: *mut u8, size: usize) {
    let value = Numbers(block.addr() as u64).next();
    let words = block.cast::<u64>();
    // SAFETY: callers hold the block.
    let found = unsafe { (words.read(), words.add(size / 8 - 1).read()) };
    assert_eq!(
        found,
        (value, value),
        "{block:p} of {size} bytes was overwritten"
    );
}

/// Blocks in use by the slabs' own records.
pub fn used_bytes(shared: Shared<'_>) -> usize {
    let map = shared.arena.map();
    (0..map.len())
        .map(|index| RegionIndex(index as u32))
        .filter_map(|region| {
            // SAFETY: the region is in the map.
            let class = unsafe { map.get(region) }.class()?;
            Some(used_blocks(shared.arena, region) * class.size())
        })
        .sum()
}

/// Gives back all that heaps without live blocks hold.
pub fn trim_all(shared: Shared<'_>, owners: &[&OwnedSlabs]) {
    // A heap's trim can send slabs to another's inbox, so everybody twice.
    for owned in owners.iter().chain(owners) {
        owned.trim(shared);
    }
    if let Some(owned) = owners.first() {
        owned.clear_pool(shared);
    }
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
