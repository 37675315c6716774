//! Programs that have freed much and then do little or nothing.

mod support;

use support::program;

statements! { "idle.c":
    what_is_freed_goes_back_though_no_other_call_is_made_small
    what_is_freed_goes_back_though_no_other_call_is_made_mid
    what_is_freed_goes_back_though_no_other_call_is_made_large
    what_one_large_block_leaves_goes_back
    what_blocks_leave_that_shrink_goes_back
    what_many_threads_free_that_end_goes_back
    what_many_threads_free_that_wait_goes_back
    what_few_threads_free_that_wait_goes_back_though_it_is_little
    what_few_threads_free_that_wait_goes_back_though_it_is_a_few_blocks
    a_child_of_vfork_starts_no_purge_thread
    what_is_freed_and_allocated_again_at_once_stays
    phases_of_a_program_share_their_memory
    what_threads_free_one_after_another_goes_back
    what_a_thread_frees_that_never_allocates_goes_back
    what_is_freed_in_one_large_piece_goes_back
    the_purge_thread_ends_when_no_other_is_left
    a_process_ends_when_no_other_thread_is_left_though_none_has_said_so
    a_program_of_one_thread_has_no_purge_thread_when_that_has_done_its_work
    a_child_of_a_program_with_threads_has_but_one
    a_child_of_a_program_whose_purge_thread_is_parked_gives_memory_back
    a_child_of_such_a_program_made_without_hooks_gives_memory_back
    a_child_of_a_program_whose_purge_thread_runs_made_without_hooks_gives_memory_back
}

#[test]
fn the_purge_thread_stays_off_though_the_program_clears_its_environment() {
    program("idle.c")
        .case("the_purge_thread_stays_off_though_the_program_clears_its_environment")
        .env("HAKMEM_PURGE_THREAD", "0")
        .on_hakmem()
        .ends_well();
}

#[test]
fn a_wrong_setting_of_the_purge_thread_is_named_and_taken_for_1() {
    let ended = program("idle.c")
        .case("what_is_freed_goes_back_though_no_other_call_is_made_small")
        .env("HAKMEM_PURGE_THREAD", "no")
        .on_hakmem()
        .ends_well();
    assert_eq!(
        ended.stderr,
        "hakmem: HAKMEM_PURGE_THREAD is neither 0 nor 1; taken as 1\n"
    );
}

#[test]
fn a_setting_that_there_is_not_is_named() {
    let ended = program("idle.c")
        .case("what_is_freed_goes_back_though_no_other_call_is_made_small")
        .env("HAKMEM_PURGE_THREADS", "0")
        .env("HAKMEMORY", "0")
        .on_hakmem()
        .ends_well();
    assert_eq!(
        ended.stderr,
        "hakmem: HAKMEM_PURGE_THREADS is not a setting; there are HAKMEM_HUGE_PAGES and HAKMEM_PURGE_THREAD\n"
    );
}
