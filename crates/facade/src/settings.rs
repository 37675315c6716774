//! What the environment says.

use crate::huge::{self, HugePages};
use crate::purger;
use crate::state::ARENA;
use core::sync::atomic::{AtomicBool, Ordering};
use hakmem_sys::{environment, report};

/// What the names of all settings begin with.
const PREFIX: &[u8] = b"HAKMEM_";

/// Sets what the environment says, and reports what is no setting, the first time. To be called early: before
/// the program has other threads, which might change its environment, or has cleared it; and before it enters
/// a sandbox that may not allow to ask the system for huge pages.
pub(crate) fn configure() {
    // The first heap may not come into being for want of memory, and a later call try again.
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    // Of two with the same name the first one counts, as for `getenv`.
    let (mut huge_pages, mut purge_thread) = (None, None);
    let look = |name: &[u8], value: &[u8]| match name {
        b"HAKMEM_HUGE_PAGES" => {
            huge_pages.get_or_insert_with(|| huge::setting(value));
        }
        b"HAKMEM_PURGE_THREAD" => {
            purge_thread.get_or_insert_with(|| purger::setting(value));
        }
        _ => report::line(format_args!(
            "{} is not a setting; there are HAKMEM_HUGE_PAGES and HAKMEM_PURGE_THREAD",
            name.escape_ascii()
        )),
    };
    // SAFETY: who changes the environment of a program with several threads has promised that nobody reads it
    // meanwhile; in a program of one thread there is nobody else.
    unsafe { environment::visit(PREFIX, look) };
    ARENA.set_huge_pages(huge_pages.unwrap_or(HugePages::Likely));
    purger::configure(purge_thread.unwrap_or(true));
}
