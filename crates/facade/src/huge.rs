//! Which memory is taken as huge pages.

use crate::state::ARENA;
use core::sync::atomic::{AtomicBool, Ordering};
pub use hakmem_page_arena::HugePages;
use hakmem_sys::{helper, report, vm};

/// Says what memory is to be taken as huge pages from now on, in a heap of 16 MiB or more:
/// [`HugePages::Proven`] unless `HAKMEM_HUGE_PAGES` says otherwise.
///
/// Only where the system makes them on request (`madvise` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`). Each one is timed, and where they come
/// slowly or not at all they are asked for ever more rarely.
pub fn set_huge_pages(wanted: HugePages) {
    // What the environment says comes first.
    crate::init();
    set(wanted);
}

fn set(wanted: HugePages) {
    let possible = wanted != HugePages::Never && vm::makes_huge_pages_on_request();
    ARENA.set_huge_pages(if possible { wanted } else { HugePages::Never });
}

/// Sets what the environment says, the first time. To be called early: a sandbox that the
/// program enters later may not allow to ask the system.
pub(crate) fn configure() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    set(match helper::environment(c"HAKMEM_HUGE_PAGES") {
        None | Some(b"1") => HugePages::Proven,
        Some(b"0") => HugePages::Never,
        Some(b"all") => HugePages::All,
        Some(_) => {
            report::line(format_args!(
                "HAKMEM_HUGE_PAGES is neither 0 nor 1 nor all; taken as 1"
            ));
            HugePages::Proven
        }
    });
}
