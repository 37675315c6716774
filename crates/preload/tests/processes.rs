//! `fork` and its kin, signals, and the end of a process, beside busy threads.

mod support;

use support::{library, plugin, program};

statements_as_in_glibc! { "processes.c":
    a_child_of_a_quiet_process_uses_its_heap
    a_child_of_busy_threads_uses_its_heap
    a_child_frees_what_the_parents_threads_allocated
    no_block_is_in_a_childs_heap_twice
    several_threads_fork_at_once
    fork_handlers_of_others_allocate
    a_signal_handler_of_a_program_with_one_thread_may_fork
    a_signal_handler_of_a_program_that_frees_much_may_fork
    a_fork_beside_streams_that_allocate_does_not_hang
    vfork_and_exec_leave_the_parents_heap_alone
    posix_spawn_works_beside_busy_threads
    system_and_popen_work_beside_busy_threads
    exit_while_threads_allocate_is_clean
    exit_from_a_thread_is_clean
    threads_outlive_the_main_thread
    signals_interrupt_allocation_without_harm
}

// With glibc's malloc it waits for ever.
statements! { "processes.c":
    a_signal_handler_may_fork_beside_busy_threads
}

/// Constructors of libraries that were preloaded later run before those of earlier ones. What such a
/// fork handler does, it does while hakmem's hooks hold all of its locks.
#[test]
fn fork_handlers_that_were_there_first_allocate() {
    let libraries = format!("{}:{}", library().display(), plugin("early.c").display());
    for case in [
        "a_child_of_busy_threads_uses_its_heap",
        "several_threads_fork_at_once",
    ] {
        program("processes.c")
            .case(case)
            .env("LD_PRELOAD", &libraries)
            .start()
            .ends_well();
    }
}
