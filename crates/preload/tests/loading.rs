//! The library opened with `dlopen`, in a program whose `malloc` is another.

mod support;

use support::{library, program};

/// Makes a test of each case: the program opens the library itself.
macro_rules! opens {
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            program("loading.c").case(stringify!($case)).arg(library()).start().ends_well();
        }
    )*};
}

opens! {
    opened_for_its_opener_alone_it_works_beside_another_malloc
    opened_for_all_it_works_beside_another_malloc
    opened_at_run_time_it_passes_the_programs_blocks_on
    closed_it_stays_for_the_blocks_it_gave
    opened_and_closed_many_times_it_stays_one
    opened_by_a_thread_that_ends_it_serves_the_others
    a_thread_older_than_the_library_uses_it
}
