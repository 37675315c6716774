//! Which memory is taken as huge pages.

use crate::state::ARENA;
pub use hakmem_page_arena::HugePages;
use hakmem_sys::report;

/// Says what memory is to be taken as huge pages from now on, in a heap of 16 MiB or more, or
/// with 4 MiB of blocks of more than 128 KiB: [`HugePages::Likely`] unless `HAKMEM_HUGE_PAGES`
/// says otherwise.
///
/// - [`Never`](HugePages::Never): none.
/// - [`Proven`](HugePages::Proven): further superslabs of a heap that has filled 16 MiB of them.
/// - [`Likely`](HugePages::Likely): and blocks of more than 128 KiB, up to 8 MiB, that nearly fill
///   their multiples of 64 KiB, as long as those that are freed were mostly used. Of those above
///   2 MiB as much has to be in use first as they have themselves.
/// - [`All`](HugePages::All): and all of the others, and blocks of more than 1 KiB.
///
/// Only where the system makes them (`madvise` or `always` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`). Each one is timed, and where they come
/// slowly or not at all they are asked for ever more rarely. The system makes no others: with
/// `always`, memory that is used here and there would be there as a whole, and come back after it
/// was given back.
///
/// - [`System`](HugePages::System): hakmem asks for none, and the system makes in what is mapped
///   from now on whatever its setting says. A small program is larger by some 4 MiB then, where
///   that is `always`.
pub fn set_huge_pages(wanted: HugePages) {
    // What the environment says comes first.
    crate::init();
    ARENA.set_huge_pages(wanted);
}

/// What a value of `HAKMEM_HUGE_PAGES` says. One that is none is reported.
pub(crate) fn setting(value: &[u8]) -> HugePages {
    match value {
        b"1" => HugePages::Likely,
        b"0" => HugePages::Never,
        b"system" => HugePages::System,
        b"proven" => HugePages::Proven,
        b"all" => HugePages::All,
        _ => {
            report::line(format_args!(
                "HAKMEM_HUGE_PAGES is none of 0, system, proven, 1 and all; taken as 1"
            ));
            HugePages::Likely
        }
    }
}
