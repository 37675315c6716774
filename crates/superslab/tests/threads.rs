//! Heaps on threads of their own that free each other's blocks.

mod support {
    pub mod heaps;
    pub mod trim;
    pub mod used;
}

use hakmem_superslab::{OwnedSlabs, Shared};
use hakmem_test_support::{Numbers, check, fill};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::thread;
use support::heaps::{class, heaps};
use support::trim::trim_all;
use support::used::used_bytes;

const SIZES: [usize; 4] = [16, 80, 512, 1024];
const PER_SIZE: usize = 256;

/// Blocks on their way from thread to thread, by size.
type Slots = Vec<[AtomicPtr<u8>; PER_SIZE]>;

fn slots() -> Slots {
    SIZES
        .iter()
        .map(|_| [const { AtomicPtr::new(std::ptr::null_mut()) }; PER_SIZE])
        .collect()
}

/// Refills, hands over and frees.
fn churn(
    shared: Shared<'_>,
    heap: &OwnedSlabs,
    slots: &Slots,
    numbers: &mut Numbers,
    steps: usize,
) {
    for step in 0..steps {
        let which = numbers.below(SIZES.len());
        let size = SIZES[which];
        let mut out = [std::ptr::null_mut(); 48];
        let wanted = 1 + numbers.below(48);
        let got = heap.refill(shared, class(size), &mut out[..wanted]);
        assert!(got > 0);
        let mut freed = Vec::new();
        for &block in &out[..got] {
            // SAFETY: the refill made the block this thread's.
            unsafe { fill(block, size) };
            let slot = &slots[which][numbers.below(PER_SIZE)];
            let old = slot.swap(block, Ordering::AcqRel);
            if !old.is_null() {
                // SAFETY: the swap made the block this thread's; it was filled before.
                unsafe { check(old, size) };
                freed.push(old);
            }
        }
        // SAFETY: the swaps made the blocks this thread's.
        unsafe { heap.flush(shared, class(size), &freed) };
        match step % 50 {
            10 => {
                // Long enough for others to meet a busy heap.
                heap.raw_lock().lock();
                thread::yield_now();
                // SAFETY: taken above.
                unsafe { heap.raw_lock().unlock() };
            }
            20 => {
                heap.tend(shared);
            }
            30 => heap.trim(shared),
            40 => {
                heap.purge_holes(shared, step % 100 == 40, usize::MAX);
                heap.purge_pool(shared, step % 100 == 40);
            }
            _ => {}
        }
    }
}

fn finish(shared: Shared<'_>, owners: &[&'static OwnedSlabs], slots: &Slots) {
    for (&size, slots) in SIZES.iter().zip(slots) {
        for slot in slots {
            let block = slot.swap(std::ptr::null_mut(), Ordering::AcqRel);
            if !block.is_null() {
                // SAFETY: the swap made the block ours; it was filled before.
                unsafe {
                    check(block, size);
                    owners[0].flush(shared, class(size), &[block]);
                }
            }
        }
    }
    trim_all(shared, owners);
    assert_eq!(used_bytes(shared), 0, "blocks are lost");
    assert_eq!(
        shared.arena().stats().used_bytes,
        0,
        "slabs without live blocks are kept: {:?}",
        shared.pool().counts()
    );
}

#[test]
fn threads_that_free_each_others_blocks_lose_none_and_share_none() {
    let (shared, owners) = heaps(6);
    let slots = slots();
    thread::scope(|scope| {
        for (seed, heap) in owners.iter().enumerate() {
            let slots = &slots;
            scope.spawn(move || churn(shared, heap, slots, &mut Numbers(seed as u64), 5000));
        }
    });
    let pushes: u64 = owners.iter().map(|h| h.counts().remote_pushes.get()).sum();
    assert!(pushes > 0, "the threads never met");
    finish(shared, &owners, &slots);
}

#[test]
fn heaps_that_are_abandoned_and_taken_up_again_lose_nothing() {
    let (shared, owners) = heaps(4);
    let slots = slots();
    // A heap is used by one thread at a time, by each for a short while.
    let turns: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
    for round in 0..30_u64 {
        thread::scope(|scope| {
            for (index, heap) in owners.iter().enumerate() {
                let (slots, turn) = (&slots, &turns[index]);
                scope.spawn(move || {
                    let mut numbers = Numbers(round * 4 + index as u64);
                    churn(shared, heap, slots, &mut numbers, 120);
                    heap.abandon(shared);
                    turn.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    }
    assert!(turns.iter().all(|turn| turn.load(Ordering::Relaxed) == 30));
    let claims: u64 = owners
        .iter()
        .map(|h| h.counts().claims.get() + h.counts().refills_pool.get())
        .sum();
    assert!(claims > 0, "nothing abandoned was ever taken up");
    finish(shared, &owners, &slots);
}

#[test]
fn a_producer_and_a_consumer_need_no_more_memory_than_is_live() {
    const LIVE: usize = 512;
    const BLOCKS: usize = 60_000;
    let (shared, owners) = heaps(2);
    let ring: Vec<AtomicPtr<u8>> = (0..LIVE).map(|_| AtomicPtr::default()).collect();
    thread::scope(|scope| {
        let ring = &ring;
        let (producer, consumer) = (owners[0], owners[1]);
        scope.spawn(move || {
            let mut out = [std::ptr::null_mut(); 32];
            let mut ready = 0;
            for number in 0..BLOCKS {
                if ready == 0 {
                    ready = producer.refill(shared, class(256), &mut out);
                    assert!(ready > 0);
                    out[..ready].reverse();
                }
                ready -= 1;
                // SAFETY: the refill made the block this thread's.
                unsafe { fill(out[ready], 256) };
                while ring[number % LIVE]
                    .compare_exchange(
                        std::ptr::null_mut(),
                        out[ready],
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    )
                    .is_err()
                {
                    thread::yield_now();
                }
            }
            // SAFETY: what was not handed on is this thread's.
            unsafe { producer.flush(shared, class(256), &out[..ready]) };
        });
        scope.spawn(move || {
            for number in 0..BLOCKS {
                loop {
                    let block = ring[number % LIVE].swap(std::ptr::null_mut(), Ordering::AcqRel);
                    if !block.is_null() {
                        // SAFETY: the swap made the block this thread's; it was
                        // filled before.
                        unsafe {
                            check(block, 256);
                            consumer.flush(shared, class(256), &[block]);
                        }
                        break;
                    }
                    thread::yield_now();
                }
            }
        });
    });
    // 15 MB have passed; 128 KiB were live, and two superslabs are plenty.
    assert!(
        shared.pool().counts().superslabs_made <= 2,
        "{:?}",
        shared.pool().counts()
    );
    trim_all(shared, &owners);
    assert_eq!(used_bytes(shared), 0);
}
