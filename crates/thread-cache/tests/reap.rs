//! A cache that is reaped while its thread is at work.
#![cfg(not(loom))]

use hakmem_region_id::ClassIndex;
use hakmem_region_id::word::bin_offset;
use hakmem_sys::barrier;
use hakmem_test_support::Numbers;
use hakmem_thread_cache::{Source, ThreadCache};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Blocks by number; a block's name is its number plus one.
const BLOCKS: usize = 4096;
/// Nobody's; in the cache or with the thread; as a user has marked it.
const FREE: u32 = 0;
const OUT: u32 = 1;
const USED: u32 = 2;

/// A source that notes where each block is, shared by the owner and the reaper.
struct Shared {
    free: Mutex<Vec<usize>>,
    states: Vec<AtomicU32>,
    /// What a user writes into a block, without any order of its own.
    contents: Vec<AtomicU64>,
}

impl Shared {
    fn change(&self, block: usize, from: u32, to: u32) {
        let found = self.states[block].swap(to, Ordering::Relaxed);
        assert_eq!(found, from, "block {block} is in two places");
    }
}

struct From<'a>(&'a Shared);

impl Source for From<'_> {
    fn refill(&mut self, _: ClassIndex, out: &mut [*mut u8]) -> usize {
        let mut free = self.0.free.lock().unwrap();
        let mut count = 0;
        for place in out {
            let Some(block) = free.pop() else { break };
            self.0.change(block, FREE, OUT);
            *place = std::ptr::without_provenance_mut(block + 1);
            count += 1;
        }
        count
    }

    fn flush(&mut self, _: ClassIndex, blocks: &[*mut u8]) {
        let mut free = self.0.free.lock().unwrap();
        for block in blocks.iter().map(|block| block.addr() - 1) {
            self.0.change(block, OUT, FREE);
            free.push(block);
        }
    }
}

struct Cache(*mut ThreadCache);

// SAFETY: the test keeps to the contracts of what it calls through the pointer.
unsafe impl Sync for Cache {}

#[test]
fn no_block_is_lost_or_in_two_places_while_a_thread_at_work_is_reaped() {
    reap_at_work(64);
}

#[test]
fn nor_where_the_topmost_block_is_taken_too() {
    reap_at_work(65_536);
}

/// With a class of blocks of so many bytes.
fn reap_at_work(size: usize) {
    barrier::prepare();
    let shared = Shared {
        free: Mutex::new((0..BLOCKS).collect()),
        states: (0..BLOCKS).map(|_| AtomicU32::new(FREE)).collect(),
        contents: (0..BLOCKS).map(|_| AtomicU64::new(0)).collect(),
    };
    let mut memory = vec![0_u64; 4096];
    let range = memory.as_mut_ptr_range();
    let cache = Cache(Box::into_raw(Box::new(ThreadCache::CLOSED)));
    // SAFETY: the memory outlives the cache's use.
    unsafe { (*cache.0).set_memory(range.start.cast(), range.end.cast()) };
    let class = ClassIndex::for_size(size).expect("a cached size");
    let done = AtomicBool::new(false);
    let reaped = AtomicU64::new(0);
    thread::scope(|scope| {
        let (cache, shared, done, reaped) = (&cache, &shared, &done, &reaped);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the cache is set up; the source's lock is taken last.
                let bytes = unsafe {
                    let source = &mut From(shared);
                    ThreadCache::reap(cache.0, true, source)
                        + ThreadCache::reap_unused(cache.0, source)
                };
                reaped.fetch_add(bytes as u64, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        scope.spawn(move || {
            let mut source = From(shared);
            let mut mine = Vec::new();
            let mut numbers = Numbers(1);
            let until = Instant::now() + Duration::from_secs(3);
            let mut rounds = 0_u64;
            while !rounds.is_multiple_of(1024) || Instant::now() < until {
                rounds += 1;
                let count = numbers.below(24);
                // SAFETY: this is the cache's thread, and it frees what it has.
                unsafe {
                    if numbers.below(2) == 0 {
                        for _ in 0..count {
                            let mut block = ThreadCache::pop_class(cache.0, class);
                            if block.is_null() {
                                block = ThreadCache::refill(cache.0, class, 8, &mut source);
                            }
                            if block.is_null() {
                                break;
                            }
                            let block = block.addr() - 1;
                            shared.change(block, OUT, USED);
                            shared.contents[block].store(rounds, Ordering::Relaxed);
                            mine.push((block, rounds));
                        }
                    } else {
                        for _ in 0..count.min(mine.len()) {
                            let (block, written) = mine.swap_remove(numbers.below(mine.len()));
                            let found = shared.contents[block].load(Ordering::Relaxed);
                            assert_eq!(found, written, "somebody else wrote to block {block}");
                            shared.change(block, USED, OUT);
                            let name = std::ptr::without_provenance_mut(block + 1);
                            if !ThreadCache::push(cache.0, bin_offset(class), name) {
                                ThreadCache::make_room_and_push(cache.0, class, name, &mut source);
                            }
                        }
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            for (block, _) in mine {
                shared.change(block, USED, OUT);
                // SAFETY: as above.
                unsafe {
                    let name = std::ptr::without_provenance_mut(block + 1);
                    ThreadCache::make_room_and_push(cache.0, class, name, &mut source);
                }
            }
        });
    });
    // SAFETY: nobody else uses the cache any more.
    unsafe { ThreadCache::drain(cache.0, &mut From(&shared)) };
    assert_eq!(shared.free.lock().unwrap().len(), BLOCKS, "blocks are lost");
    // SAFETY: as above.
    let counts = unsafe { ThreadCache::counts_of(cache.0) };
    assert!(counts.reaps.get() > 0 && reaped.load(Ordering::Relaxed) > 0);
    // SAFETY: made above, and used no more.
    drop(unsafe { Box::from_raw(cache.0) });
}
