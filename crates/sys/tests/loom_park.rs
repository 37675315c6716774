//! Of a thread that parks while somebody is left, and the last one that goes, one sees the other:
//! either who parks sees that nobody is left, or who goes sees it parked, and wakes it.
//!
//! The steps are those of the facade's purge thread and of a thread's end.
//!
//! mutation: barrier_full_left_out
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_sys::barrier;
use hakmem_sys::model::{beside, explore};
use hakmem_sys::sync::{AtomicU32, Ordering};
use loom::sync::Arc;

const RUNNING: u32 = 0;
const PARKED: u32 = 1;

struct World {
    state: AtomicU32,
    left: AtomicU32,
}

impl World {
    fn change(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Parks. Returns whether it stays so.
    fn park(&self) -> bool {
        assert!(self.change(RUNNING, PARKED));
        barrier::full();
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Goes. Returns whether it was the last one, and has found the other parked.
    fn go(&self) -> bool {
        let left = self.left.fetch_sub(1, Ordering::Relaxed) - 1;
        barrier::full();
        left == 0 && self.change(PARKED, RUNNING)
    }
}

#[test]
fn nobody_stays_parked_for_those_who_have_gone() {
    explore(|| {
        let world = Arc::new(World {
            state: AtomicU32::new(RUNNING),
            left: AtomicU32::new(1),
        });
        let goer = beside(&world, |world| world.go());
        let stays = world.park();
        let wakes = goer.join().unwrap();
        assert!(!stays || wakes, "it is parked for ever");
    });
}
