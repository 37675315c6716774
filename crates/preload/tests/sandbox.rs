//! Programs in a sandbox: system calls that end the program, or are refused.

mod support;

statements! { "sandbox.c":
    a_sandbox_that_allows_what_is_named_does_not_end_the_program
    barriers_that_are_refused_do_no_harm
    barriers_that_are_refused_from_some_time_on_do_no_harm
    memory_that_the_system_does_not_take_back_is_not_taken_for_zero
    a_sandbox_that_does_not_know_a_flag_of_mmap_leaves_the_program_its_memory
    a_purge_thread_that_cannot_be_started_does_no_harm
}
