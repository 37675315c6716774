//! What holders offer is asked for when no dirty memory serves a request.

mod support {
    pub mod lengths;
    pub mod runs;
}

use hakmem_page_arena::Arena;
use hakmem_region_id::RegionIndex;
use std::sync::atomic::{AtomicU32, Ordering};
use support::lengths::KIB64;
use support::runs::hand_out;

static ARENA: Arena = Arena::new().with_reclaim(give_kept);
/// The first region of a kept run, and one.
static KEPT: AtomicU32 = AtomicU32::new(0);
static ASKED: AtomicU32 = AtomicU32::new(0);

fn give_kept() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    if let Some(kept) = KEPT.swap(0, Ordering::Relaxed).checked_sub(1) {
        // SAFETY: the run is ours, and forgotten.
        unsafe { ARENA.free(RegionIndex(kept), KIB64) };
    }
}

fn keep(run: RegionIndex) {
    KEPT.store(run.0 + 1, Ordering::Relaxed);
    ARENA.offer();
    ARENA.offer();
}

fn asked() -> u32 {
    ASKED.load(Ordering::Relaxed)
}

#[test]
fn holders_are_asked_once_for_each_offer_and_only_where_no_dirty_memory_fits() {
    let [first, second, _wall] = [0; 3].map(|_| hand_out(&ARENA, KIB64));
    assert_eq!(asked(), 0, "nobody has offered anything");
    keep(first);
    // SAFETY: the run is ours, and forgotten.
    unsafe { ARENA.free(second, KIB64) };
    assert_eq!(hand_out(&ARENA, KIB64), second);
    assert_eq!(asked(), 0, "there was a dirty one");
    assert_eq!(hand_out(&ARENA, KIB64), first);
    assert_eq!(asked(), 1);
    hand_out(&ARENA, KIB64);
    assert_eq!(asked(), 1, "nothing has been offered since");
    keep(first);
    assert_ne!(hand_out(&ARENA, 2 * KIB64), first, "it is too short");
    assert_eq!(asked(), 2);
    assert_eq!(hand_out(&ARENA, KIB64), first);
}
