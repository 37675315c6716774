//! Fork while other threads allocate.

mod support {
    pub mod block;
    pub mod direct;
    pub mod forked;
}

use hakmem_alloc::Hakmem;
use hakmem_test_support::Numbers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::block::Block;
use support::direct::layout;
use support::forked::in_child;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

fn churn(numbers: &mut Numbers, kept: &mut Vec<Block>) {
    let size = match numbers.below(100) {
        0..=80 => 1 + numbers.below(1024),
        81..=97 => 1 + numbers.below(30_000),
        _ => 1 + numbers.below(2 << 20),
    };
    let block = Block::new(layout(size, 8), false, numbers.next()).expect("memory");
    if kept.len() < 200 {
        kept.push(block);
    } else {
        let index = numbers.below(kept.len());
        std::mem::replace(&mut kept[index], block).free();
    }
}

#[test]
fn the_child_of_a_program_with_busy_threads_allocates_frees_and_forks_again() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..4 {
            let stop = &stop;
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    churn(&mut numbers, &mut kept);
                    if numbers.below(2000) == 0 {
                        thread::spawn(|| drop(vec![1_u8; 3000])).join().unwrap();
                    }
                }
                kept.into_iter().for_each(Block::free);
            });
        }
        let mut numbers = Numbers(99);
        let mut kept = Vec::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..16 {
                for _ in 0..300 {
                    churn(&mut numbers, &mut kept);
                }
                let mut inherited = std::mem::take(&mut kept);
                in_child(|| {
                    // Its own and the others' last resort: the other threads are not there.
                    assert!(hakmem_alloc::stats().heaps_attached <= 2);
                    let mut numbers = Numbers(round);
                    for _ in 0..3000 {
                        churn(&mut numbers, &mut inherited);
                    }
                    if round % 4 == 0 {
                        in_child(|| {
                            let mut grandchilds = Vec::new();
                            for _ in 0..1000 {
                                churn(&mut numbers, &mut grandchilds);
                            }
                            grandchilds.into_iter().for_each(Block::free);
                        });
                    }
                    if round % 4 == 1 {
                        hakmem_alloc::trim();
                    }
                    if round % 4 == 2 {
                        thread::scope(|scope| {
                            for seed in 0..3 {
                                scope.spawn(move || {
                                    let mut kept = Vec::new();
                                    for _ in 0..500 {
                                        churn(&mut Numbers(seed), &mut kept);
                                    }
                                    kept.into_iter().for_each(Block::free);
                                });
                            }
                        });
                    }
                    for block in inherited.drain(..) {
                        block.free();
                    }
                });
                // The parent's blocks are as they were.
                inherited.iter().for_each(Block::check);
                kept = inherited;
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Ends the program with a message if `work` has not returned after a time that only a
/// deadlock exceeds.
fn watched(work: impl FnOnce()) {
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&done);
    let watchdog = thread::spawn(move || {
        let start = Instant::now();
        while !seen.load(Ordering::Relaxed) {
            if start.elapsed() > Duration::from_secs(60) {
                let message = b"a fork, or a thread beside it, hangs\n";
                // SAFETY: neither call allocates: the allocator may be what hangs.
                unsafe {
                    libc::write(2, message.as_ptr().cast(), message.len());
                    libc::abort();
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    work();
    done.store(true, Ordering::Relaxed);
    watchdog.join().unwrap();
}

/// What ended threads leave is emptied by those who take slabs, whose own locks must not be
/// in the way of a fork that takes all of them.
#[test]
fn forks_and_threads_that_empty_the_heaps_of_others_do_not_wait_for_each_other() {
    watched(|| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..6 {
                let stop = &stop;
                scope.spawn(move || {
                    let blocks = |count, size| {
                        let block = |_| Block::new(layout(size, 8), false, seed).expect("memory");
                        (0..count).map(block).collect::<Vec<_>>()
                    };
                    while !stop.load(Ordering::Relaxed) {
                        thread::spawn(move || {
                            for size in [40, 200, 600, 3000] {
                                let block = |_| Block::new(layout(size, 8), false, seed);
                                (0..40).filter_map(block).for_each(Block::free);
                            }
                        })
                        .join()
                        .unwrap();
                        for _ in 0..20 {
                            blocks(200, 900).into_iter().for_each(Block::free);
                        }
                    }
                });
            }
            for _ in 0..400 {
                in_child(|| Block::new(layout(100, 8), false, 1).expect("memory").free());
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}
