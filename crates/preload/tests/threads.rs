//! Threads that come and go, and destructors that allocate when one ends.

mod support;

statements! { "thread_locals.c":
    the_purge_thread_has_room_beside_them
}

statements_as_in_glibc! { "threads.c":
    ten_thousand_threads_come_and_go
    ended_threads_leave_no_memory_behind
    blocks_of_ended_threads_are_freed_by_others
    destructors_of_keys_made_before_the_first_malloc_allocate
    destructors_of_keys_made_after_the_first_malloc_allocate
    a_thread_allocates_in_the_last_round_of_destructors
    threads_that_first_allocate_in_late_rounds_of_destructors_leave_no_memory_behind
    a_program_may_use_up_all_keys
    cancelled_threads_end_well
    five_hundred_threads_live_at_once
    detached_threads_that_never_allocate_leave_nothing_behind
}

statements_as_in_glibc! { "thread_local.cpp":
    destructors_of_thread_local_objects_allocate
    thread_local_objects_and_keys_end_in_any_order
    functions_registered_for_a_threads_end_allocate
    the_main_threads_objects_end_after_main
}
