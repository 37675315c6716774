//! Headers: ways to tell in `free` what a pointer is, side by side. The tiny header
//! and its hybrid check are the older form of this project's region ids, which took
//! their place; this measures why.
//!
//! - *kernel probe*: a byte before the block says the class; whether that byte
//!   can be read at all is asked of the kernel (`mincore`) on every free.
//! - *alignment only*: the byte is read without asking, except for pointers at the
//!   start of a page, which are taken for foreign.
//! - *hybrid*: as before, but for those the kernel is asked.
//! - *region map*: no header; the word of the block's region is looked up.
//!
//! Each variant classifies the same blocks in random order. Answers are checked: the
//! first two may call a block foreign only where their rule says so.

use std::hint::black_box;
use std::sync::atomic::AtomicU32;

use hakmem_region_id::tiny_header::{self, BlockState, TinyHeader};
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, RegionMap, RegionWord};
use hakmem_sys::vm;

use crate::measure::{Outcome, timed};
use crate::tick;

/// Classes that the regions have in turn.
const CLASSES: usize = 16;
/// Bytes from block to block. Every 64th block starts a page.
const STRIDE: usize = 64;
const REGIONS: usize = 64;

#[derive(clap::Args)]
pub struct Args {
    /// Lookups per variant; the kernel probe does a hundredth of them.
    #[arg(long, default_value_t = 1_000_000)]
    ops: u64,
    /// Seed of the order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The memory the blocks are in: whole regions, aligned to one.
struct Arena {
    start: *mut u8,
}

impl Arena {
    fn new() -> Self {
        let bytes = (REGIONS + 1) * REGION_BYTES;
        // SAFETY: a fresh private mapping; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(
            start != libc::MAP_FAILED,
            "the system has no {bytes} bytes for the headers test"
        );
        let start = start.cast::<u8>();
        let skip = start.align_offset(REGION_BYTES);
        // SAFETY: the mapping is one region larger than what is used after this.
        let start = unsafe { start.add(skip) };
        Self { start }
    }

    /// Writes a header before every block, its class taken from its region.
    fn write_headers(&self) {
        for offset in (STRIDE..REGIONS * REGION_BYTES).step_by(STRIDE) {
            let class = class_of_region(offset / REGION_BYTES);
            let header = TinyHeader::new(class, BlockState::Allocated);
            // SAFETY: the bytes before the block are inside the mapping.
            unsafe {
                tiny_header::write(self.start.add(offset), header.expect("the class is tiny"));
            }
        }
    }

    fn block(&self, offset: usize) -> *const u8 {
        // SAFETY: `offset` is below the size of the regions.
        unsafe { self.start.add(offset) }
    }
}

fn class_of_region(number: usize) -> ClassIndex {
    ClassIndex::new(number % CLASSES).expect("there are more than sixteen classes")
}

pub fn run(args: &Args) -> Outcome {
    let arena = Arena::new();
    arena.write_headers();
    let words: &'static [AtomicU32] = (0..REGIONS)
        .map(|_| AtomicU32::new(0))
        .collect::<Vec<_>>()
        .leak();
    let map = region_map(&arena, words);

    // The same number of blocks of every class, in random order; never the first, whose
    // header would be outside.
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let blocks: Vec<*const u8> = (0..1 << 14)
        .map(|_| arena.block(rng.usize(1..REGIONS * REGION_BYTES / STRIDE) * STRIDE))
        .collect();

    let probes = (args.ops / 100).max(1);
    let (all, time) = timed(|| {
        [
            variant(&blocks, probes, kernel_probe),
            variant(&blocks, args.ops, alignment_only),
            variant(&blocks, args.ops, hybrid),
            variant(&blocks, args.ops, |block| {
                map.lookup(block as usize)
                    .and_then(RegionWord::class)
                    .map(|class| class.number() as u8)
            }),
        ]
    });
    let [probe, alignment, hybrid, region] = all;
    assert_eq!(probe.foreign, 0, "the kernel probe misses a block");
    assert_eq!(hybrid.foreign, 0, "the hybrid check misses a block");
    assert_eq!(region.foreign, 0, "the region map misses a block");
    assert_eq!(
        hybrid.sum, region.sum,
        "the hybrid check and the region map differ"
    );
    Outcome::new(
        region.sum.wrapping_add(alignment.foreign),
        args.ops * 3 + probes,
        time,
    )
    .with("kernel_probe_cycles", probe.cycles)
    .with("alignment_only_cycles", alignment.cycles)
    .with("hybrid_cycles", hybrid.cycles)
    .with("region_map_cycles", region.cycles)
    .with(
        "alignment_only_missed_share",
        alignment.foreign as f64 / args.ops as f64,
    )
}

fn region_map(arena: &Arena, words: &'static [AtomicU32]) -> RegionMap {
    let map = RegionMap::new();
    let (base, words_at) = (arena.start, words.as_ptr());
    // SAFETY: the map is empty.
    unsafe { map.place(base.expose_provenance(), words_at.expose_provenance()) };
    for number in 0..REGIONS {
        let word = RegionWord::unowned(class_of_region(number));
        // SAFETY: the word exists, and nothing reads the map yet.
        unsafe { map.set(RegionIndex(number as u32), word) };
    }
    // SAFETY: the map was placed, and the words live for ever.
    unsafe { map.set_len(REGIONS) };
    map
}

struct Found {
    cycles: f64,
    sum: u64,
    foreign: u64,
}

/// Classifies blocks in turn; ticks of the processor's time counter for each, the loop
/// and the load of the pointer included.
fn variant(blocks: &[*const u8], ops: u64, classify: impl Fn(*const u8) -> Option<u8>) -> Found {
    let (mut sum, mut foreign) = (0_u64, 0);
    let start = tick::now();
    for op in 0..ops {
        let block = blocks[op as usize & (blocks.len() - 1)];
        match classify(black_box(block)) {
            Some(class) => sum += u64::from(class),
            None => foreign += 1,
        }
    }
    let ticks = tick::now() - start;
    Found {
        cycles: ticks as f64 / ops as f64,
        sum,
        foreign,
    }
}

fn class_in(header: Option<TinyHeader>) -> Option<u8> {
    header.map(|header| header.class().number() as u8)
}

/// Asks before every read.
#[inline(never)]
fn kernel_probe(block: *const u8) -> Option<u8> {
    if !vm::is_readable(block.addr() - 1) {
        return None;
    }
    // SAFETY: the page before is readable as well.
    class_in(unsafe { tiny_header::probe_with(block, vm::page_size(), |_| true) })
}

/// Asks never: what it would have to ask about is foreign to it.
#[inline]
fn alignment_only(block: *const u8) -> Option<u8> {
    // SAFETY: nothing outside the block's page is read.
    class_in(unsafe { tiny_header::probe_with(block, vm::page_size(), |_| false) })
}

/// Asks at the start of a page.
#[inline]
fn hybrid(block: *const u8) -> Option<u8> {
    // SAFETY: the blocks' pages are mapped until the program ends.
    class_in(unsafe { tiny_header::probe(block) })
}
