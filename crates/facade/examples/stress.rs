//! Threads that allocate, check, hand over and free, until the time is up.
//!
//! `stress THREADS SECONDS [SEED]`
//!
//! The run is a sequence of short rounds. Each starts `THREADS` threads and joins them, so
//! threads come and go all the time, and blocks outlive the threads that made them: what a
//! round leaves in the shared slots, the next one frees. A round's *hand-over* says who
//! frees a block:
//!
//! - **local**: the thread that made it;
//! - **ring**: the next thread;
//! - **collect**: thread 0 frees what all others make, as a consumer does;
//! - **random**: whoever comes by;
//! - **nursery**: as random, by threads that each start short-lived children.
//!
//! Every block is filled with a pattern that depends on its address and size. The pattern is
//! checked when the block is freed, grown or shrunk, so two blocks that overlap, a block
//! handed out twice, or lost contents stop the program with a message.
//!
//! Meanwhile one more thread asks for the statistics again and again, and now and then for a
//! trim, as a service's health check does.
//!
//! At the end everything is freed. What the allocator's counters call live must then be what
//! it was before the first round. The last line printed is `ok`, and the exit status 0.
//!
//! Threads meet only in atomics of this file and in joins, which sanitizers see; locks of an
//! uninstrumented standard library they would not see.

use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hakmem_alloc::Hakmem;
use hakmem_test_support::Numbers;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// Miri takes a thousand times as long.
const SLOW: bool = cfg!(miri);
/// Slots of each thread's stretch of the shared table.
const SLOTS_PER_THREAD: usize = if SLOW { 16 } else { 512 };
/// The most threads a run may have.
const MAX_THREADS: usize = if SLOW { 8 } else { 256 };
/// How long a round lasts.
const ROUND: Duration = Duration::from_millis(if SLOW { 1000 } else { 250 });
/// Of a short block's words, and of zeroed bytes, one in so many is looked at.
const SKIP: usize = if SLOW { 61 } else { 1 };
/// How long the observer waits between two looks.
const PAUSE: Duration = Duration::from_millis(if SLOW { 700 } else { 10 });
/// The largest block, in bytes.
const LARGEST: usize = if SLOW { 70 << 10 } else { 4 << 20 };
/// After so many steps a thread looks whether the round is over.
const STEPS: u64 = if SLOW { 8 } else { 64 };
/// The alignment of the header at the start of every block.
const HEADER_ALIGN: usize = 8;

/// Blocks between two owners. A slot is taken and filled by one swap.
static SLOTS: [AtomicPtr<u8>; MAX_THREADS * SLOTS_PER_THREAD] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS * SLOTS_PER_THREAD];
static STOP: AtomicBool = AtomicBool::new(false);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Who frees a block.
#[derive(Clone, Copy, Debug)]
enum HandOver {
    Local,
    Ring,
    Collect,
    Random,
    Nursery,
}

const HAND_OVERS: [HandOver; 5] = [
    HandOver::Local,
    HandOver::Ring,
    HandOver::Collect,
    HandOver::Random,
    HandOver::Nursery,
];

/// What stands at the start of every block: enough to check and free it.
#[repr(C)]
struct Header {
    size: usize,
    align: usize,
}

/// What is drawn for a block.
trait Draw {
    fn between(&mut self, low: usize, high: usize) -> usize;
    fn size(&mut self) -> usize;
    fn align(&mut self) -> usize;
}

impl Draw for Numbers {
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Mostly small, some mid, a few large.
    fn size(&mut self) -> usize {
        let smallest = size_of::<Header>();
        let size = match self.below(4096) {
            0..=2999 => self.between(smallest, 256),
            3000..=3699 => self.between(smallest, 1100),
            3700..=3999 => self.between(1000, 8 << 10),
            4000..=4079 => self.between(8 << 10, 40 << 10),
            4080..=4093 => self.between(32 << 10, 1 << 20),
            _ => self.between(1 << 20, 4 << 20),
        };
        size.min(LARGEST)
    }

    fn align(&mut self) -> usize {
        match self.below(256) {
            0..=199 => HEADER_ALIGN,
            200..=239 => 16,
            240..=251 => 1 << self.between(5, 12),
            _ => 1 << self.between(12, 17),
        }
    }
}

fn main() -> ExitCode {
    let Some((threads, time, seed)) = arguments() else {
        eprintln!(
            "usage: stress THREADS SECONDS [SEED], with 1 to {MAX_THREADS} threads; numbers only"
        );
        return ExitCode::from(2);
    };
    // What the standard library keeps for its first threads is not a leak of ours.
    for _ in 0..2 {
        join(thread::spawn(|| ()));
    }
    println!("{threads} threads for {} s, seed {seed}", time.as_secs());
    let before = hakmem_alloc::stats();

    let start = Instant::now();
    let mut numbers = Numbers(seed);
    let mut rounds = 0_u64;
    while start.elapsed() < time {
        let hand_over = HAND_OVERS[(rounds % HAND_OVERS.len() as u64) as usize];
        round(threads, hand_over, numbers.next());
        rounds += 1;
    }
    for slot in &SLOTS {
        let block = slot.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !block.is_null() {
            free(block);
        }
    }

    let after = hakmem_alloc::stats();
    println!(
        "{rounds} rounds, {} operations, {} heaps, {} remote pushes, {} claims, {} disowns, {} reaps",
        OPERATIONS.load(Ordering::Relaxed),
        after.heaps,
        after.remote_pushes,
        after.claims,
        after.disowns,
        after.reaps
    );
    let resident_before = resident_kib();
    let given_back = hakmem_alloc::trim();
    println!(
        "resident {resident_before} KiB; after a trim of {} KiB, {} KiB",
        given_back / 1024,
        resident_kib()
    );
    println!(
        "live bytes: {} before, {} after",
        before.live_bytes, after.live_bytes
    );
    if after.live_bytes != before.live_bytes {
        eprintln!("not all that was freed is free by the counters");
        return ExitCode::FAILURE;
    }
    println!("ok");
    ExitCode::SUCCESS
}

fn arguments() -> Option<(usize, Duration, u64)> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next()?.parse().ok()?;
    let seconds = arguments.next()?.parse().ok()?;
    let seed = match arguments.next() {
        Some(seed) => seed.parse().ok()?,
        None => 1,
    };
    let valid = (1..=MAX_THREADS).contains(&threads) && arguments.next().is_none();
    valid.then_some((threads, Duration::from_secs(seconds), seed))
}

/// Runs `threads` threads for one round and joins them.
fn round(threads: usize, hand_over: HandOver, seed: u64) {
    STOP.store(false, Ordering::Relaxed);
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let numbers = Numbers(seed ^ (index as u64).wrapping_mul(0x5851_f42d_4c95_7f2d));
            thread::spawn(move || work(index, threads, hand_over, numbers))
        })
        .collect();
    let observer = thread::spawn(move || observe(Numbers(seed)));
    thread::sleep(ROUND);
    STOP.store(true, Ordering::Relaxed);
    join(observer);
    for worker in workers {
        join(worker);
    }
}

fn join(thread: thread::JoinHandle<()>) {
    if thread.join().is_err() {
        // It has printed why.
        std::process::exit(1);
    }
}

/// Looks at the allocator from outside for a round, and in one of eight rounds trims it.
fn observe(mut numbers: Numbers) {
    let trims = numbers.below(if SLOW { 3 } else { 8 }) == 0;
    while !STOP.load(Ordering::Relaxed) {
        let stats = hakmem_alloc::stats();
        assert!(
            stats.heaps_attached <= stats.heaps,
            "{} of {} heaps in use",
            stats.heaps_attached,
            stats.heaps
        );
        if trims {
            hakmem_alloc::trim();
        }
        thread::sleep(PAUSE);
    }
}

fn work(index: usize, threads: usize, hand_over: HandOver, mut numbers: Numbers) {
    let mut operations = 0_u64;
    while !STOP.load(Ordering::Relaxed) {
        for _ in 0..STEPS {
            step(index, threads, hand_over, &mut numbers);
        }
        operations += STEPS;
        if matches!(hand_over, HandOver::Nursery) && operations.is_multiple_of(16 * STEPS) {
            let mut numbers = Numbers(numbers.next());
            join(thread::spawn(move || {
                for _ in 0..3 * STEPS {
                    step(index, threads, HandOver::Random, &mut numbers);
                }
            }));
        }
    }
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
}

/// Makes a block and puts it into a slot, and frees what was there; now and then changes the
/// size of a block instead, or frees a burst.
fn step(index: usize, threads: usize, hand_over: HandOver, numbers: &mut Numbers) {
    let stretch = |thread: usize, numbers: &mut Numbers| {
        thread * SLOTS_PER_THREAD + numbers.below(SLOTS_PER_THREAD)
    };
    let (put, take) = match hand_over {
        HandOver::Local => (stretch(index, numbers), None),
        HandOver::Ring => {
            let next = (index + 1) % threads;
            (stretch(next, numbers), Some(stretch(index, numbers)))
        }
        HandOver::Collect if index == 0 => {
            for _ in 0..8 {
                let slot = numbers.below(threads * SLOTS_PER_THREAD);
                exchange(slot, std::ptr::null_mut());
            }
            return;
        }
        HandOver::Collect => {
            // A slot that nobody has emptied yet keeps its block: the collector frees them.
            let slot = stretch(index, numbers);
            if SLOTS[slot].load(Ordering::Relaxed).is_null() {
                exchange(slot, make(numbers));
            } else {
                thread::yield_now();
            }
            return;
        }
        HandOver::Random | HandOver::Nursery => {
            let all = threads * SLOTS_PER_THREAD;
            (numbers.below(all), Some(numbers.below(all)))
        }
    };
    match numbers.below(64) {
        0..=5 => {
            let block = SLOTS[put].swap(std::ptr::null_mut(), Ordering::AcqRel);
            if !block.is_null() {
                exchange(put, resize(block, numbers));
            }
        }
        6 => {
            for slot in 0..SLOTS_PER_THREAD / 4 {
                exchange(index * SLOTS_PER_THREAD + slot, std::ptr::null_mut());
            }
        }
        _ => {
            exchange(put, make(numbers));
            if let Some(slot) = take {
                exchange(slot, std::ptr::null_mut());
            }
        }
    }
}

/// Puts `block` into the slot and frees what was there.
fn exchange(slot: usize, block: *mut u8) {
    let old = SLOTS[slot].swap(block, Ordering::AcqRel);
    if !old.is_null() {
        free(old);
    }
}

fn make(numbers: &mut Numbers) -> *mut u8 {
    let (size, align) = (numbers.size(), numbers.align());
    let layout = layout(size, align);
    let zeroed = numbers.below(8) == 0;
    // SAFETY: the layout's size is that of a header at least, so not zero.
    let block = unsafe {
        if zeroed {
            ALLOCATOR.alloc_zeroed(layout)
        } else {
            ALLOCATOR.alloc(layout)
        }
    };
    assert!(!block.is_null(), "out of memory for {size} bytes");
    assert!(
        (block as usize).is_multiple_of(align),
        "{block:p} of {size} bytes is not aligned to {align}"
    );
    if zeroed {
        // SAFETY: the allocator has just handed out `size` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(block, size) };
        assert!(
            bytes.iter().step_by(SKIP).all(|&byte| byte == 0),
            "{block:p} of {size} bytes was to be zeroed, and is not"
        );
    }
    // SAFETY: the block is ours, of `size` bytes, and aligned for a header.
    unsafe { fill(block, size, align) };
    block
}

fn free(block: *mut u8) {
    // SAFETY: blocks in slots were made by `make` or `resize`, and the swap that took this
    // one out made it ours alone.
    unsafe {
        let Header { size, align } = check(block);
        ALLOCATOR.dealloc(block, layout(size, align));
    }
}

fn resize(block: *mut u8, numbers: &mut Numbers) -> *mut u8 {
    // SAFETY: as in `free`; the common part of both sizes is initialised in the result, and
    // checked against the pattern at the old address before a fresh one is written.
    unsafe {
        let Header { size, align } = check(block);
        let wanted = match numbers.below(4) {
            0 => size * 2,
            1 => (size / 2).max(size_of::<Header>()),
            2 => size + 8 + numbers.below(64),
            _ => numbers.size(),
        }
        .min(8 << 20);
        let moved = ALLOCATOR.realloc(block, layout(size, align), wanted);
        assert!(!moved.is_null(), "out of memory for {wanted} bytes");
        assert!(
            (moved as usize).is_multiple_of(align),
            "{moved:p}, grown to {wanted} bytes, is not aligned to {align}"
        );
        check_pattern(moved, seed(block, size), size, size.min(wanted));
        fill(moved, wanted, align);
        moved
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("sizes and alignments here are small")
}

/// Where the pattern of a block starts: different for every address and size.
fn seed(block: *const u8, size: usize) -> u64 {
    Numbers(block as u64 ^ (size as u64) << 48).next()
}

/// The words of a block that carry its pattern: all of a small one, every 64th of a larger
/// one, and the last.
fn marked_words(size: usize) -> impl Iterator<Item = usize> {
    let first = size_of::<Header>() / 8;
    let words = size / 8;
    let step = if size <= 4096 { SKIP } else { 64 };
    (first..words)
        .step_by(step)
        .chain((words > first).then(|| words - 1))
}

/// # Safety
/// `block` must be valid for writes of `size` bytes, at least a header's, and aligned to 8.
unsafe fn fill(block: *mut u8, size: usize, align: usize) {
    let seed = seed(block, size);
    let words = block.cast::<u64>();
    for word in marked_words(size) {
        // SAFETY: `word` is below `size / 8`.
        unsafe { words.add(word).write(seed.wrapping_add(word as u64)) };
    }
    // SAFETY: the header is at the start of the block.
    unsafe { block.cast::<Header>().write(Header { size, align }) };
}

/// Reads a block's header and checks its pattern.
///
/// # Safety
/// `block` must have been filled by [`fill`] and belong to the caller alone.
unsafe fn check(block: *mut u8) -> Header {
    // SAFETY: `fill` wrote it.
    let header = unsafe { block.cast::<Header>().read() };
    assert!(
        header.align.is_power_of_two() && header.size <= 8 << 20,
        "{block:p}: the header was overwritten: size {:#x}, alignment {:#x}",
        header.size,
        header.align
    );
    // SAFETY: the header tells the size that was filled.
    unsafe {
        check_pattern(block, seed(block, header.size), header.size, header.size);
    }
    header
}

/// Checks the part of the pattern of a block of `size` bytes that lies in `kept` bytes.
///
/// # Safety
/// `block` must be valid for reads of `kept` bytes, and aligned to 8.
unsafe fn check_pattern(block: *const u8, seed: u64, size: usize, kept: usize) {
    let words = block.cast::<u64>();
    for word in marked_words(size).filter(|word| (word + 1) * 8 <= kept) {
        // SAFETY: the word lies in the part kept.
        let found = unsafe { words.add(word).read() };
        let expected = seed.wrapping_add(word as u64);
        assert!(
            found == expected,
            "{block:p} of {size} bytes: byte {} holds {found:#x} instead of {expected:#x}",
            word * 8
        );
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
