//! Memory that runs out and comes back: limits set at run time, limits set
//! before the program starts, locked memory.

mod support;

use support::{library, program};

statements! { "limits.c":
    a_limit_of_address_space_is_enomem_and_freeing_helps
    a_limit_of_address_space_is_enomem_and_raising_it_helps
    a_limit_of_data_is_enomem_and_freeing_helps
    a_limit_of_data_is_enomem_and_raising_it_helps
    threads_that_run_out_together_recover_together
    a_threads_first_call_without_memory_gives_null
    a_failed_growth_keeps_the_block
    a_request_beyond_the_limit_takes_nothing
    a_locked_block_that_grows_leaves_its_neighbours_locked
    memory_locked_for_the_future_is_only_what_is_used
}

#[test]
fn a_program_starts_and_works_under_a_small_limit_of_address_space() {
    for megabytes in [64, 256, 1024] {
        let bytes = megabytes << 20;
        program("limits.c")
            .case("a_program_starts_and_works_under_a_small_limit")
            .arg(bytes.to_string())
            .limit(libc::RLIMIT_AS, bytes)
            .on_hakmem()
            .ends_well();
    }
}

#[test]
fn a_program_starts_and_works_under_a_small_limit_of_data() {
    for megabytes in [64, 256] {
        let bytes = megabytes << 20;
        program("limits.c")
            .case("a_program_starts_and_works_under_a_small_limit")
            .arg(bytes.to_string())
            .limit(libc::RLIMIT_DATA, bytes)
            .on_hakmem()
            .ends_well();
    }
}

#[test]
fn a_program_that_needs_little_runs_under_the_limits_it_runs_under_on_glibc() {
    // What `true` maps is about two and a half megabytes, the C library most of it.
    for megabytes in [5, 8, 16] {
        support::Run::of("true")
            .limit(libc::RLIMIT_AS, megabytes << 20)
            .on_hakmem()
            .ends_well();
    }
}

#[test]
fn a_library_opened_under_mlockall_locks_only_what_is_used() {
    program("limits.c")
        .case("a_library_opened_under_mlockall_locks_only_what_is_used")
        .arg(library())
        .start()
        .ends_well();
}
