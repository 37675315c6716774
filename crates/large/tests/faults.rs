//! The system refuses to map memory. One test only: what is injected concerns
//! the whole process.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod full;
}

use hakmem_large::Large;
use hakmem_page_arena::Arena;
use hakmem_sys::vm::fault;
use support::arena::arena;
use support::contents::{check, fill};
use support::full::full_arena;

/// Blocks above this size move their pages.
const MOVED: usize = 32 << 20;
const SIZES: [usize; 4] = [100_000, 3 << 20, 70 << 20, 500_000];

/// Allocates, grows, moves and frees blocks of the arena or outside it; returns
/// what was refused.
fn work(arena: &Arena, large: &Large) -> usize {
    let mut refused = 0;
    let mut live = Vec::new();
    for (seed, &size) in (1_u64..).zip(&SIZES) {
        match large.allocate(arena, size, 64) {
            Some(block) => {
                fill(block.address, 0, size, seed);
                live.push((block.address, size, seed));
            }
            None => refused += 1,
        }
    }
    for (address, size, seed) in &mut live {
        let wanted = *size + 400_000;
        let region = arena.map().region_of(address.addr());
        // SAFETY: the blocks are ours.
        let grown = unsafe {
            match region {
                None => large.resize_outside(*address, wanted),
                Some(first) if Large::resize_in_place(arena, first, wanted) => Some(*address),
                Some(first) => large.move_out(arena, first, wanted),
            }
        };
        let kept = match grown {
            Some(grown) => {
                *address = grown;
                wanted
            }
            None => *size,
        };
        check(*address, *size, kept, *seed);
        fill(*address, 0, kept, *seed);
        // Below a certain size blocks of the arena are copied, not moved.
        refused += usize::from(grown.is_none() && (region.is_none() || *size > MOVED));
        *size = kept;
    }
    for (address, size, seed) in live {
        check(address, size, size, seed);
        // SAFETY: the blocks are ours.
        unsafe {
            match arena.map().region_of(address.addr()) {
                Some(first) => Large::free_run(arena, first),
                None => assert!(large.free_outside(address)),
            }
        }
    }
    refused
}

#[test]
fn a_refusal_leaves_the_block_as_it_was_and_is_over_when_memory_is_there() {
    // A warm arena maps little; outside of one, every block is a mapping.
    for (arena, least) in [(arena(), 1), (full_arena(), 8)] {
        let large = Large::new();
        let before = arena.stats().used_bytes;
        let mut points = 0;
        for calls in 0.. {
            fault::fail_after(calls);
            let refused = work(arena, &large);
            fault::off();
            assert_eq!(large.outside_totals(), (0, 0), "after {calls} calls");
            assert_eq!(arena.stats().used_bytes, before, "after {calls} calls");
            assert_eq!(
                work(arena, &large),
                0,
                "there is memory (after {calls} calls)"
            );
            if refused == 0 {
                break;
            }
            points += 1;
        }
        assert!(
            points >= least,
            "only {points} points where a refusal shows"
        );
    }
}
